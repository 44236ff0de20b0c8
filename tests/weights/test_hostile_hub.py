"""A hub or a mirror that means harm: whatever it answers, no file but ours is written, changed or removed."""

import base64
import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from program import hub_environment, tree
from weights_server import FakeHub, serve

from san_cli.errors import SanError
from san_cli.weights import fetch, hub
from san_cli.weights.find import find_weights
from san_cli.weights.hub import OFFICIAL, OfficialFile

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
B16 = OFFICIAL["vit-b-16"]
FILE = OfficialFile("vit-b-16", B16.repo, B16.revision, B16.filename, len(CONTENT), SHA256)
OURS = "home/.cache/san/"
TOKEN = "hf_secretSecretSecret"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home with things worth stealing, changing and deleting, and nothing of ours."""
    home = tmp_path / "home"
    for name, text in {
        ".ssh/authorized_keys": "ssh-ed25519 AAAA me\n",
        ".netrc": f"machine 127.0.0.1 login me password {TOKEN}\nmachine localhost login me password {TOKEN}\n",
        ".cache/huggingface/token": TOKEN,
        ".cache/huggingface/hub/models--Mendel192--san/refs/main": "f" * 40,
        "thesis.tex": "years of work",
        "san_vit_b_16.pth": "mine",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    for name in os.environ:
        if name not in hub_environment():
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", TOKEN)
    monkeypatch.chdir(home)
    monkeypatch.setattr(fetch, "_PAUSE_S", 0.001)
    monkeypatch.setattr(fetch, "_BLOCK_WITHIN_S", 0.5)
    return home


def _of_others(home: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree(home.parent).items() if not name.startswith(OURS)}


def attacked(hub_: FakeHub, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Download from that hub. Returns what was said of the failure, "" for none; nothing else may have happened."""
    monkeypatch.setenv("HF_ENDPOINT", hub_.endpoint)
    before = _of_others(home)
    failure, code = "", 2
    try:
        assert hub.download(FILE, say=lambda _: None).read_bytes() == CONTENT
    except SanError as error:
        failure, code = error.message, error.code
    assert code == 2
    assert _of_others(home) == before
    after = tree(home.parent)
    ours = {name for name in after if name.startswith(OURS)}
    downloads = "home/.cache/san/downloads/san_vit_b_16.pth"
    assert ours <= {downloads, f"{downloads}.part"} | {name for name in ours if "/sha256/" in name}
    assert (downloads in ours) == (not failure)
    assert len(after.get(f"{downloads}.part", b"")) <= FILE.size
    secrets = (TOKEN, base64.b64encode(f"me:{TOKEN}".encode()).decode())
    for headers in hub_.received:
        assert headers.keys() <= {"host", "user-agent", "accept-encoding", "connection", "range"}
        assert not any(secret in value for value in headers.values() for secret in secrets)
    return failure


NAMES = {
    "climbing": "../../../../../.ssh/authorized_keys",
    "absolute": "{home}/.ssh/authorized_keys",
    "quoted": '"../../.ssh/authorized_keys"',
    "NUL": "a\0b",
    "empty": '""',
    "another file's": hashlib.sha256(b"another").hexdigest(),
    "long": "a" * 30_000,
    "dots": "..",
}


