"""The bytes of a file over HTTP, from a server that isn't trusted.

Nothing in an answer becomes a name, a path or a size here; no more bytes are written than were asked for; nothing
secret is sent (no cookie, no .netrc, and a token only if given one, to the server that was named and to none that it
redirects to); and a server that is silent, drips or redirects for ever is left.
Written on `http.client`, whose behaviour changes with no package. Proxies are the environment's or the system's.
"""

import http.client
import os
import re
import socket
import ssl
import threading
import time
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

_BLOCK = 1 << 17  # bytes read at a time
_BLOCK_WITHIN_S = 60.0  # so what is slower than 2 kB a second ends; also for the head of an answer
_REDIRECTS = 10
_TRIES = 5  # in a row that bring less than a megabyte
_WORTH_IT = 1 << 20
_PAUSE_S = 0.25  # before the second try, twice as long before each further one
_MEANING = {
    401: "not authorised", 403: "access refused", 404: "no such file", 407: "the proxy wants a password",
    416: "it has another file", 429: "too many requests",
}  # fmt: skip
_REASON = {  # what the Hugging Face hub adds in a header of its own
    "GatedRepo": "gated: its page asks for consent first",
    "RepoNotFound": "no such repository, or a private one",
    "RevisionNotFound": "no such branch, tag or commit",
    "EntryNotFound": "no such file",
}


class FetchError(Exception):
    """Why the bytes didn't come, in a few words that fit behind "can't get …:"."""

    def __init__(self, words: str, status: int = 0) -> None:
        super().__init__(words)
        self.status = status  # of an answer that was a refusal; 0: there was none


class _Cut(Exception):
    """The connection failed, as connections do: worth another try where the server once had the file."""


def fetch(
    url: str, file: BinaryIO, size: int, progress: Callable[[int], None], token: str | None = None
) -> None:
    """Bring `file`, open for reading and writing, to `size` bytes from `url`.

    What it holds already is taken for the beginning and not asked for again; a connection that is cut is taken up
    again. `progress` is told how many bytes are there. What the bytes are is not looked at: hash them. Raises
    FetchError, and OSError where the bytes can't be written.
    """
    have = file.seek(0, os.SEEK_END)
    answered, failures, reached = False, 0, have
    while have < size:
        try:
            with _answer(url, have, token) as (response, connected):
                have = _place(response, have, size)
                answered = True
                file.seek(have)
                file.truncate()
                while have < size:
                    with _deadline(connected):
                        block = response.read(min(_BLOCK, size - have))
                    if not block:
                        raise _Cut("it closed the connection")
                    file.write(block)
                    have += len(block)
                    progress(have)
        except _Cut as error:
            failures = 1 if have - reached >= _WORTH_IT else failures + 1
            reached = max(reached, have)  # or a server that begins anew each time could keep us for ever
            if not answered:
                raise FetchError(str(error)) from error
            if failures >= _TRIES:
                raise FetchError(f"it sent only {have} of {size} bytes ({error})") from error
            time.sleep(_PAUSE_S * 2 ** (failures - 1))


def fetch_small(url: str, limit: int, token: str | None = None) -> bytes:
    """Get the whole answer from `url`, at most `limit` bytes, asked for once. Raises FetchError."""
    try:
        with _answer(url, 0, token) as (response, connected):
            _refuse_failure(response)
            body = b""
            while len(body) <= limit:
                with _deadline(connected):
                    block = response.read(min(_BLOCK, limit + 1 - len(body)))
                if not block:
                    return body
                body += block
    except _Cut as error:
        raise FetchError(str(error)) from error
    raise FetchError(f"its answer is longer than {limit} bytes")


def checked_url(url: str) -> urllib.parse.SplitResult:
    """Split an http or https address into its parts. Raises ValueError, which says what is wrong with any other."""
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("it has spaces or control characters in it")
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("it doesn't begin with https:// or http://")
    if not parts.hostname:
        raise ValueError("it names no host")
    if "@" in parts.netloc:
        raise ValueError("it holds a user name, and none is ever sent")
    _ = parts.port  # ValueError where that is no port
    if ":" not in parts.hostname:
        try:
            parts.hostname.encode("idna")
        except UnicodeError:
            raise ValueError("its host name is none") from None
    return parts


@contextmanager
def _answer(
    url: str, have: int, token: str | None = None
) -> Iterator[tuple[http.client.HTTPResponse, socket.socket]]:
    """Get the answer for the bytes from `have` on, once redirects are followed, and its socket."""
    named = _server(url)
    for _ in range(_REDIRECTS):
        connection, target, headers = _request(url)
        if token and _server(url) == named and is_private(url, target):
            headers["Authorization"] = f"Bearer {token}"
        if have:
            headers["Range"] = f"bytes={have}-"
        try:
            try:
                connection.request("GET", target, headers=headers)
            except (OSError, http.client.HTTPException, UnicodeError) as error:
                raise _Cut(_words(error)) from error
            connected = connection.sock  # the connection forgets it, as it is used for one answer alone
            with _deadline(connected):
                response = connection.getresponse()
            with response:
                if response.status not in (301, 302, 303, 307, 308):
                    yield response, connected
                    return
                url = _redirected(url, response.headers.get("Location") or "")
        finally:
            connection.close()
    raise FetchError(f"more than {_REDIRECTS} redirects")


