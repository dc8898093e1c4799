"""A small Hugging Face Hub on a local port: the HTTP that huggingface_hub speaks, without xet."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

API = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)(?:/(?P<what>revision|tree)/(?P<at>[^/]+))?")
FILE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<at>[^/]+)/(?P<file>.+)")


@dataclass
class Repository:
    """A model on the hub.

    Attributes:
        commits: folder with the files of each commit.
        branches: commit of each branch.
        reader: the only token that may see it; None for a public model.
        gated: whether files are refused to everybody; what the model is and holds is told.
    """

    commits: dict[str, Path] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    reader: str | None = None
    gated: bool = False


@dataclass(frozen=True)
class Request:
    """What a client asked for, as far as tests look."""

    method: str
    path: str
    token: str | None
    range: str | None


@dataclass
class Hub:
    """What the hub serves and what it was asked.

    Attributes:
        endpoint: the value for HF_ENDPOINT.
        tokens: valid tokens; a request with another one is refused.
        requests: every request so far, in order.
        cut: names of files whose next download breaks off half way.
        broken: models that get an HTTP status instead of an answer, as from a hub out of order.
    """

    endpoint: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    requests: list[Request] = field(default_factory=list)
    cut: set[str] = field(default_factory=set)
    broken: dict[str, int] = field(default_factory=dict)
    stop: Callable[[], None] = lambda: None

    def add(
        self,
        name: str,
        folder: Path,
        branch: str = "main",
        reader: str | None = None,
        gated: bool = False,
    ) -> str:
        """Puts a folder's files on a branch of a model; returns the commit."""
        digest = hashlib.sha1(usedforsecurity=False)
        for path in _files(folder):
            digest.update(path.encode() + (folder / path).read_bytes())
        commit = digest.hexdigest()
        repository = self.repositories.setdefault(name, Repository())
        repository.reader, repository.gated = reader, gated
        repository.commits[commit] = folder
        repository.branches[branch] = commit
        if reader:
            self.tokens.add(reader)
        return commit

    def downloads(self) -> Counter[str]:
        """How often each file's content was asked for, by its path in the repository."""
        matches = (FILE.fullmatch(r.path) for r in self.requests if r.method == "GET")
        return Counter(match["file"] for match in matches if match)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave in two writes: without this the second waits for the client's ACK.
    disable_nagle_algorithm = True

    def __init__(self, hub: Hub, *arguments: object) -> None:
        self.hub = hub
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answers GET and, without a body, HEAD."""
        path = unquote(urlsplit(self.path).path)
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        who = token if scheme == "Bearer" else None
        self.hub.requests.append(Request(self.command, path, who, self.headers.get("Range")))
        # The revision may hold an encoded slash, so the path is split before it is decoded.
        raw = urlsplit(self.path).path
        match = API.fullmatch(raw) or FILE.fullmatch(raw)
        repository = self.hub.repositories.get(match["name"]) if match else None
        if match and match["name"] in self.hub.broken:
            self._refuse(self.hub.broken[match["name"]], None, "out of order")
        elif who is not None and who not in self.hub.tokens:
            self._refuse(401, None, "Invalid credentials in Authorization header")
        elif match is None or repository is None or repository.reader not in (None, who):
            self._refuse(404 if who else 401, "RepoNotFound", "Repository not found")
        else:
            self._answer(repository, **{k: unquote(v or "") for k, v in match.groupdict().items()})

    do_HEAD = do_GET

    def _answer(
        self, repository: Repository, name: str, at: str, what: str = "", file: str = ""
    ) -> None:
        commit = repository.branches.get(at or "main", at)
        folder = repository.commits.get(commit)
        if folder is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {at}")
        elif file and repository.gated:
            self._refuse(403, "GatedRepo", f"Access to model {name} is restricted")
        elif file:
            self._send_file(folder / file, commit)
        elif what == "tree":
            self._send_json([_entry(folder, path) for path in _files(folder)])
        else:
            siblings = [{"rfilename": path} for path in _files(folder)]
            self._send_json({"id": name, "sha": commit, "siblings": siblings})

    def _send_file(self, path: Path, commit: str) -> None:
        if not path.is_file():
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        content, headers = path.read_bytes(), {"X-Repo-Commit": commit}
        headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") :].split("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = self.command == "GET" and path.name in self.hub.cut
        if cut:
            self.hub.cut.remove(path.name)
        self._send(206 if start else 200, headers, content[start:], cut=cut)

    def _send_json(self, value: object) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _refuse(self, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._send(status, headers, json.dumps({"error": message}).encode())

    def _send(
        self, status: int, headers: dict[str, str], body: bytes, *, cut: bool = False
    ) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing: `Hub.requests` tells."""


def _files(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _entry(folder: Path, path: str) -> dict[str, object]:
    content = (folder / path).read_bytes()
    return {
        "type": "file",
        "path": path,
        "size": len(content),
        "oid": hashlib.sha1(content, usedforsecurity=False).hexdigest(),
    }


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub on a free port; `Hub.stop` closes it before the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass = partial(_Handler, hub)  # type: ignore[assignment]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()

    def stop() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    hub.stop = stop
    try:
        yield hub
    finally:
        if thread.is_alive():
            stop()
