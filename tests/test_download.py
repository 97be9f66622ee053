"""Downloads from a server that breaks off, falls silent, lies, and sends pages instead of files."""

import email.utils
import hashlib
import io
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from models import download as command
from models.download import download, record_checksum, take_over
from models.released.catalogue import RELEASED, ReleasedFile, find_released, released_at
from models.released.links import confirmation_link, describe_page, direct_link
from models.released.transfer import DownloadError, Patience, fetch
from models.weight_file import check_whole
from tests import http_server as answers
from tests.conftest import ROOT

LOGIN = "<!DOCTYPE html><html><title>Sign in to your account</title><body>...</body></html>"
EXPIRED = "<html><title>Error</title><body>Sorry, this link has expired.</body></html>"
QUOTA = "<html><title>Google Drive - Quota exceeded</title></html>"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    running = answers.Server()
    yield running
    running.close()


@pytest.fixture(scope="module")
def weights() -> bytes:
    """A file of torch.save, 400 kB of which no part repeats."""
    buffer = io.BytesIO()
    torch.save({"model": {"w": torch.arange(100_000, dtype=torch.float32)}}, buffer)
    return buffer.getvalue()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def patience(waits) -> Patience:
    return Patience(timeout_seconds=0.5, retries=3, sleep=waits.append)


def leftovers(target) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path != target)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_arrives_with_progress(server, weights, tmp_path):
    server.answers["/w.pth"] = answers.file(weights)
    seen = []
    target = tmp_path / "new" / "w.pth"
    found = fetch(server.url("/w.pth"), target, progress=lambda *facts: seen.append(facts))
    assert target.read_bytes() == weights and found == sha256(weights)
    assert seen[-1] == (len(weights), len(weights))
    assert leftovers(target) == []


def test_a_broken_connection_goes_on_where_it_broke(server, weights, tmp_path, patience):
    server.answers["/w.pth"] = answers.file(weights, cut_after=150_000)
    fetch(server.url("/w.pth"), tmp_path / "w.pth", patience=patience)
    assert (tmp_path / "w.pth").read_bytes() == weights
    asked = [headers.get("Range") for _, headers in server.requests]
    assert asked == [None, "bytes=150000-", "bytes=300000-"]
    assert [h.get("If-Range") for _, h in server.requests] == [None, '"v1"', '"v1"']


def test_silence_counts_as_a_broken_connection(server, weights, tmp_path, patience):
    stalls = answers.file(weights, cut_after=100_000, stall_seconds=3)
    server.answers["/w.pth"] = answers.in_turn(stalls, answers.file(weights))
    begun = time.monotonic()
    fetch(server.url("/w.pth"), tmp_path / "w.pth", patience=patience)
    assert (tmp_path / "w.pth").read_bytes() == weights
    assert server.requests[1][1]["Range"] == "bytes=100000-"
    assert time.monotonic() - begun < 3


def test_a_server_that_knows_no_parts_is_asked_from_the_start(server, weights, tmp_path, patience):
    server.answers["/w.pth"] = answers.in_turn(
        answers.file(weights, ranges=False, cut_after=150_000), answers.file(weights, ranges=False)
    )
    fetch(server.url("/w.pth"), tmp_path / "w.pth", patience=patience)
    assert (tmp_path / "w.pth").read_bytes() == weights


@pytest.mark.parametrize("obey", [True, False])
def test_parts_of_two_versions_are_never_mixed(server, weights, tmp_path, patience, obey):
    old = bytes(reversed(weights))
    server.answers["/w.pth"] = answers.in_turn(
        answers.file(old, etag='"v0"', cut_after=150_000),
        answers.file(weights, obey_if_range=obey),
    )
    fetch(server.url("/w.pth"), tmp_path / "w.pth", patience=patience)
    assert (tmp_path / "w.pth").read_bytes() == weights