def _server(url: str) -> tuple[str, str | None, int | None]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def is_private(url: str, target: str = "/") -> bool:
    """Tell whether nobody on the way can read what is sent; `target` is a whole address where a proxy is asked."""
    scheme, host, _ = _server(url)
    return scheme == "https" or (host in ("localhost", "127.0.0.1", "::1") and target.startswith("/"))


def _redirected(url: str, location: str) -> str:
    try:
        there = urllib.parse.urljoin(url, location)
        checked_url(there)
    except ValueError as error:
        raise FetchError(f"it redirects to an address that isn't followed: {error}") from error
    return there


def _request(url: str) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
    """Make a connection to the host, or to the proxy on the way there, what to ask it for, and with which headers."""
    parts = checked_url(url)
    host, port, secure = str(parts.hostname), parts.port, parts.scheme == "https"
    target = urllib.parse.quote(parts.path or "/", safe="%/:=&~+!$,;'@()*[]")
    if parts.query:
        target += "?" + urllib.parse.quote(parts.query, safe="%/:=&?~+!$,;'@()*[]")
    headers = {"User-Agent": "san-seg", "Accept-Encoding": "identity", "Connection": "close"}
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(parts.netloc):
        via, secret = _proxy(proxy)
        if secure:
            tunnel = http.client.HTTPSConnection(*via, timeout=_silence(), context=_trusted())
            tunnel.set_tunnel(host, port or 443, secret)
            return tunnel, target, headers
        return (
            http.client.HTTPConnection(*via, timeout=_silence()),
            f"http://{parts.netloc}{target}",
            headers | secret,
        )
    if secure:  # the port is always named, as the end of an IPv6 address would be taken for one
        return (
            http.client.HTTPSConnection(host, port or 443, timeout=_silence(), context=_trusted()),
            target,
            headers,
        )
    return http.client.HTTPConnection(host, port or 80, timeout=_silence()), target, headers


def _proxy(proxy: str) -> tuple[tuple[str, int], dict[str, str]]:
    """Find host and port of an HTTP proxy, and the header that lets us through it."""
    try:
        parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = parts.hostname, parts.port or 80
    except ValueError as error:
        raise FetchError(f"the proxy's address is none ({error})") from error
    if parts.scheme != "http" or not host:
        raise FetchError(f"the proxy must be an http:// one, not {parts.scheme}://{host or ''}")
    if parts.username is None:
        return (host, port), {}
    pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    return (host, port), {"Proxy-Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _trusted() -> ssl.SSLContext:
    """Load the system's certificates, those of `certifi` where it is installed, and those the user names."""
    context = ssl.create_default_context()  # follows SSL_CERT_FILE and SSL_CERT_DIR
    with suppress(ImportError, OSError):
        import certifi

        context.load_verify_locations(certifi.where())
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if bundle := os.environ.get(name):
            with suppress(OSError):
                context.load_verify_locations(bundle)
    return context


def _silence() -> float:
    """Seconds without a byte after which a server is left; `$HF_HUB_DOWNLOAD_TIMEOUT`."""
    try:
        return min(600.0, max(0.1, float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT", ""))))
    except ValueError:
        return 10.0


@contextmanager
def _deadline(connected: socket.socket) -> Iterator[None]:
    """Hang up where the block takes too long, however busy the server keeps us; _Cut where reading fails."""
    late = threading.Event()

    def hang_up() -> None:
        late.set()
        with suppress(OSError):
            socket.socket.shutdown(
                connected, socket.SHUT_RDWR
            )  # not SSLSocket's, which would read on in the clear

    timer = threading.Timer(_BLOCK_WITHIN_S, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        if not late.is_set():
            raise _Cut(_words(error)) from error
    finally:
        timer.cancel()
    if late.is_set():
        raise FetchError(f"it sends less than {_BLOCK / 1000 / _BLOCK_WITHIN_S:.0f} kB a second")


def _place(response: http.client.HTTPResponse, have: int, size: int) -> int:
    """Find where in the file the answer's bytes begin. Raises FetchError for an answer that isn't about this file."""
    status = _refuse_failure(response)
    length = response.headers.get("Content-Length", "")
    if response.headers.get_content_type() == "text/html" and length != str(size):
        raise FetchError("the answer is a web page (a login page or a proxy's?)")
    if status == 206:
        if not re.fullmatch(
            rf"bytes {have}-{size - 1}/({size}|\*)", response.headers.get("Content-Range", "")
        ):
            raise FetchError("it offers another part of a file than was asked for")
        return have
    if re.fullmatch("[0-9]{1,18}", length) and int(length) != size:
        raise FetchError(f"it offers another file ({int(length)} bytes, expected {size})")
    return 0


def _refuse_failure(response: http.client.HTTPResponse) -> int:
    """Return the status of an answer that brings what was asked for. Raises FetchError or _Cut for any other."""
    status = response.status
    if status in (200, 206):
        return status
    reason = _REASON.get(response.headers.get("X-Error-Code", ""))
    meaning = reason or _MEANING.get(status, "server error" if status >= 500 else "unexpected")
    failure = f"it answered {status} ({meaning})"
    raise _Cut(failure) if status >= 500 else FetchError(failure, status)


def _words(error: Exception) -> str:
    """Find a few words for a failure of the network; what a server said is cut short."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate can't be trusted ({error.verify_message}; SSL_CERT_FILE names others)"
    said = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(said).splitlines()[0][:200].rstrip(".")
