"""Published weights: what they must be to the byte, and how to get them from a hub that isn't trusted.

Names, sizes and hashes of the authors' files come from the tables below alone (of others' files: see `repository`).
What a hub or a mirror sends goes into a file of ours in `$SAN_HOME/downloads`, which gets its name once it is known
to hold the published bytes; nothing else is written or removed. Copies that other programs put into the Hugging Face
cache are found and never touched.
"""

import os
import shutil
import stat
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from san_cli.errors import SanError
from san_cli.weights.cache_dir import cache_dir
from san_cli.weights.fetch import FetchError, checked_url, fetch
from san_cli.weights.file_hash import remember_sha256, stream_git_sha1, stream_sha256, weights_sha256

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two downloads apart there
    fcntl = None  # type: ignore[assignment]

HUGGING_FACE = "https://huggingface.co"
_LINE_EVERY_S = 10.0  # how often a log is told how far a download is


@dataclass(frozen=True)
class OfficialFile:
    """A published file, pinned by commit, size and hash."""

    model: str  # whose weights they are
    repo: str
    revision: str  # the commit that added the file; it hasn't changed since
    filename: str
    size: int  # bytes
    sha256: str
    kept_as: str = ""  # our name for it where the published one tells nothing
    git_sha1: str = ""  # instead of the sha256, of a file that a repository keeps in git itself

    @property
    def url(self) -> str:
        """Address for a browser or curl."""
        return f"{HUGGING_FACE}/{self.path}"

    @property
    def path(self) -> str:
        """The part of the address that is the same on every mirror."""
        return f"{self.repo}/resolve/{self.revision}/{self.filename}"

    @property
    def local_name(self) -> str:
        """Name of a copy on this machine."""
        return self.kept_as or self.filename

    def difference(self, file: BinaryIO) -> str:
        """Say in what an open file differs from the published one; "" if it doesn't."""
        kind = "sha256" if self.sha256 else "git sha1"
        expected = self.sha256 or self.git_sha1
        found = stream_sha256(file) if self.sha256 else stream_git_sha1(file)
        return "" if found == expected else f"{kind} {found}, expected {expected}"


# Size and sha256 as the Git LFS pointers state them: https://huggingface.co/Mendel192/san/commit/<revision>
OFFICIAL: dict[str, OfficialFile] = {
    "vit-b-16": OfficialFile(
        model="vit-b-16",
        repo="Mendel192/san",
        revision="112fe8bb08fb0a0d9aefa563b7def88ce979f759",
        filename="san_vit_b_16.pth",
        size=698_678_283,
        sha256="d616d2767b206d66b70a7742398c9b818beaf9742e134894449196af11bf19da",
    ),
    "vit-l-14": OfficialFile(
        model="vit-l-14",
        repo="Mendel192/san",
        revision="ffc7de2be5e365ef73008d2c5b835ccbc0e7b8e4",
        filename="san_vit_large_14.pth",
        size=1_821_680_110,
        sha256="dd605f75f8ec66a107164b064c3ef217deae2848349dc52e6eab6f0b071bf12c",
    ),
}

# OpenAI's CLIPs as open_clip gets them, by its names for the architectures.
CLIP: dict[str, OfficialFile] = {
    "ViT-B-16-quickgelu": OfficialFile(
        model="OpenAI's CLIP ViT-B/16",
        repo="timm/vit_base_patch16_clip_224.openai",
        revision="977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d",
        filename="open_clip_model.safetensors",
        size=598_516_980,
        sha256="4b8699299b1e8997753c64b052ba32031449d5d853f55a039148560ee02b820f",
        kept_as="clip_vit_b_16.safetensors",
    ),
    "ViT-L-14-336-quickgelu": OfficialFile(
        model="OpenAI's CLIP ViT-L/14 at 336 pixels",
        repo="timm/vit_large_patch14_clip_336.openai",
        revision="81e38efc4637de5023b10e75a7f9bd1c6fa6b010",
        filename="open_clip_model.safetensors",
        size=1_711_828_444,
        sha256="fbc415c3d0d7b79faed8f5ccfb740c32b7c4f5ffe7283b851f89c6231c01a8e0",
        kept_as="clip_vit_l_14_336.safetensors",
    ),
}