def test_without_a_version_the_size_must_agree(server, weights, tmp_path, patience):
    server.answers["/w.pth"] = answers.in_turn(
        answers.file(weights + b"x", etag=None, cut_after=150_000), answers.file(weights, etag=None)
    )
    fetch(server.url("/w.pth"), tmp_path / "w.pth", patience=patience)
    assert (tmp_path / "w.pth").read_bytes() == weights
    assert "If-Range" not in server.requests[1][1]


def test_bytes_that_were_all_there_are_accepted(server, weights, tmp_path, patience):
    server.answers["/w.pth"] = answers.in_turn(
        answers.file(weights, stated_size=len(weights) + 5), answers.file(weights)
    )
    # The first answer states five bytes too many, so all bytes are there and some seem missing.
    fetch(server.url("/w.pth"), tmp_path / "w.pth", patience=patience)
    assert (tmp_path / "w.pth").read_bytes() == weights


def test_a_length_that_is_too_large_ends_in_an_error(server, weights, tmp_path, patience, waits):
    server.answers["/w.pth"] = answers.file(weights, stated_size=len(weights) + 9, ranges=False)
    with pytest.raises(DownloadError, match=r"ended after 4\d\d,\d+ of 4\d\d,\d+ bytes; gave up"):
        fetch(server.url("/w.pth"), tmp_path / "w.pth", patience=patience)
    assert waits == [1, 1, 2, 4]
    assert not (tmp_path / "w.pth").exists()


def test_a_length_that_is_too_small_is_noticed(server, weights, tmp_path, patience):
    server.answers["/w.pth"] = answers.file(weights[:-300], ranges=False)
    with pytest.raises(DownloadError, match="not whole .*cut off or damaged"):
        fetch(server.url("/w.pth"), tmp_path / "w.pth", patience=patience)
    assert leftovers(tmp_path / "w.pth") == []


def test_an_unending_chunked_answer_is_noticed(server, weights, tmp_path, patience):
    def chunked(handler, turn):
        handler.protocol_version = "HTTP/1.1"
        handler.close_connection = True
        answers.send(
            handler, 200, {"Transfer-Encoding": "chunked"}, b"186a0\r\n" + weights[:50_000]
        )

    server.answers["/w.pth"] = answers.in_turn(chunked, answers.file(weights))
    fetch(server.url("/w.pth"), tmp_path / "w.pth", patience=patience)
    assert (tmp_path / "w.pth").read_bytes() == weights


@pytest.mark.parametrize(
    ("code", "reason"), [(404, "no such file"), (410, "removed"), (403, "denied"), (401, "log-in")]
)
def test_final_answers_are_not_repeated(server, tmp_path, patience, code, reason):
    server.answers["/w.pth"] = answers.status(code)
    with pytest.raises(DownloadError, match=f"status {code}, .*{reason}.*--from.*--mirror"):
        fetch(server.url("/w.pth"), tmp_path / "w.pth", patience=patience)
    assert len(server.requests) == 1


def test_the_server_says_how_long_to_wait(server, weights, tmp_path, patience, waits):
    date = email.utils.formatdate(time.time() + 40, usegmt=True)
    server.answers["/w.pth"] = answers.in_turn(
        answers.status(429, Retry_After=7),
        answers.status(503, Retry_After=date),
        answers.status(500),
        answers.file(weights),
    )
    fetch(server.url("/w.pth"), tmp_path / "w.pth", patience=patience)
    assert waits[0] == 7 and 35 < waits[1] <= 41 and waits[2] == 4
    assert (tmp_path / "w.pth").read_bytes() == weights


