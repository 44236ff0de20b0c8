"""Weights in anybody's repository on the hub: which file, at which commit, and a copy that is that file to the byte.

What a repository holds, and with which hashes, is what the hub says of the commit; it is kept beside the files, in
`$SAN_HOME/downloads/hf`, so that the same name means the same bytes when the hub can't be asked. Nothing but
safetensors is fetched, or a published file whose sha256 san knows: no pickle of a stranger's.
"""

import json
import os
import re
import urllib.parse
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from san_cli.errors import SanError, did_you_mean
from san_cli.files import atomic_write
from san_cli.text import nearest, printable, quoted
from san_cli.weights.cache_dir import read_small
from san_cli.weights.fetch import FetchError, fetch_small
from san_cli.weights.hub import (
    CLIP,
    HUGGING_FACE,
    OFFICIAL,
    OfficialFile,
    download,
    downloads,
    hub_cache,
    hub_endpoint,
    is_offline,
    is_published,
)
from san_cli.weights.hub_name import HubName

_LONGEST_LISTING = 1 << 24  # bytes
_LONGEST_CONFIG = 1 << 20
_LONGEST_TOKEN = 1 << 12
_CONFIGS = ("open_clip_config.json", "config.json")  # beside a CLIP: which GELU it was trained with
_OF_CLIP = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
# What a name meant first in this process, it means to the end: a copy, or what is to be downloaded.
_resolved: dict[tuple[str, ...], Path | OfficialFile] = {}


@dataclass(frozen=True)
class _File:
    size: int  # bytes
    sha256: str  # "" for a file in git itself, of which there is a sha1
    git_sha1: str


@dataclass(frozen=True)
class _Listing:
    """The files of a repository at a commit, by their path there."""

    commit: str
    files: Mapping[str, _File]
    is_whole: bool = True  # else these are what somebody has downloaded of it


def hub_file(name: HubName, *, say: Callable[[str], None], clip: bool = False) -> Path:
    """Get a file on the hub: the copy that is here if it is that file, else downloaded. `say` is told which commit.

    Without a name of the file it is the repository's only safetensors, or its `model.safetensors`; with `clip`,
    open_clip's, and what tells of its activation comes with it. A branch that can't be asked for means the commit
    that it meant last time. Raises SanError.
    """
    key, found = _key(name, clip), hub_file_or_source(name, say=say, clip=clip)
    if not isinstance(found, Path):
        found = _resolved[key] = download(found, say=say, ways=_ways(name), token=hub_token())
    return found


def hub_file_or_source(
    name: HubName, *, say: Callable[[str], None], clip: bool = False
) -> Path | OfficialFile:
    """Find the copy that `hub_file` would give, or tell what it would download; SanError as there."""
    key = _key(name, clip)
    if key not in _resolved:
        listing = _listed(name, key[0], say)
        file = _chosen(name, listing, clip=clip)
        _refuse_unsafe(name, file, listing.files[file])
        if clip:
            _get_configs(name, file, listing)
        here = _copy_here(name, file, listing)
        _resolved[key] = here or _official(name, file, listing)
    return _resolved[key]


def _key(name: HubName, clip: bool) -> tuple[str, ...]:
    return hub_endpoint(str(name), _ways(name)), str(downloads()), str(name), str(clip)


def hub_token() -> str | None:
    """Find the user's token for the hub: `$HF_TOKEN`, or the file where `hf auth login` puts it."""
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if token := os.environ.get(variable, "").strip():
            return token if re.fullmatch(r"[\x21-\x7e]+", token) else None
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    path = os.path.expanduser(os.environ.get("HF_TOKEN_PATH") or f"{home}/token")  # noqa: PTH111
    try:
        token = read_small(Path(path), _LONGEST_TOKEN).decode("ascii").strip()
    except (OSError, ValueError):
        return None
    return token if re.fullmatch(r"[\x21-\x7e]+", token) else None


def _listed(name: HubName, endpoint: str, say: Callable[[str], None]) -> _Listing:
    """Find the commit and its files: as kept if it is named, else as the hub says, else as the hub said last."""
    folder = _folder(name)
    kept = _kept(folder, name.revision if name.is_pinned else _kept_commit(folder, name.revision))
    if kept is not None and name.is_pinned:
        return kept
    kept = kept or _of_hub_cache(name)
    if is_offline():
        if kept is None:
            raise SanError(f"can't get {name}: HF_HUB_OFFLINE is set, and no copy is here", hint=_ways(name))
        if not name.is_pinned:
            say(f"{name} is taken at commit {kept.commit}, as last time (HF_HUB_OFFLINE is set)")
        return kept
    revision = urllib.parse.quote(name.revision, safe="")
    url = f"{endpoint}/api/models/{name.repo}/revision/{revision}?blobs=true"
    try:
        listing = _parsed(json.loads(fetch_small(url, _LONGEST_LISTING, hub_token())))
    except FetchError as error:
        failure = f"can't get {name} from {endpoint}: {error}"
        if kept is None or error.status in (401, 403, 404):
            raise SanError(failure, hint=_ways(name, error.status)) from error
        say(f"{failure}; it is taken at commit {kept.commit}, as last time")
        return kept
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SanError(
            f"can't get {name} from {endpoint}: its answer is not a list of the repository's files",
            hint=_ways(name),
        ) from error
    if name.is_pinned and listing.commit != name.revision:
        raise SanError(f"can't get {name} from {endpoint}: it answered with commit {listing.commit}")
    if not name.is_pinned:
        say(f"{name} is at commit {listing.commit}")
    _keep(folder, name.revision, listing)
    return listing


