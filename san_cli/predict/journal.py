"""The journal: what is finished in a folder of results; one line an image, appended once its files are there.

    DIR/.san/run.json            the settings that made the results (run_settings.py)
    DIR/.san/lock                empty; locked while a run writes here (run_lock.py)
    DIR/.san/journal             one line per finished image, in input order once a run has ended
    DIR/.san/journal-2-of-4      lines of process 2 of 4, until the last one merges them into `journal`

A line is three fields between tabs: the CRC-32 of the rest, the head (a JSON list: name, the source's size,
mtime in ns and a hash of its path, EXIF orientation, whether it failed, marks of its files) and the image's
record (outputs). The head is apart so that a start over 100,000 lines parses 30 MB and not 3 GB. A line whose
CRC doesn't fit (a kill or a power cut tore it) counts as not written. The last line of a finished journal is a
seal: it says for which list of inputs everything was done and merged, and has the marks of the run's own files.

An image's files get their names only after its line is there: no file of ours is unknown to the journal.
"""

import errno
import hashlib
import json
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from san_cli.files import atomic_write
from san_cli.outputs.record import ImageRecord
from san_cli.predict.made_files import Mark, marks_from, marks_text

STATE_FOLDER = ".san"
_MERGED = "journal"
_HEAD_LENGTH = 7


class Source(NamedTuple):
    """By what we know that a file is the one that was done; size and time are -1 where there is no file."""

    size: int
    mtime_ns: int
    where: str  # hash of the absolute path


class Entry(NamedTuple):
    """What is kept in memory of a line; the rest stays on disk."""

    source: Source
    exif_orientation: int
    failed: bool
    marks: str  # of its files by kind, see `marks_from`
    file: str
    offset: int
    length: int  # bytes, line end included


def source_of(path: str | os.PathLike[str]) -> Source:
    """The state of a file now; size and time are -1 where it can't be read."""
    where = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:12]  # noqa: PTH100 (as it is named)
    try:
        status = Path(path).stat()
        readable = os.access(path, os.R_OK)
    except (OSError, ValueError):
        return Source(-1, -1, where)
    if not readable:
        return Source(-1, -1, where)
    return Source(status.st_size, status.st_mtime_ns, where)


def same_content(one: Source, other: Source) -> bool:
    """Whether two states are of one content, as far as size and time tell (rsync's rule, too)."""
    return one[:2] == other[:2]


def encode_line(
    source: Source, exif_orientation: int, record: ImageRecord, marks: Mapping[str, Mark]
) -> bytes:
    """The journal's line about an image that is finished, or that failed (`record.error`)."""
    failed = record.error is not None
    head = json.dumps([record.file_name, *source, exif_orientation, failed, marks_text(marks)])
    return _framed(head, record.to_json_line())


def journal_name(index: int, count: int) -> str:
    """The journal that process `index` (from 0) of `count` appends to."""
    return _MERGED if count == 1 else f"{_MERGED}-{index + 1}-of-{count}"


def open_state_file(path: Path, flags: int) -> int:
    """Open or make a file of ours; the descriptor. OSError for anything but a file: a pipe would wait for ever."""
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    return descriptor


