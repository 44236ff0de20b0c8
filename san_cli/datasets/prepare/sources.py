"""Folders, archives and single files as one thing: named members with bytes.

Nothing is ever extracted: an archive's member is read into memory, and where its content goes is decided from
the dataset's layout, never from the member's path. Members with a path that leaves the archive, links and
devices are not even listed.
"""

import os
import re
import stat
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast

from san_cli.errors import ExitCode, SanError
from san_cli.inert import inert

MAX_FILE_BYTES = 2**28  # no image or label of a benchmark comes near
_SAFE_STEM = re.compile(r"\w[\w.+-]{0,150}", re.ASCII)
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,  # a compression method
    RuntimeError,  # encrypted
    ValueError,
)


class Source(Protocol):
    """One value of `--from`."""

    path: Path
    members: tuple["Member", ...]
    refused: tuple[str, ...]

    def read(self, member: "Member") -> bytes:
        """The content of one of `members`; any exception of `_DAMAGE`."""

    def close(self) -> None:
        """Let go of open files."""


@dataclass(frozen=True, eq=False)
class Member:
    """A regular file in a source. `name` has "/" between its parts; `stamp` changes with the content.

    `order` is its place in an archive that is read from front to back, None where any order is as good.
    """

    source: Source
    name: str
    size: int
    stamp: str
    key: Any = field(repr=False)
    order: int | None = None

    @cached_property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.name.split("/"))

    @property
    def stem(self) -> str:
        return self.parts[-1].rpartition(".")[0]

    @property
    def suffix(self) -> str:
        return "." + self.parts[-1].rpartition(".")[2].lower()

    @property
    def has_safe_stem(self) -> bool:
        """Whether a file on disk may be named after it."""
        return _SAFE_STEM.fullmatch(self.stem) is not None

    def read(self, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """The content, complete; SanError naming source and member if it is damaged or larger."""
        if self.size > max_bytes:
            raise SanError(f"{self} has {self.size:,} bytes, far more than such a file has")
        try:
            data = self.source.read(self)
        except _DAMAGE as error:
            raise SanError(
                f"{self} can't be read: {_cause(error)}", hint=_AGAIN, code=ExitCode.SOME_FAILED
            ) from error
        if len(data) != self.size:
            raise SanError(f"{self} is cut short", hint=_AGAIN, code=ExitCode.SOME_FAILED)
        return data

    def __str__(self) -> str:
        if isinstance(self.source, _Archive):
            return inert(f"'{self.name}' in '{self.source.path}'")
        return inert(f"'{self.name}'")


_AGAIN = "Download or copy it again: it is damaged or incomplete."


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.refused: tuple[str, ...] = ()
        self.members = tuple(self._list())

    def _list(self) -> Iterator[Member]:
        """Everything below, links followed once; named absolutely, as the folders above tell what it is."""
        seen: set[tuple[int, int]] = set()
        top = os.path.abspath(self.path)  # noqa: PTH100 (links stay)
        for parent, folders, names in os.walk(top, followlinks=True):
            status = os.stat(parent)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if not name.startswith("."):
                    yield from _file_member(self, Path(parent, name))

    def read(self, member: Member) -> bytes:
        return Path(member.key).read_bytes()

    def close(self) -> None:
        """Nothing is open."""


class _File(_Folder):
    def _list(self) -> Iterator[Member]:
        yield from _file_member(self, Path(os.path.abspath(self.path)))  # noqa: PTH100


def _file_member(source: Source, path: Path) -> Iterator[Member]:
    try:
        status = path.stat()
    except OSError:  # a broken link: missing, as far as anybody needs it
        return
    if stat.S_ISREG(status.st_mode):
        yield Member(source, path.as_posix(), status.st_size, str(status.st_mtime_ns), path)


class _Archive:
    path: Path
    refused: tuple[str, ...]

    def _safe_name(self, name: str, refused: list[str]) -> str | None:
        """`name` without "./"; None for what is hidden or, noted in `refused`, would lead out."""
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if name.startswith(("/", "\\")) or ".." in parts or "\0" in name or (parts and ":" in parts[0]):
            refused.append(name)
            return None
        if not parts or parts[-1].startswith(".") or parts[0] == "__MACOSX":
            return None
        return "/".join(parts)


class _Zip(_Archive):
    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip = zipfile.ZipFile(path)  # reads from several threads take turns by a lock of its own
        refused: list[str] = []
        with _closed_if_it_fails(self):
            self.members = tuple(self._list(refused))
        self.refused = tuple(refused)

    def _list(self, refused: list[str]) -> Iterator[Member]:
        for info in self._zip.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.filename.endswith("/"):  # is_dir() fails on a name that is nothing but a NUL
                continue
            if kind not in (0, stat.S_IFREG):
                refused.append(info.filename)
                continue
            name = self._safe_name(info.filename, refused)
            if name is not None:
                yield Member(self, name, info.file_size, f"{info.CRC:08x}", info)

    def read(self, member: Member) -> bytes:
        return self._zip.read(cast("zipfile.ZipInfo", member.key))

    def close(self) -> None:
        self._zip.close()


class _Tar(_Archive):
    def __init__(self, path: Path) -> None:
        self.path = path
        self._tar = tarfile.open(path, "r:*")  # noqa: SIM115 (closed by close)
        self._lock = threading.Lock()
        refused: list[str] = []
        with _closed_if_it_fails(self):
            self.members = tuple(self._list(refused))
        self.refused = tuple(refused)

    def _list(self, refused: list[str]) -> Iterator[Member]:
        for order, info in enumerate(self._tar):
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                refused.append(info.name)
                continue
            name = self._safe_name(info.name, refused)
            if name is not None:
                yield Member(self, name, info.size, str(info.mtime), info, order)

    def read(self, member: Member) -> bytes:
        with self._lock:
            stream = self._tar.extractfile(cast("tarfile.TarInfo", member.key))
            assert stream is not None  # only regular files are listed
            return stream.read()

    def close(self) -> None:
        self._tar.close()


@contextmanager
def _closed_if_it_fails(source: Source) -> Iterator[None]:
    try:
        yield
    except BaseException:
        source.close()
        raise


@contextmanager
def open_sources(paths: Sequence[Path]) -> Iterator[tuple[Source, ...]]:
    """The sources at `paths`: folders, .zip, .tar (.gz, .bz2, .xz) and single files, told by their content.

    SanError for a path that is not there or an archive that is damaged.
    """
    with ExitStack() as stack:
        sources = []
        for path in paths:
            source = _open(path)
            stack.callback(source.close)
            sources.append(source)
        yield tuple(sources)


def _open(path: Path) -> Source:
    if not path.exists():
        raise SanError(f"There is no '{inert(str(path))}' to prepare from.", code=ExitCode.NO_INPUT)
    try:
        if path.is_dir():
            return _Folder(path)
        if zipfile.is_zipfile(path):
            return _Zip(path)
        if tarfile.is_tarfile(path):
            return _Tar(path)
    except _DAMAGE as error:
        raise SanError(
            f"'{inert(str(path))}' can't be read: {_cause(error)}", hint=_AGAIN, code=ExitCode.NO_INPUT
        ) from error
    if re.search(r"\.(zip|tar|tgz|tar\.\w+)$", path.name, re.IGNORECASE):
        raise SanError(f"'{inert(str(path))}' is no archive", hint=_AGAIN, code=ExitCode.NO_INPUT)
    return _File(path)


def in_reading_order(members: Iterable[Member]) -> Iterator[tuple[Member, Callable[[], bytes]]]:
    """Each member with a function that gives its bytes, at least the ones of a .tar.gz from front to back.

    Those have been read when they are handed out; the function for other members may run in any thread.
    """
    for member in sorted(members, key=lambda member: -1 if member.order is None else member.order):
        if member.order is None:
            yield member, member.read
        else:
            yield member, _constant(member)


def _constant(member: Member) -> Callable[[], bytes]:
    try:
        data = member.read()
    except SanError as error:
        fault = error

        def fail() -> bytes:
            raise fault

        return fail
    return lambda: data


def _cause(error: BaseException) -> str:
    text = " ".join(str(getattr(error, "strerror", None) or error).split())[:160]
    return inert(text) or type(error).__name__