def _parsed(answer: Any) -> _Listing:
    """Read the hub's description of a repository. Raises ValueError, TypeError, KeyError or AttributeError."""
    files = {}
    for file in answer["siblings"]:
        lfs = file.get("lfs") or {}
        size, sha256, sha1 = (
            lfs.get("size", file.get("size")),
            lfs.get("sha256", ""),
            file.get("blobId") or "",
        )
        if isinstance(size, int) and size >= 0 and (_is_hex(sha256, 64) or (not lfs and _is_hex(sha1, 40))):
            files[str(file["rfilename"])] = _File(size, sha256, "" if lfs else sha1)
    if not _is_hex(answer["sha"], 40):
        raise ValueError("no commit")
    return _Listing(answer["sha"], files)


def _is_hex(digits: object, count: int) -> bool:
    return isinstance(digits, str) and re.fullmatch(f"[0-9a-f]{{{count}}}", digits) is not None


def _chosen(name: HubName, listing: _Listing, *, clip: bool) -> str:
    """Choose the file. Raises SanError where there is none, or several."""
    files = listing.files
    if name.file in files:
        return name.file
    inside = [path for path in files if not name.file or path.startswith(f"{name.file}/")]
    if not inside and name.file:
        likely = did_you_mean(nearest(name.file, files))
        raise SanError(
            f"{name}: the repository has no such file at commit {listing.commit}",
            hint=likely or f"It holds {_some(sorted(files)) or 'nothing that can be read'}.",
        )
    held = sorted(path for path in inside if path.endswith(".safetensors"))
    likeliest = [*(_OF_CLIP if clip else ()), "model.safetensors"]
    for preferred in likeliest if listing.is_whole else likeliest[:1]:
        for path in (preferred, f"{name.file}/{preferred}"):
            if path in held:
                return path
    if not listing.is_whole:
        raise SanError(
            f"{name} can't be looked up, and of its files only {_some(sorted(inside)) or 'others'} are here",
            hint=f"If one of them is meant, name it: hf:{name.repo}/FILE",
        )
    if len(held) == 1:
        return held[0]
    if held:
        raise SanError(f"{name} holds {_some(held)}", hint=f"Name one of them: hf:{name.repo}/{held[0]}")
    others = sorted(path for path in inside if path.endswith((".pth", ".pt", ".bin", ".ckpt", ".pkl")))
    if len(others) == 1:
        return others[0]  # which is refused unless it is the authors' own
    raise SanError(
        f"{name} holds no weights that san reads, but {_some(others or sorted(inside)) or 'nothing'}",
        hint="Weights are a .safetensors there: `san weights push` puts one into a repository.",
    )


def _some(paths: list[str]) -> str:
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return printable(", ".join(paths[:5])) + more


def _refuse_unsafe(name: HubName, path: str, file: _File) -> None:
    """Raise SanError for what isn't safetensors, unless it is one of the published files that san knows."""
    known = {official.sha256 for official in (*OFFICIAL.values(), *CLIP.values())}
    if path.endswith(".safetensors") or file.sha256 in known:
        return
    if not path.endswith((".pth", ".pt", ".bin", ".ckpt", ".pkl")):
        raise SanError(f"{quoted(path)} in {name} is no .safetensors file", hint="Name one that is.")
    raise SanError(
        f"{name} is not fetched: {quoted(path)} is a pickle, which can hold a program",
        hint="Ask its owner for a .safetensors: `san weights convert FILE.pth model.safetensors` makes one, and "
        "`san weights push` uploads it. Or download it yourself and name the file: san runs nothing that is in it.",
    )


def hub_file_here(name: HubName) -> Path:
    """Find the copy of a file on the hub that is on this machine, at the commit that the name meant last."""
    commit = name.revision if name.is_pinned else _kept_commit(_folder(name), name.revision)
    listing = _kept(_folder(name), commit) or _of_hub_cache(name)
    if listing is not None:
        here = _copy_here(name, _chosen(name, listing, clip=False), listing)
        if here is not None:
            return here
    raise SanError(f"no copy of {name} on this machine", hint=f"Download it: san weights get {name}")


