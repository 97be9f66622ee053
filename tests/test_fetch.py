"""Data sets from a server that breaks off, cannot go on, lies, and fails now and then."""

import hashlib
import io
import json
import socket
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from svfap import fetching as transport
from svfap.fetching import FetchError, Remote
from svfap.preprocess import fetch as command
from svfap.preprocess.fetch import fetch


class Server:
    """Files on loopback.

    Attributes:
        files: path -> content.
        faults: path -> what goes wrong with each answer in turn: a number of bytes after which it
            breaks off, the status 503, "hang up" (no answer), "whole" (no ranges), or bytes in
            place of the content.
        asked: (path, first byte) in order.
    """

    def __init__(self):
        self.files, self.faults, self.asked = {}, {}, []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802 - name given by the standard library
                server.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        self.root = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, request) -> None:
        wanted = request.headers.get("Range", "bytes=0-")
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.asked.append((request.path, start))
        fault = self.faults.get(request.path, []).pop(0) if self.faults.get(request.path) else None
        content = fault if isinstance(fault, bytes) else self.files.get(request.path)
        if fault == "hang up":
            request.close_connection = True
            return
        if content is None or (fault in (503,)):
            request.send_error(fault if content is not None else 404)
            return
        start = 0 if fault == "whole" else start
        if start and start >= len(content):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        request.wfile.write(content[start : fault if isinstance(fault, int) else None])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(transport, "FIRST_PAUSE_SECONDS", 0.001)
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


CONTENT = bytes(range(256)) * 2000
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


def remote(server: Server, folder: Path, **more) -> Remote:
    server.files.setdefault("/a.zip", CONTENT)
    stated = {"size": len(CONTENT), "checksum": MD5} | more
    return Remote(url=f"{server.root}/a.zip", path=folder / "new/a.zip", **stated)


def test_a_download_goes_on_where_it_broke_off(server, tmp_path):
    server.faults["/a.zip"] = [100_000, 503, 300_000]
    file = remote(server, tmp_path)
    fetch(file)
    assert file.path.read_bytes() == CONTENT
    assert [start for _, start in server.asked] == [0, 100_000, 100_000, 300_000]
    assert [path.name for path in file.path.parent.iterdir()] == ["a.zip"]
    fetch(file)
    assert len(server.asked) == 4  # what is there is not asked for


def test_another_command_goes_on_with_what_one_left(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transport, "TRIES", 2)
    server.faults["/a.zip"] = [200_000, 503, 503]
    file = remote(server, tmp_path)
    with pytest.raises(FetchError, match="a.zip: "):
        fetch(file)
    assert (tmp_path / "new/a.zip.part").stat().st_size == 200_000
    fetch(file)
    assert file.path.read_bytes() == CONTENT and server.asked[-1] == ("/a.zip", 200_000)


