"""A Chromium to be driven: WebDriver's HTTP interface, by the standard library alone."""

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--force-color-profile=srgb",
)  # fmt: skip
SETTLED = """
  await Promise.all([...document.images].filter((i) => i.src).map((i) => i.decode().catch(() => {})));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
"""


class Browser:
    """Chromium through chromedriver: what WebDriver says over HTTP."""

    def __init__(self, address: str, size: tuple[int, int]) -> None:
        self._session = address
        self._profile = tempfile.mkdtemp(prefix="check-gallery-")
        options = {
            "args": [*FLAGS, f"--user-data-dir={self._profile}", f"--window-size={size[0]},{size[1]}"],
            "perfLoggingPrefs": {"enableNetwork": True},
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"{address}/session/{session['sessionId']}"

    def close(self) -> None:
        self._call("DELETE", "")
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, address: str) -> None:
        self._call("POST", "/url", {"url": "about:blank"})
        self._call("POST", "/url", {"url": address})

    def run(self, script: str) -> Any:
        """What `script`, the body of an async function, returns."""
        body = f"const done = arguments[0]; (async () => {{{script}}})().then(done, (e) => done(`${{e}}`));"
        return self._call("POST", "/execute/async", {"script": body, "args": []})

    def press(self, keys: str) -> None:
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def move(self, x: int, y: int) -> None:
        steps = [{"type": "pointerMove", "duration": 0, "x": x + d, "y": y} for d in (0, 1)]
        pointer = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": steps}
        self._call("POST", "/actions", {"actions": [pointer]})

    def screenshot(self, path: Path) -> None:
        self.run(SETTLED)
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def log(self, kind: str) -> list[dict[str, Any]]:
        return self._call("POST", "/se/log", {"type": kind})

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._session + path, data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]


@contextmanager
def driver() -> Iterator[str]:
    """A chromedriver of our own; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{address}/status", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()
