"""A hub on loopback that talks as far as huggingface_hub needs it: serves, redirects, breaks off,
refuses, and takes uploads."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class FakeHub:
    """Repositories by name, each a list of commits: name of a file -> content.

    `behaviour` of a file: "redirect" (to another place of this server), "break" (half of it, every
    time). `refusals` of a repository: (status, X-Error-Code). `served` counts the GETs of files.
    """

    def __init__(self):
        self.repos, self.behaviour, self.refusals, self.served = {}, {}, {}, []

    def commit(self, repo, files):
        """Add a commit on top of what is there; returns its hash."""
        history = self.repos.setdefault(repo, [])
        history.append((dict(history[-1]) if history else {}) | dict(files))
        return self.hash_of(repo, len(history) - 1)

    def hash_of(self, repo, number):
        return hashlib.sha1(f"{repo} {number}".encode()).hexdigest()

    def at(self, repo, revision):
        """(hash, files) of a revision, or None."""
        history = self.repos.get(repo, [])
        for number, files in enumerate(history):
            if revision == self.hash_of(repo, number):
                return revision, files
        return (self.hash_of(repo, len(history) - 1), history[-1]) if revision == "main" else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path).strip("/")
        if path.startswith("api/models/"):
            self._describe(path.removeprefix("api/models/"))
        elif path.startswith("elsewhere/"):
            self._send_file(*path.removeprefix("elsewhere/").split("/resolve/"), redirected=True)
        elif "/resolve/" in path:
            self._send_file(*path.split("/resolve/"))
        else:
            self._answer(404, {})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path).strip("/")
        if path == "api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'someone'}/{asked['name']}"
            if name in self.hub.refusals:
                self._refused(name)
                return
            self.hub.repos.setdefault(name, [])
            self._answer(200, {"url": f"{self.url}/{name}"})
        elif path == "api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]
            self._answer(200, {"files": modes})
        elif "/commit/" in path:
            lines = [json.loads(line) for line in body.splitlines() if line.strip()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            repo = path.removeprefix("api/models/").split("/commit/")[0]
            oid = self.hub.commit(repo, files)
            self._answer(200, {"commitUrl": f"{self.url}/{repo}/commit/{oid}", "commitOid": oid})
        else:
            self._answer(404, {})

    def _describe(self, path):
        repo, _, revision = path.partition("/revision/")
        if not self._refused(repo, api=True):
            found = self.hub.at(repo, revision or "main")
            if found is None:
                self._answer(404, {}, {"X-Error-Code": "RevisionNotFound"})
            else:
                names = [{"rfilename": name} for name in found[1]]
                self._answer(200, {"id": repo, "sha": found[0], "siblings": names})

    def _refused(self, repo, *, api=False):
        status, code = self.hub.refusals.get(repo, (None, None))
        if status and not (api and code == "GatedRepo"):  # facts of gated repositories are open
            self._answer(status, {}, {"X-Error-Code": code} if code else {})
            return True
        if repo not in self.hub.repos:
            self._answer(401, {}, {"X-Error-Code": "RepoNotFound"})
            return True
        return False

    def _send_file(self, repo, rest, redirected=False):
        revision, _, name = rest.partition("/")
        if self._refused(repo):
            return
        found = self.hub.at(repo, revision)
        if found is None or name not in found[1]:
            code = "RevisionNotFound" if found is None else "EntryNotFound"
            self._answer(404, {}, {"X-Error-Code": code})
            return
        oid, content = found[0], found[1][name]
        behaviour = self.hub.behaviour.get((repo, name))
        facts = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": oid}
        if behaviour == "redirect" and not redirected:
            place = {"Location": f"{self.url}/elsewhere/{repo}/resolve/{oid}/{name}"}
            linked = {"X-Linked-Etag": facts["ETag"], "X-Linked-Size": str(len(content))}
            self._answer(302, {}, facts | place | linked)
            return
        self.send_response(200)
        for key, value in (facts | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.hub.served.append(name)
            self.wfile.write(content[: len(content) // 2] if behaviour == "break" else content)
            self.close_connection = self.close_connection or behaviour == "break"

    def _answer(self, status, content, headers=None):
        body = json.dumps(content).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@contextmanager
def serving():
    """A hub, its address in `url`."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = handler.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