def test_a_very_long_wait_is_left_to_the_user(server, tmp_path, patience, waits):
    server.answers["/w.pth"] = answers.status(429, Retry_After=7200)
    with pytest.raises(DownloadError, match="asks to wait 120 minutes"):
        fetch(server.url("/w.pth"), tmp_path / "w.pth", patience=patience)
    assert waits == []


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (LOGIN, "a log-in page"),
        (EXPIRED, "link has expired or was removed"),
        (QUOTA, "too many people"),
        ("<html><title>Hello &amp; co</title></html>", "titled 'Hello & co'"),
    ],
)
@pytest.mark.parametrize("through_redirect", [False, True])
def test_pages_are_not_weights(server, tmp_path, patience, text, meaning, through_redirect):
    server.answers["/page"] = answers.page(text)
    server.answers["/w.pth"] = (
        answers.redirect(server.url("/page")) if through_redirect else answers.page(text)
    )
    with pytest.raises(DownloadError, match=meaning):
        fetch(server.url("/w.pth"), tmp_path / "w.pth", patience=patience)
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_claims_to_be_a_file(server, tmp_path, patience):
    server.answers["/w.pth"] = answers.file(b"\n <!doctype HTML><p>expired link</p>")
    with pytest.raises(DownloadError, match="expired"):
        fetch(server.url("/w.pth"), tmp_path / "w.pth", patience=patience)


def test_redirects_carry_cookies_and_the_place_to_go_on(server, weights, tmp_path, patience):
    def guarded(handler, turn):
        if "key=42" not in handler.headers.get("Cookie", ""):
            return answers.page(LOGIN)(handler, turn)
        return answers.file(weights, cut_after=300_000)(handler, turn)

    server.answers["/share"] = answers.redirect(server.url("/store"), Set_Cookie="key=42; Path=/")
    server.answers["/store"] = guarded
    fetch(server.url("/share?e=x"), tmp_path / "w.pth", patience=patience)
    assert (tmp_path / "w.pth").read_bytes() == weights
    assert server.requests[-1][1]["Range"] == "bytes=300000-"


def test_redirects_in_a_circle_end(server, tmp_path, patience):
    server.answers["/a"] = answers.redirect(server.url("/b"))
    server.answers["/b"] = answers.redirect(server.url("/a"))
    with pytest.raises(DownloadError, match="status 302"):
        fetch(server.url("/a"), tmp_path / "w.pth", patience=patience)


@pytest.mark.parametrize(
    "warning",
    [
        '<html><form id="download-form" action="{}" method="get"><input type="hidden" name="id" '
        'value="1nz"><input type="hidden" name="confirm" value="t"><input type="submit"></form>',
        '<html><a id="uc-download-link" href="{}?id=1nz&amp;confirm=t">Download anyway</a>',
    ],
)
def test_the_confirmation_page_of_google_drive(server, weights, tmp_path, patience, warning):
    server.answers["/uc"] = answers.page(warning.format("/download"))
    server.answers["/download"] = answers.file(weights, cut_after=300_000)
    fetch(server.url("/uc?id=1nz"), tmp_path / "w.pth", patience=patience)
    assert (tmp_path / "w.pth").read_bytes() == weights
    asked = [path for path, _ in server.requests]
    assert asked[1] == "/download?id=1nz&confirm=t" and len(asked) == 4
    assert confirmation_link(warning.format("https://evil.example/x"), "https://a.example") is None


def test_a_quota_page_behind_the_confirmation(server, tmp_path, patience):
    form = '<html><form id="download-form" action="/go"><input name="confirm" value="t"></form>'
    server.answers["/uc"] = answers.page(form)
    server.answers["/go"] = answers.page(QUOTA)
    with pytest.raises(DownloadError, match="too many people"):
        fetch(server.url("/uc"), tmp_path / "w.pth", patience=patience)


def test_checksums_that_the_host_or_the_catalogue_state(server, weights, tmp_path, patience):
    server.answers["/w.pth"] = answers.redirect(
        server.url("/cdn"), X_Linked_ETag=f'"{sha256(b"another")}"'
    )
    server.answers["/cdn"] = answers.file(weights)
    with pytest.raises(DownloadError, match=f"sha256 {sha256(weights)}, expected"):
        fetch(server.url("/w.pth"), tmp_path / "w.pth", patience=patience)
    assert list(tmp_path.iterdir()) == []
    fetch(server.url("/w.pth"), tmp_path / "w.pth", sha256=sha256(weights), patience=patience)
    assert (tmp_path / "w.pth").read_bytes() == weights


