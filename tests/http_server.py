"""A real HTTP server on loopback that misbehaves as told, for tests of downloads."""

import contextlib
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Answers each path with a function of (handler, how often the path was asked before).

    Attributes:
        answers: path (without query) -> function.
        requests: (path with query, headers) of every request.
    """

    def __init__(self):
        self.answers: dict[str, Callable] = {}
        self.requests: list[tuple[str, dict]] = []
        counts: dict[str, int] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"  # the end of the connection is the end of the answer

            def do_GET(self):  # noqa: N802 - name given by the standard library
                server.requests.append((self.path, dict(self.headers)))
                path = self.path.partition("?")[0]
                turn = counts[path] = counts.get(path, -1) + 1
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    server.answers.get(path, status(404))(self, turn)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}{path}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def send(handler, code: int, headers: dict, body: bytes) -> None:
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name, str(value))
    handler.end_headers()
    handler.wfile.write(body)


def status(code: int, **headers) -> Callable:
    """Always this status."""
    return lambda handler, turn: send(
        handler, code, {k.replace("_", "-"): v for k, v in headers.items()}, b"no"
    )


def page(text: str, code: int = 200) -> Callable:
    """Always this web page."""
    body = text.encode()
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Length": len(body)}
    return lambda handler, turn: send(handler, code, headers, body)


def redirect(target: str, **headers) -> Callable:
    """Always leads on to `target`."""
    more = {k.replace("_", "-"): v for k, v in headers.items()}
    return lambda handler, turn: send(handler, 302, {"Location": target, **more}, b"")


def in_turn(*answers: Callable) -> Callable:
    """The first answer to the first request, ...; the last one from then on."""
    return lambda handler, turn: answers[min(turn, len(answers) - 1)](handler, turn)


def file(
    content: bytes,
    *,
    etag: str | None = '"v1"',
    ranges: bool = True,
    obey_if_range: bool = True,
    cut_after: int | None = None,
    stall_seconds: float = 0.0,
    stated_size: int | None = None,
    **headers,
) -> Callable:
    """A file.

    Args:
        content: its bytes.
        etag: its version; None states none.
        ranges: whether it can be had in parts.
        obey_if_range: whether parts of another version are refused, as they should be.
        cut_after: bytes after which each answer ends.
        stall_seconds: silence after `cut_after` bytes, before the connection is closed.
        stated_size: a Content-Length that is not true.
        headers: more of them.
    """

    def answer(handler, turn: int) -> None:
        asked = handler.headers.get("Range")
        same = handler.headers.get("If-Range") in (None, etag) or not obey_if_range
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ranges and same else 0
        if start and start >= len(content):
            send(handler, 416, {"Content-Range": f"bytes */{len(content)}"}, b"")
            return
        part = content[start:]
        size = (stated_size or len(content)) - start
        lines = {"Content-Length": size, "Content-Type": "application/octet-stream"}
        lines |= {"ETag": etag} if etag else {}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        if start:
            total = stated_size or len(content)
            lines["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        send(handler, 206 if start else 200, lines, part[:cut_after])
        if stall_seconds and cut_after is not None and cut_after < len(part):
            handler.wfile.flush()
            time.sleep(stall_seconds)

    return answer
