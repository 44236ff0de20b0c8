"""A local HTTP server that answers like the Hugging Face hub's resolve endpoint, well or badly.

As on the real hub a HEAD on `/REPO/resolve/REVISION/FILE` answers 302 with the commit, the sha256 and the
size of the LFS file, and the bytes come from another host (here: "localhost" instead of "127.0.0.1").
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!DOCTYPE html><html><body>Please log in to this network</body></html>"


@dataclass
class FakeHub:
    """What is served, how badly, and what was asked for so far."""

    content: bytes
    fault: str = ""  # see _Handler
    endpoint: str = ""
    asked: list[str] = field(default_factory=list)  # "HEAD /path" and "GET /path" of the file, in order


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_HEAD(self) -> None:
        hub = self.hub
        hub.asked.append(f"HEAD {self.path}")
        if hub.fault.isdigit():
            self._send(int(hub.fault))
        elif hub.fault == "login page":
            self._send(200, PAGE, {"Content-Type": "text/html"})
        else:
            offered = hub.content + b"!" if hub.fault == "another file" else hub.content
            port = self.server.server_address[1]
            self._send(
                302,
                headers={
                    "Location": f"http://localhost:{port}/cdn",
                    "X-Repo-Commit": self.path.split("/")[4],
                    "X-Linked-Etag": f'"{hashlib.sha256(offered).hexdigest()}"',
                    "X-Linked-Size": str(len(offered)),
                    "ETag": '"of-the-pointer"',
                },
            )

    def do_GET(self) -> None:
        hub = self.hub
        if self.path != "/cdn":  # huggingface_hub may look for news of its own
            self._send(404)
            return
        hub.asked.append(f"GET {self.path}")
        if hub.fault == "500 for the bytes":
            self._send(500)
        elif hub.fault == "page for the bytes":
            self._send(200, PAGE, {"Content-Type": "text/html"})
        elif hub.fault == "truncated":
            self._send(200, hub.content[: len(hub.content) // 2])
        elif hub.fault == "wrong bytes":
            self._send(200, hub.content[:-1] + b"\x00")
        elif hub.fault == "reset once" and hub.asked.count("GET /cdn") == 1:
            self._send(200, hub.content, cut=len(hub.content) // 2)
        else:
            self._send(200, hub.content)

    def _send(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        """Answer; `cut` closes the connection after so many bytes of the body."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut])
        self.close_connection = cut is not None

    def log_message(self, *args: object) -> None:
        """Tests read `asked` instead."""


@contextmanager
def serve(content: bytes, fault: str = "") -> Iterator[FakeHub]:
    """Run a hub that offers `content` under every name, until the block ends."""
    hub = FakeHub(content, fault)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
