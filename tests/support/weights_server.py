"""A local HTTP server that answers like the Hugging Face hub's resolve endpoint: well, badly, or with malice.

As on the real hub a GET of `/REPO/resolve/REVISION/FILE` answers 302 with the commit, the sha256 and the size of the
LFS file, and the bytes come from another host (here: "localhost" instead of "127.0.0.1"), in parts if asked for.
"""

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from local_server import serving

PAGE = b"<!DOCTYPE html><html><body>Please log in to this network</body></html>"


@dataclass
class FakeHub:
    """What is served, how badly, and what was asked for so far."""

    content: bytes
    fault: str = ""  # see _Handler
    headers: Mapping[str, str] = field(
        default_factory=dict
    )  # over the hub's own, in the redirect and with the bytes
    location: str = ""  # redirects lead there
    endpoint: str = ""
    asked: list[str] = field(default_factory=list)  # "GET /path", in order
    received: list[dict[str, str]] = field(
        default_factory=list
    )  # the headers of each, names in small letters


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = self.hub
        hub.asked.append(f"{self.command} {self.path}")
        hub.received.append({name.lower(): value for name, value in self.headers.items()})
        with suppress(OSError):  # a client that has had enough
            if self.path == "/cdn":
                self._bytes()
            elif hub.fault.isdigit():
                self._send(int(hub.fault))
            elif hub.fault == "login page":
                self._send(200, PAGE, {"Content-Type": "text/html"})
            else:
                self._redirect()

    def _redirect(self) -> None:
        port = self.server.server_address[1]
        self._send(
            302,
            headers={
                "Location": self.hub.location or f"http://localhost:{port}/cdn",
                "X-Repo-Commit": self.path.split("/resolve/")[-1].split("/")[0],
                "X-Linked-Etag": f'"{hashlib.sha256(self.hub.content).hexdigest()}"',
                "X-Linked-Size": str(len(self.hub.content)),
                "ETag": '"of-the-pointer"',
                **self.hub.headers,
            },
        )

    def _bytes(self) -> None:
        hub, content, fault = self.hub, self.hub.content, self.hub.fault
        half, times = len(content) // 2, hub.asked.count("GET /cdn")
        if fault == "500 for the bytes":
            self._send(500)
        elif fault == "page for the bytes":
            self._send(200, PAGE, {"Content-Type": "text/html"})
        elif fault == "another file":
            self._send(200, content + b"!")
        elif fault == "truncated":
            self._send(200, content[:half])
        elif fault == "wrong bytes":
            self._send(200, content[:-1] + b"\x00")
        elif fault == "cut every time" or (fault.startswith("reset once") and times == 1):
            self._send(200, content, cut=half)
        elif fault == "cut here and there":
            self._send(200, content, cut=half // (1 + times % 2))
        elif fault == "endless":
            self._endless(1 << 16, 0.0)
        elif fault == "drip":
            self._endless(1, 0.01)
        elif fault == "endless headers":
            self._raw(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(100_000)))
        elif fault == "long header":
            self._raw(b"HTTP/1.1 200 OK\r\nX-Linked-Etag: " + b"a" * 8_000_000 + b"\r\n\r\n")
        elif fault == "100 for ever":
            for _ in range(2000):
                self._raw(b"HTTP/1.1 100 Continue\r\n\r\n")
                time.sleep(0.005)
        elif fault == "no HTTP":
            self._raw(b"\x00\x1b[2J" * 1000)
        elif fault == "gzip":
            self._send(200, b"\x1f\x8b" + b"\0" * 100, {"Content-Encoding": "gzip", **hub.headers})
        elif part := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start = int(part[1])
            where = f"bytes {start}-{len(content) - 1}/{len(content)}"
            if fault == "reset once, no parts":
                self._send(200, content)
            elif fault == "another part":
                self._send(
                    206, content[start + 1 :], {"Content-Range": where.replace(part[1], str(start + 1))}
                )
            else:
                self._send(206, content[start:], {"Content-Range": where, **hub.headers})
        else:
            self._send(200, content, hub.headers)

    def _endless(self, size: int, pause_s: float) -> None:
        self._raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for _ in range(4000):
            self._raw(b"x" * size)
            time.sleep(pause_s)

    def _raw(self, data: bytes) -> None:
        self.close_connection = True
        self.wfile.write(data)
        self.wfile.flush()

    def _send(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, cut: int | None = None
    ) -> None:
        """Answer; `cut` closes the connection after so many bytes of the body."""
        given = {"Content-Length": str(len(body)), **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        self.wfile.write(f"HTTP/1.1 {status} Status\r\n{lines}\r\n".encode("latin-1"))
        if self.command == "GET":
            self.wfile.write(body[:cut])
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Tests read `asked` instead."""


@contextmanager
def serve(
    content: bytes, fault: str = "", *, headers: Mapping[str, str] | None = None, location: str = ""
) -> Iterator[FakeHub]:
    """Run a hub that offers `content` under every name, until the block ends."""
    hub = FakeHub(content, fault, headers or {}, location)
    with serving(type("Handler", (_Handler,), {"hub": hub})) as hub.endpoint:
        yield hub
