"""The two checkpoints that SAN's authors published: their pinned hashes, and how to get them from the hub."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from san_cli.errors import SanError
from san_cli.weights_sha256 import rehash, weights_sha256


@dataclass(frozen=True)
class OfficialFile:
    """A published checkpoint, pinned by commit, size and hash."""

    preset_name: str
    repo: str
    revision: str  # the commit that added the file; it hasn't changed since
    filename: str
    size: int  # bytes
    sha256: str

    @property
    def url(self) -> str:
        """Where a browser or curl finds it."""
        return f"https://huggingface.co/{self.repo}/resolve/{self.revision}/{self.filename}"


# Size and sha256 as the Git LFS pointers state them: https://huggingface.co/Mendel192/san/commit/<revision>
OFFICIAL: dict[str, OfficialFile] = {
    "vit-b-16": OfficialFile(
        preset_name="vit-b-16",
        repo="Mendel192/san",
        revision="112fe8bb08fb0a0d9aefa563b7def88ce979f759",
        filename="san_vit_b_16.pth",
        size=698_678_283,
        sha256="d616d2767b206d66b70a7742398c9b818beaf9742e134894449196af11bf19da",
    ),
    "vit-l-14": OfficialFile(
        preset_name="vit-l-14",
        repo="Mendel192/san",
        revision="ffc7de2be5e365ef73008d2c5b835ccbc0e7b8e4",
        filename="san_vit_large_14.pth",
        size=1_821_680_110,
        sha256="dd605f75f8ec66a107164b064c3ef217deae2848349dc52e6eab6f0b071bf12c",
    ),
}


def cached_copy(official: OfficialFile) -> Path | None:
    """The file in the Hugging Face cache (which follows HF_HOME) with its content not checked, or None."""
    from huggingface_hub import try_to_load_from_cache

    for revision in (official.revision, "main"):  # the official demo downloads "main"
        try:
            found = try_to_load_from_cache(official.repo, official.filename, revision=revision)
        except (OSError, ValueError):  # unreadable folder, garbage in refs/
            continue
        if isinstance(found, str):
            return Path(found)
    return None


def is_published(path: Path, official: OfficialFile) -> bool:
    """Whether the bytes are the published ones (hashed on first use only). Raises OSError."""
    return path.stat().st_size == official.size and weights_sha256(path) == official.sha256


def download(official: OfficialFile, *, say: Callable[[str], None]) -> Path:
    """Fetch the file into the Hugging Face cache, replacing a copy there, and return its path.

    Progress goes to stderr. Size and sha256 must be the pinned ones, first as the hub states them, then over
    the bytes that came. Raises SanError, with every way to get the file, where no good file came.
    """
    from huggingface_hub import hf_hub_download

    try:
        _check_offer(official)
        _check_space(official)
        say(f"downloading {official.filename} ({megabytes(official.size)}) from {_endpoint()}")
        path = Path(
            hf_hub_download(official.repo, official.filename, revision=official.revision, force_download=True)
        )
        size, sha256 = path.stat().st_size, rehash(path)
    except SanError:
        raise
    except Exception as error:  # the types depend on the HTTP library, which changes with huggingface_hub
        raise _failed(official, _why(error)) from error
    if (size, sha256) != (official.size, official.sha256):
        _remove(path)
        difference = _difference(official, size, sha256)
        raise _failed(official, f"what came is not the published file ({difference}); it was deleted")
    say(f"its sha256 is right; kept as {path}")
    return path


def ways_to_get(official: OfficialFile) -> str:
    """What to type to get the file, with a network, on another machine, or through a mirror."""
    return (
        f"On a machine with network access, either of\n"
        f"  san weights get {official.preset_name}\n"
        f"  curl -L -o {official.filename} {official.url}\n"
        f"gives the file ({official.size} bytes, sha256 {official.sha256}).\n"
        f"Copy it here as weights/{official.filename}, or name it with --weights FILE or SAN_WEIGHTS=FILE.\n"
        f"Where huggingface.co is blocked, a mirror may work: "
        f"HF_ENDPOINT=https://MIRROR san weights get {official.preset_name}"
    )


def megabytes(size: int) -> str:
    """`size` bytes as people read them on download pages: 10⁶ bytes to the megabyte."""
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size} bytes"


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _check_offer(official: OfficialFile) -> None:
    """Refuse another file before hundreds of megabytes of it are fetched.

    One request without retries, so that being offline shows at once. A mirror need not state size or sha256.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise _failed(official, "HF_HUB_OFFLINE is set")
    offer = get_hf_file_metadata(hf_hub_url(official.repo, official.filename, revision=official.revision))
    if offer.commit_hash is None or offer.etag is None:
        raise _failed(official, "the answer doesn't come from a Hugging Face hub (a login page or a proxy?)")
    sha256 = offer.etag.lower() if len(offer.etag) == 64 else official.sha256
    size = official.size if offer.size is None else offer.size
    if (size, sha256) != (official.size, official.sha256):
        raise _failed(official, f"it offers another file ({_difference(official, size, sha256)})")


def _check_space(official: OfficialFile) -> None:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < official.size:
        raise _failed(official, f"{folder} has {megabytes(free)} free (HF_HOME moves the Hugging Face cache)")


def _difference(official: OfficialFile, size: int, sha256: str) -> str:
    if size != official.size:
        return f"{size} bytes, expected {official.size}"
    return f"sha256 {sha256}, expected {official.sha256}"


def _remove(path: Path) -> None:
    """Take a bad file out of the Hugging Face cache: the blob and the link to it."""
    for file in (path.resolve(), path):
        file.unlink(missing_ok=True)


def _failed(official: OfficialFile, why: str) -> SanError:
    message = f"can't get the weights of {official.preset_name} from {_endpoint()}: {why}"
    return SanError(message, hint=ways_to_get(official))


_STATUS = {401: "not authorised", 403: "access refused", 404: "no such file", 429: "too many requests"}


def _why(error: Exception) -> str:
    """The cause in a few words: the HTTP status or the system's error, wherever in the chain it stands."""
    link: BaseException | None = error
    while link is not None:
        status = getattr(getattr(link, "response", None), "status_code", None)
        if isinstance(status, int):
            meaning = _STATUS.get(status, "server error" if status >= 500 else "unexpected")
            return f"it answered {status} ({meaning})"
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
        link = link.__cause__ or link.__context__
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