def test_addresses_of_share_links():
    share = "https://x-my.sharepoint.com/:u:/g/personal/a/EU?e=Iq"
    assert direct_link(share) == share + "&download=1"
    drive = (
        "https://drive.usercontent.google.com/download?id=1nzvMITUHic9&export=download&confirm=t"
    )
    assert direct_link("https://drive.google.com/file/d/1nzvMITUHic9/view?usp=sharing") == drive
    assert direct_link("https://drive.google.com/uc?export=download&id=1nzvMITUHic9") == drive
    assert (
        direct_link("https://huggingface.co/u/r/blob/main/w.pth")
        == "https://huggingface.co/u/r/resolve/main/w.pth"
    )
    assert direct_link("http://127.0.0.1/w.pth?a=b") == "http://127.0.0.1/w.pth?a=b"
    for address in ("file:///etc/passwd", "ftp://host/file", "w.pth"):
        with pytest.raises(ValueError, match="not an http or https address"):
            direct_link(address)
    assert describe_page("<html>", "https://login.microsoftonline.com/x") == "a log-in page"


def test_the_catalogue_holds_what_the_readmes_state():
    weights = [file for file in RELEASED.values() if not file.is_log]
    assert len(weights) == 24 and len(RELEASED) == 46
    assert len({file.url for file in RELEASED.values()}) == 46
    assert len({file.path for file in RELEASED.values()}) == 46
    totals = {
        ("svfap", "DFEW"): (63.89, 74.81),
        ("svfap", "MAFW"): (43.51, 56.31),
        ("maedfer", "DFEW"): (63.41, 74.43),
        ("maedfer", "MAFW"): (42.36, 55.03),
    }  # the READMEs' last rows: means over the folds
    for (family, data_set), expected in totals.items():
        folds = [f for f in weights if f.name.startswith(family) and f.data_set == data_set]
        assert [file.fold for file in folds] == [1, 2, 3, 4, 5]
        for score, total in zip(("uar", "war"), expected):
            assert sum(getattr(f, score) for f in folds) / 5 == pytest.approx(total, abs=0.0101)
    place = RELEASED["svfap-base-voxceleb2"].path
    assert place == (
        "pretraining/voxceleb2/svfap_pretrain_base_patch16_160_frame_16x4_tube_mask_ratio_0.9_e100"
        "/checkpoint-99.pth"
    )
    assert released_at(f"/disk/saved/model/{place}").name == "svfap-base-voxceleb2"
    assert released_at("elsewhere/checkpoint-99.pth") is None


def test_files_are_found_by_name_and_pattern():
    assert [f.name for f in find_released(["maedfer-base-ferv39k"], logs=True)] == [
        "maedfer-base-ferv39k",
        "maedfer-base-ferv39k-log",
    ]
    assert len(find_released(["svfap-base-dfew*"])) == 5
    assert len(find_released(["*"], logs=True)) == 46
    with pytest.raises(ValueError, match="did you mean svfap-base-dfew-fold1 .*known are"):
        find_released(["svfap-base-dfew-fold-1"])


def entry(url: str, **more) -> ReleasedFile:
    facts = {"name": "w", "path": "a/w.pth", "model": "svfap_tiny_patch8_64", "data_set": "DFEW"}
    return ReleasedFile(url=url, **facts | more)


def test_mirrors_come_first_and_the_checksum_is_recorded(server, weights, tmp_path, patience):
    server.answers["/copy/a/w.pth"] = answers.file(weights)
    file = entry(server.url("/original"))
    mirrors = [server.url("/gone.pth"), server.url("/copy/")]
    path = download(file, tmp_path, mirrors=mirrors, patience=patience, quiet=True)
    assert path == tmp_path / "a" / "w.pth" and path.read_bytes() == weights
    assert (tmp_path / "a" / "w.pth.sha256").read_text() == f"{sha256(weights)}  w.pth\n"
    assert [path for path, _ in server.requests] == ["/gone.pth", "/copy/a/w.pth"]
    download(file, tmp_path, patience=patience, quiet=True)
    assert len(server.requests) == 2
    path.write_bytes(weights[:-1] + b"!")
    with pytest.raises(ValueError, match="damaged or another file"):
        download(file, tmp_path, patience=patience, quiet=True)