def cached_copies(official: OfficialFile) -> list[Path]:
    """List the copies that we downloaded or the Hugging Face cache has, content not checked; the likeliest first."""
    snapshots = hub_cache() / f"models--{official.repo.replace('/', '--')}" / "snapshots"
    try:
        revisions = sorted(entry.name for entry in os.scandir(snapshots))
    except OSError:
        revisions = []
    revisions.sort(key=lambda revision: revision != official.revision)
    candidates = [
        downloads() / official.local_name,
        *(snapshots / each / official.filename for each in revisions),
    ]
    return [path for path in candidates if os.path.isfile(path)]  # noqa: PTH113 (no error, as in a closed folder)


def is_published(path: Path, official: OfficialFile) -> bool:
    """Tell whether the file's bytes are the published ones (hashed on first use only). Raises OSError."""
    if path.stat().st_size != official.size:
        return False
    if official.sha256:
        return weights_sha256(path) == official.sha256
    with path.open("rb") as file:
        return not official.difference(file)


def good_copy(official: OfficialFile, say: Callable[[str], None]) -> Path | None:
    """Find the first cached copy that is the published file, to the byte; `say` is told of those that aren't."""
    for path in cached_copies(official):
        try:
            size = path.stat().st_size
            sha256 = weights_sha256(path)
        except SanError as error:  # it states a hash of its own, and isn't even that
            say(f"'{path}' is not used: {error.message}")
        except OSError as error:
            say(f"'{path}' is not used: {error.strerror}")
        else:
            if (size, sha256) == (official.size, official.sha256):
                return path
            say(
                f"'{path}' is not used: it is not the published file ({size} bytes, sha256 {sha256}; "
                f"expected {official.size} bytes, sha256 {official.sha256})"
            )
    return None


def download(
    official: OfficialFile, *, say: Callable[[str], None], ways: str = "", token: str | None = None
) -> Path:
    """Fetch the file into `$SAN_HOME/downloads` and return its path.

    A download that was cut short, or whose process was killed, is gone on with. Progress goes to stderr. Raises
    SanError where no good file came, with `ways` to get it (default: those for a SAN's weights).
    """
    ways = ways or ways_to_get(official)
    endpoint = hub_endpoint(official.model, ways)
    failure = f"can't get the weights of {official.model} from {endpoint}"
    if is_offline():
        raise SanError(f"{failure}: HF_HUB_OFFLINE is set", hint=ways)
    target = downloads() / official.local_name
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # One process downloads at a time; the others wait, and then find the file under its final name.
        partial = folder / f"{target.name}.part"
        with _alone(partial, say) as part:
            if os.path.isfile(target) and is_published(target, official):  # noqa: PTH113
                return target  # another process was first
            _check_space(official, folder, os.fstat(part.fileno()).st_size)
            say(f"downloading {official.filename} ({megabytes(official.size)}) from {endpoint}")
            wrong = _bring(official, f"{endpoint}/{urllib.parse.quote(official.path)}", part, say, token)
            if fcntl is None:  # Windows neither renames nor removes a file that is open
                part.close()
            if wrong:
                partial.unlink()
                raise FetchError(f"what came is not the published file ({wrong}); it was deleted")
            # Only now, with the right bytes on the disk, does it get its name.
            partial.replace(target)
            if official.sha256:
                remember_sha256(target, official.sha256)
    except FetchError as error:
        raise SanError(f"{failure}: {error}", hint=ways) from error
    except OSError as error:
        why = (
            f"'{error.filename or folder}' can't be written ({error.strerror}); SAN_HOME names another folder"
        )
        raise SanError(f"{failure}: {why}", hint=ways) from error
    say(f"its {'sha256' if official.sha256 else 'git sha1'} is right; kept as {target}")
    return target