class Journal:
    """Everything known to be finished in a folder of results, and the file that this process appends to."""

    def __init__(self, output: Path, current: Callable[[str], Source | None]) -> None:
        """Read all journals of the folder. `current` gives a name's source as it is now, None if no input.

        In one file a later line wins. A name may be in several files: a line about the present content wins
        over any other, and a success over a failure.
        """
        self.folder = output / STATE_FOLDER
        self.entries: dict[str, Entry] = {}
        self.replaced: dict[str, set[str]] = {}  # marks in lines that another line has taken the place of
        self.run_marks: dict[str, Mark] = {}  # of the files that concern all images, at the last seal
        self.seal: str | None = None  # of the merged journal, if nothing was added since
        self._current = current
        self._readers: dict[str, BinaryIO] = {}
        self._own: tuple[str, int] | None = None
        self._ends: dict[str, int] = {}
        for name in _journals(self.folder):
            self._read(name)

    def open_own(self, name: str) -> int:
        """Open the file to append to, its torn end cut off; returns the descriptor. OSError if that fails."""
        descriptor = open_state_file(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self._own = name, descriptor
        end = self._ends.setdefault(name, 0)
        if os.fstat(descriptor).st_size > end:
            os.ftruncate(descriptor, end)
        return descriptor

    def append(self, line: bytes) -> None:
        """Add a line from `encode_line`. OSError where it can't be written."""
        assert self._own is not None, "open_own comes first"
        name, descriptor = self._own
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        self._add(name, self._ends[name], line)
        self._ends[name] += len(line)
        self.seal = None

    def record(self, name: str) -> ImageRecord:
        """The record of a finished image, from disk."""
        return ImageRecord.from_json_line(self._line(self.entries[name]).split(b"\t", 2)[2].decode("ascii"))

    def compact(self, names: Iterable[str], seal: str, run_marks: Mapping[str, Mark]) -> None:
        """Make the merged journal: the lines of `names`, all in `entries`, in that order, and the seal. Atomic."""
        with atomic_write(self.folder / _MERGED) as stream:
            for name in names:
                stream.write(self._line(self.entries[name]))
            stream.write(_framed(json.dumps({"seal": seal, "files": marks_text(run_marks)}), ""))
        self.remove_others()

    def remove_others(self) -> None:
        """Remove all journals but the merged one, which has their lines by now."""
        self.close()
        for name in _journals(self.folder):
            if name != _MERGED:
                (self.folder / name).unlink()

    def close(self) -> None:
        """Close all files; reading opens them again."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        if self._own is not None:
            os.close(self._own[1])
            self._own = None

    def _read(self, name: str) -> None:
        self._ends[name] = 0
        with open(open_state_file(self.folder / name, os.O_RDONLY), "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._add(name, self._ends[name], line)
                self._ends[name] += len(line)

    def _add(self, file: str, offset: int, line: bytes) -> None:
        """Note one line, if it is whole and better than what is known of that name."""
        self.seal = None
        head = _head(line)
        if isinstance(head, dict) and file == _MERGED:
            self.seal, self.run_marks = head["seal"], marks_from(head["files"])
        if not isinstance(head, list):
            return
        name, size, mtime_ns, where, exif_orientation, failed, marks = head
        entry = Entry(Source(size, mtime_ns, where), exif_orientation, failed, marks, file, offset, len(line))
        known = self.entries.get(name)
        if known is None or known.file == file or self._rank(name, entry) >= self._rank(name, known):
            self.entries[name], entry = entry, known or entry
        if entry.marks and entry.marks != self.entries[name].marks:
            self.replaced.setdefault(name, set()).add(entry.marks)

    def _rank(self, name: str, entry: Entry) -> int:
        current = self._current(name)
        if current is None or not same_content(current, entry.source):
            return 0
        return 1 if entry.failed else 2

    def _line(self, entry: Entry) -> bytes:
        if entry.file not in self._readers:
            descriptor = open_state_file(self.folder / entry.file, os.O_RDONLY)
            self._readers[entry.file] = open(descriptor, "rb")  # noqa: PTH123, SIM115
        reader = self._readers[entry.file]
        reader.seek(entry.offset)
        return reader.read(entry.length)


def _journals(folder: Path) -> list[str]:
    """The names of the journals in the folder, the merged one first."""
    return sorted(path.name for path in folder.glob(f"{_MERGED}*"))


def _framed(head: str, body: str) -> bytes:
    rest = f"{head}\t{body}\n".encode("ascii")
    return b"%08x\t%s" % (zlib.crc32(rest), rest)


def _head(line: bytes) -> object:
    """The head of a whole line, None of a damaged one."""
    crc, _, rest = line.partition(b"\t")
    try:
        if int(crc, 16) != zlib.crc32(rest):
            return None
        head = json.loads(rest.partition(b"\t")[0])
    except (ValueError, RecursionError):
        return None
    return head if isinstance(head, dict) or (isinstance(head, list) and len(head) == _HEAD_LENGTH) else None
