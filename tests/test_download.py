"""Downloads from a server that breaks off, falls silent, lies, and sends pages instead of files."""

import hashlib
import io
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from svfap import fetching
from svfap.models import download as command
from svfap.models.download import (
    DownloadError,
    direct_link,
    download,
    fetch,
    take_over,
)
from svfap.models.weights.public import PUBLIC
from svfap.models.weights.released import RELEASED, ReleasedFile, find_released, released_at
from svfap.models.weights.weight_file import check_whole

LOGIN = "<!DOCTYPE html><html><title>Sign in to your account</title><body>...</body></html>"


class Server:
    """On loopback; `answers`: path -> (status, headers, body); `asked`: the paths, in order."""

    def __init__(self):
        self.answers, self.asked = {}, []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802 - name given by the standard library
                server.asked.append(self.path)
                code, headers, body = server.answers.get(self.path, (404, {}, b""))
                wants = headers.pop("wants-cookie", "")
                if wants and wants not in self.headers.get("Cookie", ""):
                    headers, body = {}, LOGIN.encode()
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                if "silent" in self.path:
                    time.sleep(1)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}{path}"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()
    running.thread.join()


@pytest.fixture(scope="module")
def weights() -> bytes:
    """A file of torch.save, 400 kB of which no part repeats."""
    buffer = io.BytesIO()
    torch.save({"model": {"w": torch.arange(100_000, dtype=torch.float32)}}, buffer)
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_arrives_through_redirects_that_set_cookies(server, weights, tmp_path):
    server.answers["/share?e=x"] = 302, {"Location": "/store", "Set-Cookie": "key=42; Path=/"}, b""
    server.answers["/store"] = 200, {"wants-cookie": "key=42"}, weights
    target = tmp_path / "new" / "w.pth"
    fetch(server.url("/share?e=x"), target, sha256=sha256(weights))
    assert target.read_bytes() == weights and list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("path", "answer", "message"),
    [
        ("/absent", None, "404"),
        ("/denied", (403, {}, b""), "403"),
        ("/circle", (302, {"Location": "/circle"}, b""), "302"),
        ("/page", (200, {}, LOGIN.encode()), "web page titled 'Sign in to your account'"),
        ("/short", (200, {"Content-Length": "500000"}, "weights"), "of 500,000 bytes"),
        ("/cut", (200, {}, "cut"), "cut off or damaged"),
        ("/silent", (200, {"Content-Length": "500000"}, "weights"), "timed out"),
        ("/other", (200, {}, "weights"), "expected 0000"),
    ],
)
def test_what_cannot_be_had_leaves_nothing(
    server, weights, tmp_path, monkeypatch, path, answer, message
):
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(fetching, "FIRST_PAUSE_SECONDS", 0.001)
    if answer:
        bodies = {"weights": weights, "cut": weights[:-300]}
        server.answers[path] = (*answer[:2], bodies.get(answer[2], answer[2]))
    known = "0" * 64 if path == "/other" else None
    with pytest.raises(DownloadError, match=f"{path}: .*{message}.*--from.*--mirror"):
        fetch(server.url(path), tmp_path / "w.pth", sha256=known)
    assert list(tmp_path.iterdir()) == []


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


def test_the_catalogue_holds_what_the_readmes_state():
    weights = list(RELEASED.values())
    assert len(weights) == len({f.url for f in weights}) == len({f.path for f in weights}) == 24
    totals = {
        ("svfap", "DFEW"): (63.89, 74.81),
        ("svfap", "MAFW"): (43.51, 56.31),
        ("maedfer", "DFEW"): (63.41, 74.43),
        ("maedfer", "MAFW"): (42.36, 55.03),
    }  # the READMEs' last rows: means over the folds
    for (family, data_set), expected in totals.items():
        folds = [f for f in weights if f.name.startswith(family) and f.data_set == data_set]
        assert [file.name[-5:] for file in folds] == [f"fold{i}" for i in range(1, 6)]
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
    assert [file.name for file in find_released(["maedfer-base-ferv39k"])] == [
        "maedfer-base-ferv39k"
    ]
    assert len(find_released(["svfap-base-dfew*"])) == 5
    with pytest.raises(ValueError, match="did you mean svfap-base-dfew-fold1.*known are"):
        find_released(["svfap-base-dfew-fold-1"])


def entry(url: str, **more) -> ReleasedFile:
    return ReleasedFile(**{"name": "w", "url": url, "path": "a/w.pth", "data_set": "DFEW"} | more)


def test_mirrors_come_first(server, weights, tmp_path):
    server.answers["/copy/a/w.pth"] = 200, {}, weights
    file = entry(server.url("/original"))
    mirrors = [server.url("/gone.pth"), server.url("/copy/")]
    path = download(file, tmp_path, mirrors=mirrors, quiet=True)
    assert path == tmp_path / "a" / "w.pth" and path.read_bytes() == weights
    assert server.asked == ["/gone.pth", "/copy/a/w.pth"]
    download(file, tmp_path, quiet=True)
    assert len(server.asked) == 2
    path.write_bytes(weights[:-1])
    with pytest.raises(ValueError, match="cut off or damaged"):
        download(file, tmp_path, quiet=True)


def test_all_addresses_that_failed_are_told(server, tmp_path):
    server.answers["/original"] = 200, {}, LOGIN.encode()
    with pytest.raises(DownloadError, match="(?s)404.*Sign in"):
        download(entry(server.url("/original")), tmp_path, mirrors=[server.url("/m")], quiet=True)


def test_a_file_fetched_by_hand(weights, tmp_path):
    by_hand = tmp_path / "checkpoint (1).pth"
    by_hand.write_bytes(weights)
    file = entry("http://nowhere.invalid/")
    target = take_over(by_hand, file, tmp_path / "saved")
    assert target.read_bytes() == weights == by_hand.read_bytes()
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
    assert len(shown) == 24 + len(PUBLIC) and "UAR 63.63  WAR 75.31" in shown[1]
    assert command.main(["svfap-base-voxceleb2", "--from", "absent.pth"]) == 1
    assert "no such file" in capsys.readouterr().err