def ways_to_get(official: OfficialFile) -> str:
    """Say what to type to get a SAN's weights, with a network, on another machine, through a mirror; or instead."""
    return (
        f"On a machine with network access, either of\n"
        f"  san weights get {official.model}\n"
        f"  curl -L -o {official.filename} {official.url}\n"
        f"gives the file ({official.size} bytes, sha256 {official.sha256}).\n"
        f"Copy it here as weights/{official.filename}, or name it with --weights FILE or SAN_WEIGHTS=FILE.\n"
        f"Where huggingface.co is blocked, a mirror may work: "
        f"HF_ENDPOINT=https://MIRROR san weights get {official.model}\n"
        f"Without any download: --model tiny knows emoji scenes (its weights come with san), and --weights random "
        f"shows how fast a model is."
    )


def megabytes(size: int) -> str:
    """Write `size` bytes as people read them on download pages: 10⁶ bytes to the megabyte."""
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size} bytes"


def downloads() -> Path:
    """The folder of what was downloaded; nothing is in it under its final name but what was found good."""
    return cache_dir() / "downloads"


def hub_cache() -> Path:
    """Find the folder where huggingface_hub keeps files, by the variables that it follows."""
    home = os.environ.get("HF_HOME") or os.path.join(  # noqa: PTH118
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface"
    )
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expanduser(named))  # noqa: PTH111 (which has no home to expand stays as it is)


def hub_endpoint(model: str, ways: str) -> str:
    """Return the address of the hub or mirror to ask. Raises SanError, with `ways`, where that is none."""
    named = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or HUGGING_FACE
    try:
        parts = checked_url(named)
        if parts.query or parts.fragment:
            raise ValueError("it is more than a server's address")
    except ValueError as error:
        raise SanError(
            f"can't get the weights of {model}: HF_ENDPOINT is '{named}', and {error}",
            hint=f"Unset HF_ENDPOINT to ask {HUGGING_FACE}.\n{ways}",
        ) from error
    return named


def is_offline() -> bool:
    """Tell whether the user wants no network used."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in names)


@contextmanager
def _alone(path: Path, say: Callable[[str], None]) -> Iterator[BinaryIO]:
    """Open `path`, made if need be, for reading and writing, while no other process downloads into it."""
    told = False
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    while True:
        descriptor = os.open(path, flags, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(None, "it is no file", str(path))
        with os.fdopen(descriptor, "r+b") as file:
            if _locked(file) and _is_same_file(path, file):
                yield file
                return
        if not told:
            say(f"waiting for another process, which is downloading into '{path.parent}'")
            told = True
        time.sleep(0.3)


def _locked(file: BinaryIO) -> bool:
    """Lock an open file until it is closed; False where another has it. A file system without locks grants all."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _is_same_file(path: Path, file: BinaryIO) -> bool:
    """Tell whether the open file still has its name: another process may have finished and renamed it."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _bring(
    official: OfficialFile, url: str, part: BinaryIO, say: Callable[[str], None], token: str | None
) -> str:
    """Complete the file. Returns what is wrong with the bytes that came, or ""."""
    begun = os.fstat(part.fileno()).st_size
    with _shown(official, say) as progress:
        fetch(url, part, official.size, progress, token)
    wrong = official.difference(part)
    if wrong and begun:  # what an earlier run left may have been another server's
        say("what was there of it was not its beginning; downloading it anew")
        part.truncate(0)
        with _shown(official, say) as progress:
            fetch(url, part, official.size, progress, token)
        wrong = official.difference(part)
    os.fsync(part.fileno())
    return wrong


@contextmanager
def _shown(official: OfficialFile, say: Callable[[str], None]) -> Iterator[Callable[[int], None]]:
    """Show how many bytes are there: a bar on a terminal, a line now and then elsewhere."""
    if sys.stderr is not None and sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=official.size, unit="B", unit_scale=True, desc=official.filename, leave=False) as bar:
            yield lambda done: bar.update(done - bar.n)
        return
    last = time.monotonic()

    def line(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY_S:
            last = time.monotonic()
            say(f"{official.filename}: {megabytes(done)} of {megabytes(official.size)}")

    yield line


def _check_space(official: OfficialFile, folder: Path, have: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < official.size - have:
        raise FetchError(f"'{folder}' has {megabytes(free)} free; SAN_HOME names another folder")