@pytest.mark.parametrize("value", NAMES.values(), ids=NAMES.keys())
def test_no_header_becomes_a_name(value: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever header it is in; the bytes are right, so that nothing stops before they get a name."""
    value = value.replace("{home}", str(home))
    headers = {
        "X-Linked-Etag": value,
        "ETag": value,
        "X-Repo-Commit": value,
        "Content-Disposition": f"attachment; filename=\"{value}\"; filename*=UTF-8''{value}",
        "X-Linked-Size": "1",
        "X-Xet-Hash": value,
    }
    with serve(CONTENT, headers=headers) as fake:
        assert attacked(fake, home, monkeypatch) == ""
    with serve(CONTENT[::-1], headers=headers) as fake:
        (home / ".cache/san/downloads/san_vit_b_16.pth").unlink()
        assert "not the published file" in attacked(fake, home, monkeypatch)


def test_each_answer_may_differ_from_the_one_before(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(CONTENT, "reset once", headers={"ETag": "../../x"}) as fake:
        assert attacked(fake, home, monkeypatch) == ""
        assert len(fake.asked) == 4  # redirect and bytes, twice


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "data:,x",
        "javascript:x",
        "http://[::1",
        "http://host:port/",
        "http://user:password@127.0.0.1/",
        "//\x7f/",
        "http://a..b/",
    ],
)
def test_redirects_that_are_not_followed(location: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(CONTENT, location=location) as fake:
        assert "isn't followed" in attacked(fake, home, monkeypatch)


def test_a_redirect_loop_ends(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(CONTENT, location="/again") as fake:
        assert "redirects" in attacked(fake, home, monkeypatch)
        assert len(fake.asked) == 10


@pytest.mark.parametrize(
    ("fault", "headers", "said"),
    [
        ("endless", {}, "not the published file"),
        ("drip", {}, "kB a second"),
        ("endless headers", {}, "headers"),
        ("long header", {}, "header line"),
        ("100 for ever", {}, "kB a second"),
        ("no HTTP", {}, ""),
        ("cut every time", {}, "bytes"),
        ("gzip", {"Content-Length": "102"}, "offers another file"),
        ("gzip", {"Content-Length": str(FILE.size)}, "bytes"),
        ("", {"Content-Length": "9" * 5000}, ""),
        ("", {"Content-Length": "-1"}, ""),
        ("", {"Content-Length": str(FILE.size - 1)}, "offers another file"),
        ("", {"Content-Length": str(FILE.size + 1)}, "offers another file"),
        ("", {"Transfer-Encoding": "chunked"}, "bytes"),
    ],
)
def test_answers_without_end_or_measure(
    fault: str, headers: dict[str, str], said: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(CONTENT, fault, headers=headers) as fake:
        failure = attacked(fake, home, monkeypatch)
    if said:
        assert said in failure


def test_a_server_that_begins_anew_and_cuts_for_ever_is_left(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_WORTH_IT", 1)
    with serve(CONTENT, "cut here and there") as fake:
        monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
        with pytest.raises(SanError, match="sent only"):
            hub.download(FILE, say=lambda line: None)
    assert len(fake.asked) < 20


def test_a_redirect_to_a_foreign_name_through_a_proxy(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which an HTTP proxy can't be asked in its own letters."""
    with serve(CONTENT, location="http://b\xfccher.example/cdn") as fake:
        monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
        monkeypatch.setenv("http_proxy", fake.endpoint)
        with pytest.raises(SanError, match="can't get"):
            hub.download(FILE, say=lambda line: None)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux to see what is open")
@pytest.mark.parametrize("fault", ["", "wrong bytes"])
def test_where_files_can_not_be_locked_none_is_renamed_or_removed_while_open(
    fault: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, which refuses that."""

    def refusing(method: str) -> None:
        real = getattr(Path, method)

        def checked(self: Path, *args: object, **options: object) -> object:
            opened = [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()]
            assert os.path.realpath(self) not in opened
            return real(self, *args, **options)

        monkeypatch.setattr(Path, method, checked)

    monkeypatch.setattr(hub, "fcntl", None)
    refusing("replace")
    refusing("unlink")
    with serve(CONTENT, fault) as fake:
        monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
        if fault:
            with pytest.raises(SanError, match="not the published file"):
                hub.download(FILE, say=lambda line: None)
        else:
            assert hub.download(FILE, say=lambda line: None).read_bytes() == CONTENT


def test_a_wrong_beginning_from_another_server_is_fetched_anew(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = home / ".cache/san/downloads/san_vit_b_16.pth.part"
    part.parent.mkdir(parents=True)
    for beginning in (b"!" * 1000, b"!" * FILE.size, b"!" * (FILE.size + 9), CONTENT[:1000]):
        part.write_bytes(beginning)
        with serve(CONTENT) as fake:
            assert attacked(fake, home, monkeypatch) == ""
        (part.parent / "san_vit_b_16.pth").unlink()
    part.write_bytes(CONTENT[:1000])
    with serve(CONTENT, "another part") as fake:
        assert "another part" in attacked(fake, home, monkeypatch)


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_is_no_file_in_the_place_of_the_download(
    kind: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = home / ".cache/san/downloads/san_vit_b_16.pth.part"
    part.parent.mkdir(parents=True)
    if kind == "pipe":
        os.mkfifo(part)
    elif kind == "link":
        part.symlink_to(home / "thesis.tex")
    else:
        part.mkdir()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SanError, match=r"san_vit_b_16\.pth\.part'"):
        hub.download(FILE, say=lambda _: None)
    assert (home / "thesis.tex").read_text() == "years of work"


def test_a_cached_copy_with_a_false_seal_blocks_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OFFICIAL, "vit-b-16", FILE)
    header = b'{"__metadata__":{"sha256":"' + b"0" * 64 + b'"}}'
    false = len(header).to_bytes(8, "little") + header
    cached = home / ".cache/huggingface/hub/models--Mendel192--san/snapshots/x/san_vit_b_16.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(false + b"\0" * (FILE.size - len(false)))
    said: list[str] = []
    with serve(CONTENT) as fake:
        monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
        assert find_weights("vit-b-16", None, say=said.append).read_bytes() == CONTENT
    assert "is not used" in said[0]


def test_the_proxys_password_goes_to_the_proxy_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect to a host without proxy is followed without it."""
    with serve(CONTENT) as origin, serve(CONTENT, location=f"{origin.endpoint}/cdn") as proxy:
        monkeypatch.setenv("http_proxy", proxy.endpoint.replace("//", "//me:word@"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example")
        assert hub.download(FILE, say=lambda _: None).read_bytes() == CONTENT
    assert proxy.asked == [f"GET http://mirror.example/{FILE.path}"]
    assert proxy.received[0]["proxy-authorization"] == "Basic " + base64.b64encode(b"me:word").decode()
    assert origin.asked == ["GET /cdn"]
    assert "proxy-authorization" not in origin.received[0]


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "http://[::1", "ftp://x", "http://:80"])
def test_proxies_that_can_not_be_used(proxy: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(SanError, match="the proxy"):
        hub.download(FILE, say=lambda _: None)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://[::1", "mirror.example", "ftp://mirror.example", "file:///tmp", "http://", "http://a b",
        "http://host:port", "https://me:word@mirror.example", "https://mirror.example?x=1", "://", "http://a..b",
        "http://\x1b[31m",
    ],
)  # fmt: skip
def test_an_endpoint_that_is_none(endpoint: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(SanError, match="HF_ENDPOINT") as caught:
        hub.download(FILE, say=lambda _: None)
    assert caught.value.code == 2
    assert caught.value.hint.startswith("Unset HF_ENDPOINT")


@pytest.mark.parametrize("host", ["[::1]", "[fe80::abcd]"])
def test_an_ipv6_address_without_a_port_has_the_usual_one(host: str, home: Path) -> None:
    for scheme, port in (("http", 80), ("https", 443)):
        connection, _, _ = fetch._request(f"{scheme}://{host}/file")
        assert (connection.host, connection.port) == (host.strip("[]"), port)


@pytest.mark.parametrize("endpoint", ["", "  ", "/"])
def test_an_empty_endpoint_is_none(endpoint: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SanError, match=r"from https://huggingface\.co: HF_HUB_OFFLINE"):
        hub.download(FILE, say=lambda _: None)


def test_a_mirror_below_a_path(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(CONTENT) as fake:
        monkeypatch.setenv("HF_ENDPOINT", f"{fake.endpoint}/hf ü/".replace(" ", ""))
        assert hub.download(FILE, say=lambda _: None).read_bytes() == CONTENT
    assert fake.asked[0] == f"GET /hf%C3%BC/{FILE.path}"


def test_a_folder_that_can_not_be_written_to(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAN_HOME", str(home / "thesis.tex"))
    with pytest.raises(SanError, match=r"thesis\.tex.*SAN_HOME names another") as caught:
        hub.download(FILE, say=lambda _: None)
    assert caught.value.code == 2


def test_a_home_with_a_tilde(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAN_HOME", "~/elsewhere")
    with serve(CONTENT) as fake:
        monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
        assert hub.download(FILE, say=lambda _: None) == home / "elsewhere/downloads/san_vit_b_16.pth"


@pytest.fixture
def killed(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub from which a process that was killed had begun to download."""
    with serve(CONTENT, "drip") as fake:
        monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
        code = (
            "from san_cli.weights.hub import *; import sys\n"
            "download(OfficialFile(*sys.argv[1:5], int(sys.argv[5]), sys.argv[6]), say=print)"
        )
        values = ["vit-b-16", B16.repo, B16.revision, B16.filename, str(FILE.size), SHA256]
        root = str(Path(__file__).resolve().parents[2])
        process = subprocess.Popen(
            [sys.executable, "-c", code, *values],
            env={**os.environ, "PYTHONPATH": root},
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert b"downloading" in process.stdout.readline() or True
        while not fake.asked.count("GET /cdn"):
            pass
        process.kill()
        process.wait()
        process.stdout.close()
        fake.fault = ""
        yield fake


def test_a_killed_download_is_gone_on_with(killed: FakeHub, home: Path) -> None:
    assert [path.name for path in (home / ".cache/san/downloads").iterdir()] == ["san_vit_b_16.pth.part"]
    hub.download(FILE, say=lambda _: None)
    assert [path.name for path in (home / ".cache/san/downloads").iterdir()] == ["san_vit_b_16.pth"]


def test_two_at_once_download_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(CONTENT) as fake:
        monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
        got: list[Path] = []
        threads = [
            threading.Thread(target=lambda: got.append(hub.download(FILE, say=lambda _: None)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {path.read_bytes() for path in got} == {CONTENT}
    assert len(got) == 4
    assert fake.asked.count("GET /cdn") == 1


def test_a_silent_server_is_left(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "0.1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(SanError, match="timed out"):
            hub.download(FILE, say=lambda _: None)


def test_odd_variables_stop_nothing_that_asks_no_hub(home: Path) -> None:
    """huggingface_hub, which open_clip imports, stops at them. In a process of its own, as it reads them once."""
    odd = {"HF_ENDPOINT": "http://[::1", "HF_HUB_ETAG_TIMEOUT": "1.5", "HF_HUB_DOWNLOAD_TIMEOUT": "soon"}
    code = (
        "import os; from san_cli import Segmenter; from open_clip import list_pretrained\n"
        "print([os.environ[name] for name in ('HF_ENDPOINT', 'HF_HUB_ETAG_TIMEOUT', 'HF_HUB_DOWNLOAD_TIMEOUT')])"
    )
    root = str(Path(__file__).resolve().parents[2])
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **odd, "PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, str(list(odd.values()))), ended.stderr