def test_all_addresses_that_failed_are_told(server, tmp_path, patience):
    server.answers["/original"] = answers.page(EXPIRED)
    with pytest.raises(DownloadError) as caught:
        download(entry(server.url("/original")), tmp_path, mirrors=[server.url("/m.pth")],
                 patience=patience, quiet=True)  # fmt: skip
    assert "no such file" in str(caught.value) and "expired" in str(caught.value)


def test_a_file_fetched_by_hand(weights, tmp_path):
    by_hand = tmp_path / "checkpoint (1).pth"
    by_hand.write_bytes(weights)
    file = entry("http://nowhere.invalid/")
    target = take_over(by_hand, file, tmp_path / "saved")
    assert target.read_bytes() == weights == by_hand.read_bytes()
    assert record_checksum(target) == sha256(weights)
    with pytest.raises(ValueError, match="there already"):
        take_over(by_hand, file, tmp_path / "saved")
    other = entry("http://nowhere.invalid/", path="b/w.pth", sha256="0" * 64)
    with pytest.raises(ValueError, match="expected 0000"):
        take_over(by_hand, other, tmp_path / "saved")
    by_hand.write_text(LOGIN)
    with pytest.raises(ValueError, match="HTML page"):
        take_over(by_hand, entry("http://nowhere.invalid/", path="c/w.pth"), tmp_path / "saved")
    assert not (tmp_path / "saved" / "b").exists() and not (tmp_path / "saved" / "c").exists()


def test_what_is_whole(weights, tmp_path):
    import safetensors.torch

    tensors = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"w": torch.arange(1000.0)}, tensors)
    check_whole(tensors, ".safetensors")
    whole = tensors.read_bytes()
    for size in (4, 20, 200, len(whole) - 1):
        tensors.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="cut off|header"):
            check_whole(tensors, ".safetensors")
    path = tmp_path / "w.pth"
    path.write_bytes(weights)
    check_whole(path, ".pth")
    spoiled = weights[:200_000] + b"spoiled" + weights[200_007:]
    for broken in (weights[:-1], weights[:1000], spoiled, b"text"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="cut off|damaged|begin like"):
            check_whole(path, ".pth")
    torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    check_whole(path, ".pth")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_command_goes_on_after_it_was_killed(server, weights, tmp_path, number):
    name = "svfap-base-dfew-fold1"
    server.answers[f"/m/{RELEASED[name].path}"] = answers.in_turn(
        answers.file(weights, cut_after=200_000, stall_seconds=20), answers.file(weights)
    )
    argv = [sys.executable, "-m", "models.download", name, "--dir", str(tmp_path), "--mirror",
            server.url("/m/")]  # fmt: skip
    environment = {**os.environ, "no_proxy": "*", "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(argv, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    part = tmp_path / f"{RELEASED[name].path}.part"
    for _ in range(600):
        if part.exists() and part.stat().st_size == 200_000:
            break
        time.sleep(0.05)
    first.send_signal(number)
    first.communicate(timeout=30)
    assert first.returncode == (-9 if number == signal.SIGKILL else 130)
    again = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / RELEASED[name].path).read_bytes() == weights
    assert server.requests[1][1]["Range"] == "bytes=200000-"


def test_wrong_commands_are_explained(capsys):
    for argv, text in (
        ([], "--list"),
        (["nothing"], "known are"),
        (["svfap-base-dfew*", "--from", "x.pth"], "one NAME, not 5"),
        (["svfap-base-dfew*", "--mirror", "http://h/file.pth"], "ends in /"),
        (["svfap-base-voxceleb2", "--mirror", "h"], "http or https"),
    ):
        with pytest.raises(SystemExit) as caught:
            command.main(argv)
        assert caught.value.code == 2 and text in capsys.readouterr().err
    assert command.main(["--list"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 24 and "UAR 63.63  WAR 75.31" in shown[1]
    assert command.main(["svfap-base-voxceleb2", "--from", "absent.pth"]) == 1
    assert "no such file" in capsys.readouterr().err