def test_without_a_network_nothing_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(transport, "_reached", threading.Event())
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waits"))
    monkeypatch.setenv("no_proxy", "*")

    def resolve(host, *more, known=socket.getaddrinfo):
        if host == "name.invalid":
            raise socket.gaierror("Name or service not known")
        return known(host, *more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/a"
        for url in (closed, "http://name.invalid/a"):
            for get in (
                transport.read_url,
                lambda url: fetch(Remote(url=url, path=tmp_path / "a")),
            ):
                with pytest.raises(FetchError, match="is there a network"):
                    get(url)


def test_an_error_of_the_server_is_an_answer_too(server, tmp_path, monkeypatch):
    """Whoever says 503 and then hangs up is tried again."""
    monkeypatch.setattr(transport, "_reached", threading.Event())
    server.faults["/a.zip"] = [503, "hang up"]
    file = remote(server, tmp_path)
    fetch(file)
    assert file.path.read_bytes() == CONTENT


def test_a_checksum_of_an_unknown_kind_is_refused_before_anything_is_fetched(server, tmp_path):
    file = remote(server, tmp_path, checksum="crc32:00")
    with pytest.raises(FetchError, match="'crc32:00' is of an unknown kind"):
        fetch(file)
    assert not server.asked and not file.path.parent.exists()


@pytest.mark.parametrize("stated", [{}, {"size": None}, {"size": None, "checksum": None}])
def test_a_server_without_ranges_begins_again(server, tmp_path, stated):
    server.faults["/a.zip"] = [1000, "whole"]
    file = remote(server, tmp_path, **stated)
    fetch(file)
    assert file.path.read_bytes() == CONTENT


def test_a_rest_of_another_file_is_thrown_away(server, tmp_path):
    file = remote(server, tmp_path, size=None)
    part = file.path.with_name("a.zip.part")
    part.parent.mkdir()
    for rest in (b"x" * 5000, b"x" * (len(CONTENT) + 5)):
        part.write_bytes(rest)
        fetch(file)
        assert file.path.read_bytes() == CONTENT
        file.path.unlink()


def test_other_content_than_stated_is_refused(server, tmp_path):
    file = remote(server, tmp_path)
    server.faults["/a.zip"] = [CONTENT[::-1]]
    fetch(file)  # the second time it was right
    file.path.unlink()
    server.files["/a.zip"] = CONTENT[::-1]
    with pytest.raises(FetchError, match="md5 [0-9a-f]{32}, stated is [0-9a-f]{32}, twice"):
        fetch(file)
    server.files["/a.zip"] = CONTENT[:-1]
    with pytest.raises(FetchError, match="511,999 bytes came, 512,000 are stated, twice"):
        fetch(file)
    server.files.clear()
    before = len(server.asked)
    with pytest.raises(FetchError, match="a.zip: HTTP Error 404: Not Found"):
        fetch(Remote(url=file.url, path=file.path))
    assert len(server.asked) == before + 1  # not tried again
    assert not file.path.exists()


# ---- data sets


def serve_ravdess(server: Server, videos: dict[str, bytes]) -> str:
    """Archives by actor, as Zenodo's API lists them; returns the record's address."""
    files = []
    for actor in sorted({name[-2:] for name in videos}):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in videos.items():
                if name.endswith(actor):
                    archive.writestr(f"Actor_{actor}/{name}.mp4", content)
        key = f"Video_Speech_Actor_{actor}.zip"
        server.files[f"/files/{key}/content"] = buffer.getvalue()
        files.append({
            "key": key, "size": len(buffer.getvalue()),
            "checksum": "md5:" + hashlib.md5(buffer.getvalue()).hexdigest(),
            "links": {"self": f"{server.root}/files/{key}/content"},
        })  # fmt: skip
    files.append({"key": "Audio_Song_Actors_01-24.zip", "links": {}})
    server.files["/record"] = json.dumps({"files": files}).encode()
    return f"{server.root}/record"


def serve_cremad(server: Server, videos: dict[str, bytes]) -> list[str]:
    """Pointers and what they stand for; returns the addresses of both."""
    rows = [f"{number},{name}" for number, name in enumerate(videos, 1)]
    server.files["/raw/SentenceFilenames.csv"] = "\n".join(
        ["Stimulus_Number,Filename", *rows]
    ).encode()
    for name, content in videos.items():
        said = f"oid sha256:{hashlib.sha256(content).hexdigest()}\nsize {len(content)}\n"
        pointer = f"version https://git-lfs.github.com/spec/v1\n{said}"
        server.files[f"/raw/VideoFlash/{name}.flv"] = pointer.encode()
        server.files[f"/media/VideoFlash/{name}.flv"] = content
    return [f"{server.root}/raw", f"{server.root}/media"]


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_ravdess_is_unpacked_from_archives(server, tmp_path):
    names = ("01-01-03-01-01-01-01", "02-01-03-01-01-01-01", "01-01-04-02-01-01-02")
    address = serve_ravdess(server, {name: name.encode() * 9 for name in names})
    server.faults["/files/Video_Speech_Actor_01.zip/content"] = [50]
    argv = ["ravdess", str(tmp_path), "--address", address]
    command.main(argv)
    assert below(tmp_path / "videos") == [
        "Video_Speech_Actor_01/01-01-03-01-01-01-01.mp4",
        "Video_Speech_Actor_02/01-01-04-02-01-01-02.mp4",
    ]
    before = len(server.asked)
    command.main(argv)
    assert len(server.asked) == before
    server.files["/page"] = b"<html>sorry</html>"
    with pytest.raises(FetchError, match="not the answer of Zenodo's API"):
        command.main(["ravdess", str(tmp_path / "other"), "--address", f"{server.root}/page"])
    assert below(tmp_path / "other") == []


def test_cremad_comes_through_its_pointers(server, tmp_path):
    names = ("1001_DFA_ANG_XX", "1001_DFA_HAP_XX", "1002_IEO_NEU_XX")
    address = serve_cremad(server, {name: name.encode() * 99 for name in names})
    lost = server.files.pop("/media/VideoFlash/1001_DFA_HAP_XX.flv")
    argv = ["cremad", str(tmp_path), "--address", *address]
    with pytest.raises(FetchError, match="1 of 3 files could not be fetched") as caught:
        command.main(argv)
    assert "media/VideoFlash/1001_DFA_HAP_XX.flv: HTTP Error 404: Not Found" in str(caught.value)
    assert len(below(tmp_path / "VideoFlash")) == 3  # two videos and a begun one
    server.files["/media/VideoFlash/1001_DFA_HAP_XX.flv"] = lost
    command.main(argv)
    assert below(tmp_path / "VideoFlash") == [f"{name}.flv" for name in sorted(names)]
    with pytest.raises(FetchError, match="--address: cremad has 2, such as https://raw"):
        command.main(argv[:-1])
