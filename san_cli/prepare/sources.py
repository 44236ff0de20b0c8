"""Folders, archives and single files as one thing: named members with bytes.

Nothing is ever extracted: an archive's member is read into memory, and where its content goes is decided from
the dataset's layout, never from the member's path. Members with a path that leaves the archive, links and
devices are not even listed.

What is read before a member is asked for is bounded, whatever an archive's headers say (see `archive_streams`).
"""

import os
import re
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol, cast

from san_cli.datasets.archive_streams import DAMAGE, BoundedHeaders, decompressed, is_tar
from san_cli.errors import ExitCode, SanError
from san_cli.text import printable, quoted

MAX_FILE_BYTES = 2**28  # no image or label of a benchmark comes near
_MOST_MEMBERS = 2_000_000  # twice those of the largest benchmark (ADE20K with its instances); 1 kB each
_LONGEST_NAME = 4096  # bytes, as of a path on Linux
_MOST_GLOBALS = 1000  # of a tar's attributes for all members
_SAFE_STEM = re.compile(r"\w[\w.+-]{0,150}", re.ASCII)


class Source(Protocol):
    """One value of `--from`."""

    path: Path
    members: tuple["Member", ...]
    refused: tuple[str, ...]

    def read(self, member: "Member") -> bytes:
        """Read the content of one of `members`; any exception of `DAMAGE`."""

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
        """Tell whether a file on disk may be named after it."""
        return _SAFE_STEM.fullmatch(self.stem) is not None

    def read(self, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """Read the content, complete; SanError naming source and member if it is damaged or larger."""
        if self.size > max_bytes:
            raise SanError(
                f"{self} has {self.size:,} bytes, far more than such a file has", code=ExitCode.SOME_FAILED
            )
        try:
            data = self.source.read(self)
        except DAMAGE as error:
            raise SanError(
                f"{self} can't be read: {_cause(error)}", hint=_AGAIN, code=ExitCode.SOME_FAILED
            ) from error
        if len(data) != self.size:
            raise SanError(f"{self} is cut short", hint=_AGAIN, code=ExitCode.SOME_FAILED)
        return data

    def __str__(self) -> str:
        if isinstance(self.source, _Archive):
            return printable(f"'{self.name}' in '{self.source.path}'")
        return printable(f"'{self.name}'")


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

    def _refuse(self, name: str, refused: list[str]) -> None:
        refused.append(name[:200])
        self._count(len(refused))

    def _count(self, members: int) -> None:
        if members > _MOST_MEMBERS:
            raise ValueError(f"it has over {_MOST_MEMBERS:,} members, more than any benchmark's archive")

    def _safe_name(self, name: str, refused: list[str]) -> str | None:
        """`name` without "./"; None for what is hidden or, noted in `refused`, would lead out."""
        if len(name) > _LONGEST_NAME:
            self._refuse(name, refused)
            return None
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if name.startswith(("/", "\\")) or ".." in parts or "\0" in name or (parts and ":" in parts[0]):
            self._refuse(name, refused)
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
        self._count(len(self._zip.infolist()))
        for info in self._zip.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.filename.endswith("/"):  # is_dir() fails on a name that is nothing but a NUL
                continue
            if kind not in (0, stat.S_IFREG):
                self._refuse(info.filename, refused)
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
        self._stream = BoundedHeaders(decompressed(path))
        self._lock = threading.Lock()
        refused: list[str] = []
        with _closed_if_it_fails(self):
            self._tar = tarfile.TarFile(fileobj=cast("IO[bytes]", self._stream))
            self.members = tuple(self._list(refused))
        self._stream.bounded = False
        self.refused = tuple(refused)

    def _list(self, refused: list[str]) -> Iterator[Member]:
        order = 0
        while (info := self._tar.next()) is not None:
            order += 1
            self._count(order)
            cast("Any", self._tar).members = []  # `members` below are enough
            info.pax_headers = {}
            if len(self._tar.pax_headers) > _MOST_GLOBALS:
                raise tarfile.ReadError("it has far more attributes than any archive")
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                self._refuse(info.name, refused)
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
        self._stream.close()


@contextmanager
def _closed_if_it_fails(source: Source) -> Iterator[None]:
    try:
        yield
    except BaseException:
        source.close()
        raise


@contextmanager
def open_sources(paths: Sequence[Path]) -> Iterator[tuple[Source, ...]]:
    """Open the sources at `paths`: folders, .zip, .tar (.gz, .bz2, .xz) and single files, told by their content.

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
    try:
        there = path.exists()
    except (OSError, ValueError):  # a name too long, or with a NUL
        there = False
    if not there:
        raise SanError(f"There is no {quoted(path)} to prepare from.", code=ExitCode.NO_INPUT)
    try:
        if path.is_dir():
            return _Folder(path)
        if not path.is_file():  # a pipe would be waited for
            raise SanError(f"{quoted(path)} is neither a file nor a folder", code=ExitCode.NO_INPUT)
        if zipfile.is_zipfile(path):
            return _Zip(path)
        if is_tar(path):
            return _Tar(path)
    except DAMAGE as error:
        raise SanError(
            f"{quoted(path)} can't be read: {_cause(error)}", hint=_AGAIN, code=ExitCode.NO_INPUT
        ) from error
    if re.search(r"\.(zip|tar|tgz|tar\.\w+)$", path.name, re.IGNORECASE):
        raise SanError(f"{quoted(path)} is no archive", hint=_AGAIN, code=ExitCode.NO_INPUT)
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
    return printable(text) or type(error).__name__
