"""A local stand-in for the Hugging Face Hub: the part of its protocol that models need.

It serves files by HEAD and GET, describes and creates repositories, and accepts the client's
commits: preupload, LFS batch with PUT for safetensors, ndjson for other files. It has no Xet.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

BACKGROUND = "/api/agent-harnesses"  # requested by the client for its User-Agent


@dataclass
class Repository:
    """A repository of models."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # files by name
    revisions: dict[str, str] = field(default_factory=dict)  # commits of branches and tags
    private: bool = False
    gated: bool = False
    token: str | None = None  # required if private or gated

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add files to a branch; returns the commit."""
        files = {**self.commits.get(self.revisions.get(branch, ""), {}), **files}
        parts = [
            f"{name}:{hashlib.sha256(content).hexdigest()}"
            for name, content in sorted(files.items())
        ]
        commit = hashlib.sha1("\n".join([str(len(self.commits)), *parts]).encode()).hexdigest()
        self.commits[commit] = files
        self.revisions[branch] = commit
        return commit

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return the commit and files of a branch, tag or commit, or None if there is none."""
        commit = self.revisions.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None


class HubServer:
    """The server, as a context manager."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}  # LFS objects by sha256
        # Method, path and token of each request but BACKGROUND.
        self.log: list[tuple[str, str, str | None]] = []
        self.writer = "hf_writer"  # the token that may create repositories and commit
        self.broken: int | None = None  # answer all requests with this status
        # Files by name that are served with other content than their headers state.
        self.swapped: dict[str, bytes] = {}
        handler = type("Handler", (_Handler,), {"hub": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering. May be called twice."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def repository(self, name: str, folder: Path | None = None) -> Repository:
        """A new repository, with a commit of a folder's files."""
        repository = self.repositories[name] = Repository()
        if folder is not None:
            repository.commit({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
        return repository

    def served(self) -> list[str]:
        """Return the names of the downloaded files in their order."""
        return [
            path.rpartition("/")[2]
            for method, path, _ in self.log
            if method == "GET" and "/resolve/" in path
        ]


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def do_PUT(self) -> None:
        self._route()

    def _route(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else self._chunks()
        path = urlsplit(self.path).path
        header = self.headers.get("Authorization")
        self.token = header.removeprefix("Bearer ") if header else None
        if path == BACKGROUND:
            return self._json({"standardEnvVars": [], "harnesses": {}})
        self.hub.log.append((self.command, unquote(path), self.token))
        if self.hub.broken:
            return self._refuse(self.hub.broken, "", "the server is broken")
        routes = (
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._resolve),
            (r"/api/models/([^/]+/[^/]+)", self._about),
            (r"/api/models/([^/]+/[^/]+)/revision/([^/]+)", self._about),
            (r"/api/repos/create", self._create),
            (r"/api/validate-yaml", self._validate),
            (r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)", self._preupload),
            (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self._batch),
            (r"/objects/([0-9a-f]{64})", self._put),
            (r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", self._commit),
        )
        for pattern, answer in routes:
            if match := re.fullmatch(pattern, path):
                return answer(*map(unquote, match.groups()))
        self._refuse(404, "", f"no such page: {path}")

    def _chunks(self) -> bytes:
        """Return a body in chunked transfer encoding, which the client uses to upload files."""
        body = b""
        while "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            size = int(self.rfile.readline(), 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if not size:
                break
        return body

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: object, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._answer(
            status,
            json.dumps({"error": message}).encode(),
            Content_Type="application/json",
            **headers,
        )

    def _readable(self, name: str) -> Repository | None:
        """Return the repository, or refuse access and return None."""
        repository = self.hub.repositories.get(name)
        hidden = repository is None or (
            repository.private and self.token not in (repository.token, self.hub.writer)
        )
        if repository is None or hidden:
            # The Hub answers alike for private and for missing repositories.
            return self._refuse(401, "RepoNotFound", "Repository not found")
        return repository

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository = self._readable(name)
        if repository is None:
            return
        if repository.gated and self.token != repository.token:
            return self._refuse(
                401 if self.token is None else 403,
                "GatedRepo",
                f"Access to model {name} is restricted",
            )
        files_at_revision = repository.files(revision)
        if files_at_revision is None:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        commit, files = files_at_revision
        if file not in files:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        content = files[file]
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if file.endswith(".safetensors"):
            headers |= {
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Linked-Size": str(len(content)),
            }
        header = f"blob {len(content)}\0".encode()
        body = self.hub.swapped.get(file, content)
        self._answer(200, body, ETag=f'"{hashlib.sha1(header + content).hexdigest()}"', **headers)

    def _about(self, name: str, revision: str = "main") -> None:
        repository = self._readable(name)
        if repository is None:
            return
        files_at_revision = repository.files(revision)
        if files_at_revision is None and revision != "main":  # a new repository has no commit
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        commit, files = files_at_revision or (None, {})
        siblings = [
            {"rfilename": file, "size": len(content), **_large_file(file, content)}
            for file, content in files.items()
        ]
        self._json({"id": name, "private": repository.private, "sha": commit, "siblings": siblings})

    def _may_write(self) -> bool:
        if self.token != self.hub.writer:
            self._refuse(401 if self.token is None else 403, "", "Invalid username or password.")
        return self.token == self.hub.writer

    def _create(self) -> None:
        if not self._may_write():
            return
        wish = json.loads(self.body)
        name = f"{wish['organization']}/{wish['name']}"
        if name in self.hub.repositories:
            return self._json(
                {"error": "You already created this model repo", "url": self._url(name)}, 409
            )
        self.hub.repository(name).private = wish.get("visibility") == "private" or bool(
            wish.get("private")
        )
        self._json({"url": self._url(name)})

    def _url(self, name: str) -> str:
        return f"{self.hub.endpoint}/{name}"

    def _validate(self) -> None:
        if json.loads(self.body)["content"].startswith("---\nwrong"):
            return self._json({"errors": [{"message": "wrong metadata"}]}, 400)
        self._json({"warnings": [{"message": "empty or missing yaml metadata in repo card"}]})

    def _preupload(self, name: str, revision: str) -> None:
        files = [file["path"] for file in json.loads(self.body)["files"]]
        modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in files}
        self._json(
            {
                "files": [
                    {"path": p, "uploadMode": mode, "shouldIgnore": False}
                    for p, mode in modes.items()
                ]
            }
        )

    def _batch(self, name: str) -> None:
        if not self._may_write():
            return
        objects = [
            {**wish, "actions": {"upload": {"href": f"{self.hub.endpoint}/objects/{wish['oid']}"}}}
            for wish in json.loads(self.body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _put(self, digest: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != digest:
            return self._refuse(400, "", "not the object that was announced")
        self.hub.objects[digest] = self.body
        self._answer(200)

    def _commit(self, name: str, revision: str) -> None:
        if not self._may_write():
            return
        files = {}
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        commit = self.hub.repositories[name].commit(files, revision)
        self._json({"commitUrl": f"{self._url(name)}/commit/{commit}", "commitOid": commit})


def _large_file(name: str, content: bytes) -> dict[str, object]:
    """Return the Hub's description of a file in its large file storage."""
    if not name.endswith(".safetensors"):
        return {}
    digest = hashlib.sha256(content).hexdigest()
    return {"lfs": {"size": len(content), "sha256": digest, "pointerSize": 134}}
