"""A hub on this machine, as far as `san` needs one: repositories with commits, private ones, uploads as Git LFS.

As on the real one the bytes of a file come from another host (here: "localhost" instead of "127.0.0.1"), and what is
private isn't there for whoever sends no token.
"""

import base64
import hashlib
import json
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import yaml
from local_server import serving

TOKEN = "hf_secretSecretSecret"


@dataclass
class Repository:
    """Its commits, the newest last, each with all files."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    in_git: bool = False  # no file is in LFS: of each there is a git sha1 alone

    def commit(self, files: Mapping[str, bytes]) -> str:
        last = list(self.commits.values())[-1] if self.commits else {}
        sha = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[sha] = {**last, **files}
        return sha

    @property
    def head(self) -> str:
        return list(self.commits)[-1] if self.commits else "0" * 40


@dataclass
class Hub:
    """What is there, and what was asked for."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    endpoint: str = ""
    asked: list[str] = field(default_factory=list)  # "GET /path"
    tokens: list[tuple[str, str]] = field(default_factory=list)  # (host, what was sent for authorisation)
    uploaded: dict[str, bytes] = field(default_factory=dict)  # by sha256
    damaged: bool = False  # the bytes are others than was said
    refusal: int = 0  # every answer

    def add(self, name: str, files: Mapping[str, bytes], **kind: bool) -> Repository:
        self.repositories[name] = Repository(**kind)
        self.repositories[name].commit(files)
        return self.repositories[name]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        path, body = urllib.parse.unquote(self.path), self._body()
        self.hub.asked.append(f"{self.command} {self.path}")
        self.hub.tokens.append((self.headers["Host"].split(":")[0], self.headers.get("Authorization", "")))
        if self.hub.refusal:
            return self._send(self.hub.refusal)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/revision/([^?]+))?(?:\?.*)?", path):
            return self._describe(found[1], found[2] or "main")
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(\w+)/(.+)", path):
            return self._redirect(*found.groups())
        if found := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(\w+)/(.+)", path):
            content = self.hub.repositories[found[1]].commits[found[2]][found[3]]
            return self._send(200, content[::-1] if self.hub.damaged else content)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            private = asked.get("private") or asked.get("visibility") == "private"
            self.hub.repositories[name] = Repository(private=bool(private))
            return self._json({"url": f"{self.hub.endpoint}/{name}", "name": name})
        if path == "/api/validate-yaml":
            head = yaml.safe_load(json.loads(body)["content"].split("---")[1])
            if head["license"] not in ("mit", "unknown"):
                return self._json(
                    {"errors": [{"message": '"license" must be one of …'}], "warnings": []}, 400
                )
            return self._json({"errors": [], "warnings": []})
        if found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = [
                {"path": file["path"], "uploadMode": _mode(file["path"]), "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [{**each, "actions": self._action(each["oid"])} for each in json.loads(body)["objects"]]
            return self._json({"transfer": "basic", "objects": objects})
        if path.startswith("/lfs/"):
            self.hub.uploaded[path.removeprefix("/lfs/")] = body
            return self._send(200)
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            return self._commit(found[1], [json.loads(line) for line in body.splitlines()])
        return self._send(404)

    def _describe(self, name: str, revision: str) -> None:
        repository = self._seen(name)
        if repository is None:
            return None
        sha = repository.head if revision == "main" else revision
        if sha not in repository.commits and repository.commits:
            return self._send(404, headers={"X-Error-Code": "RevisionNotFound"})
        files = repository.commits.get(sha, {})
        siblings = [
            {
                "rfilename": path,
                "size": len(content),
                "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
                **(
                    {}
                    if repository.in_git or _mode(path) == "regular"
                    else {
                        "lfs": {
                            "sha256": hashlib.sha256(content).hexdigest(),
                            "size": len(content),
                            "pointerSize": 130,
                        }
                    }
                ),
            }
            for path, content in files.items()
        ]
        return self._json(
            {"id": name, "modelId": name, "sha": sha, "private": repository.private, "siblings": siblings}
        )

    def _redirect(self, name: str, revision: str, path: str) -> None:
        repository = self._seen(name)
        if repository is None:
            return None
        if repository.gated and not self._is_known():
            return self._send(401, headers={"X-Error-Code": "GatedRepo"})
        port = self.server.server_address[1]
        where = f"http://localhost:{port}/cdn/{name}/{revision}/{urllib.parse.quote(path)}"
        return self._send(302, headers={"Location": where})

    def _seen(self, name: str) -> Repository | None:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._is_known()):
            status = 404 if self._is_known() else 401
            return self._send(status, headers={"X-Error-Code": "RepoNotFound"})
        return repository

    def _commit(self, name: str, lines: list[dict[str, dict[str, str]]]) -> None:
        files = {}
        for line in lines:
            if line["key"] == "lfsFile":
                files[line["value"]["path"]] = self.hub.uploaded[line["value"]["oid"]]
            elif line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        sha = self.hub.repositories[name].commit(files)
        self._json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{sha}", "commitOid": sha})

    def _action(self, oid: str) -> dict[str, object]:
        return {"upload": {"href": f"{self.hub.endpoint}/lfs/{oid}", "header": {}}}

    def _is_known(self) -> bool:
        return self.headers.get("Authorization", "").lower() == f"bearer {TOKEN}".lower()

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Tests read `asked` instead."""


def _mode(path: str) -> str:
    return "regular" if path.endswith((".md", ".json")) else "lfs"


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run an empty hub until the block ends."""
    hub = Hub()
    with serving(type("Handler", (_Handler,), {"hub": hub})) as hub.endpoint:
        yield hub