def _copy_here(name: HubName, path: str, listing: _Listing) -> Path | None:
    """Find the copy that we or huggingface_hub have, if it is that file to the byte."""
    official = _official(name, path, listing)
    snapshot = _in_hub_cache(name) / "snapshots" / listing.commit / path
    for copy in (downloads() / official.local_name, snapshot):
        with suppress(OSError, SanError):  # a damaged one is downloaded anew
            if is_published(copy, official):
                return copy
    return None


def _get_configs(name: HubName, path: str, listing: _Listing) -> None:
    """Put beside a CLIP what says with which activation it was trained; without it only a note is missing."""
    for config in _CONFIGS:
        beside = f"{path.rpartition('/')[0]}/{config}".lstrip("/")
        if beside in listing.files and listing.files[beside].size <= _LONGEST_CONFIG and not is_offline():
            official = _official(name, beside, listing)
            with suppress(SanError):
                download(official, say=lambda _: None, ways=_ways(name), token=hub_token())


def _official(name: HubName, path: str, listing: _Listing) -> OfficialFile:
    file = listing.files[path]
    folder, _, base = path.rpartition("/")
    kept_as = "/".join(
        urllib.parse.quote(part, safe=" ")[-120:].lstrip(".") for part in (folder, base) if part
    )
    return OfficialFile(
        str(name),
        name.repo,
        listing.commit,
        path,
        file.size,
        file.sha256,
        f"hf/{_folder(name).name}/{listing.commit}/{kept_as}",
        file.git_sha1,
    )


# What the hub said of a repository


def _folder(name: HubName) -> Path:
    return downloads() / "hf" / f"models--{name.repo.replace('/', '--')}"


def _of_hub_cache(name: HubName) -> _Listing | None:
    """Read what huggingface_hub has downloaded of a repository: links to files that are called by their hashes."""
    folder = _in_hub_cache(name)
    files: dict[str, _File] = {}
    with suppress(OSError, ValueError):
        reference = folder / "refs" / name.revision
        commit = name.revision if name.is_pinned else read_small(reference, 100).decode("ascii").strip()
        if not _is_hex(commit, 40):
            return None
        for path in sorted((folder / "snapshots" / commit).rglob("*")):
            digits = Path(os.path.realpath(path)).name
            if path.is_symlink() and path.is_file() and (_is_hex(digits, 64) or _is_hex(digits, 40)):
                inside = path.relative_to(folder / "snapshots" / commit).as_posix()
                sha256, sha1 = (digits, "") if len(digits) == 64 else ("", digits)
                files[inside] = _File(path.stat().st_size, sha256, sha1)
        return _Listing(commit, files, is_whole=False) if files else None
    return None


def _in_hub_cache(name: HubName) -> Path:
    return hub_cache() / f"models--{name.repo.replace('/', '--')}"


def _kept_commit(folder: Path, revision: str) -> str:
    with suppress(OSError, ValueError):
        commit = read_small(_of_revision(folder, revision), 100).decode("ascii").strip()
        return commit if _is_hex(commit, 40) else ""
    return ""


def _kept(folder: Path, commit: str) -> _Listing | None:
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        if commit:
            files = json.loads(read_small(folder / commit / "files.json", _LONGEST_LISTING))
            return _Listing(commit, {path: _File(**file) for path, file in files.items()})
    return None


def _keep(folder: Path, revision: str, listing: _Listing) -> None:
    files = {path: asdict(file) for path, file in listing.files.items()}
    with suppress(OSError):  # a cache that can't be written is told of when a file is to go there
        (folder / listing.commit).mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / listing.commit / "files.json") as file:
            file.write(json.dumps(files).encode())
        with atomic_write(_of_revision(folder, revision)) as file:
            file.write(listing.commit.encode())


def _of_revision(folder: Path, revision: str) -> Path:
    return folder / f"{urllib.parse.quote(revision, safe='')[:200]}.commit"


def _ways(name: HubName, status: int = 0) -> str:
    page = f"{HUGGING_FACE}/{name.repo}"
    if status in (401, 403, 404):
        return (
            f"Look at {page}: is it spelt so? A private repository, and one that asks for consent, wants HF_TOKEN, "
            "the token of somebody who may read it (sent over https alone)."
            + ("" if hub_token() else " No token is set.")
        )
    if status == 429:
        return "Wait some minutes; HF_TOKEN, a token of yours, has a limit of its own."
    return (
        f"On a machine with network access, download the file from {page} and name it here. Where huggingface.co is "
        "blocked, a mirror may work: HF_ENDPOINT=https://MIRROR"
    )
