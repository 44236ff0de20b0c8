"""The images that are finished in a folder of results: one line each in a journal, appended once its files are there.

    DIR/.san/run.json            the settings that made the results (settings.py)
    DIR/.san/lock                empty; locked while a run writes here
    DIR/.san/notes               what was said of the words (kept_notes.py)
    DIR/.san/journal             one line per finished image, in input order once a run has ended
    DIR/.san/journal-2-of-4      lines of process 2 of 4, until the last one merges them into `journal`

The head of a line is a list: name, the source's size, mtime in ns and a hash of its path, EXIF orientation, whether
it failed, marks of its files; the body is the image's record (outputs). The last line of a finished journal is a
seal: it says for which list of inputs everything was done and merged, and has the marks of the run's own files.

An image's files get their names only after its line is there: no file of ours is unknown to the journal.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from san_cli.datasets.archives import Member
from san_cli.datasets.georeference import world_files_state
from san_cli.outputs.record import ImageRecord
from san_cli.predict.made_files import Mark, marks_from, marks_text
from san_cli.runs.journal import Journal, Line, encode_line
from san_cli.runs.shares import WHOLE, Share

STATE_FOLDER = ".san"
_NAME = "journal"
_HEAD_LENGTH = 7


class Source(NamedTuple):
    """State of a file, by which we know the one that was done; size and time are -1 where there is none.

    A world file's are added to those of its picture, so that its coming, going and changing shows. For the time of a
    file in an archive there stands a number, made of the archive's size and time and of the file's place and sum.
    """

    size: int
    mtime_ns: int
    where: str  # hash of the absolute path


class Entry(NamedTuple):
    """An image's line, as far as it is kept in memory."""

    source: Source
    exif_orientation: int
    failed: bool
    marks: str  # of its files by kind, see `marks_from`
    line: Line  # where it stands on disk; its head is dropped


def source_of(path: str | os.PathLike[str]) -> Source:
    """Return the state of a file now; size and time are -1 where it can't be read."""
    where = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:12]  # noqa: PTH100 (as it is named)
    if isinstance(path, Member):  # as it was when the archive was listed: nothing else of it is ever read
        return Source(path.size, path.stamp, where)
    try:
        status = Path(path).stat()
        readable = os.access(path, os.R_OK)
    except (OSError, ValueError):
        return Source(-1, -1, where)
    if not readable:
        return Source(-1, -1, where)
    size, mtime_ns = world_files_state(os.fspath(path))
    return Source(status.st_size + size, status.st_mtime_ns + mtime_ns, where)


def same_content(one: Source, other: Source) -> bool:
    """Tell whether two states are of one content, as far as size and time tell (rsync's rule, too)."""
    return one[:2] == other[:2]


def image_line(
    source: Source, exif_orientation: int, record: ImageRecord, marks: Mapping[str, Mark]
) -> bytes:
    """Encode the line about an image that is finished, or that failed (`record.error`)."""
    head = [record.file_name, *source, exif_orientation, record.error is not None, marks_text(marks)]
    return encode_line(head, record.to_json_line())


class Told(NamedTuple):
    """What a line of a journal says: of an image, or that all was done and merged (`seal`)."""

    name: str
    failed: bool
    seal: str | None
    line: Line


def told_lines(journal: Journal) -> Iterator[Told]:
    """Yield what the lines of all files say, for whoever only looks on; OSError where one is taken away meanwhile."""
    for line in journal.lines():
        if isinstance(line.head, dict) and line.file == _NAME:
            yield Told("", False, line.head["seal"], line)
        elif isinstance(line.head, list) and len(line.head) == _HEAD_LENGTH:
            yield Told(line.head[0], line.head[5], None, line)


def image_journal(output: Path) -> Journal:
    """Return the files of the journal of images in a folder of results."""
    return Journal(output / STATE_FOLDER, _NAME)


class ImageJournal:
    """Everything known to be finished in a folder of results, and the file that this process appends to."""

    def __init__(self, output: Path, current: Callable[[str], Source | None]) -> None:
        """Read all journals of the folder. `current` gives a name's source as it is now, None if no input.

        In one file a later line wins. A name may be in several files: a line about the present content wins
        over any other, and a success over a failure. OSError where a file can't be read.
        """
        self.entries: dict[str, Entry] = {}
        self.replaced: dict[str, set[str]] = {}  # marks in lines that another line has taken the place of
        self.run_marks: dict[str, Mark] = {}  # of the files that concern all images, at the last seal
        self.seal: str | None = None  # of the merged journal, if nothing was added since
        self._current = current
        self._journal = image_journal(output)
        for line in self._journal.lines():
            self._add(line)

    def open_own(self, share: Share = WHOLE) -> int:
        """Open the file that process `share` appends to; returns the descriptor. OSError if that fails."""
        return self._journal.open_own(share)

    def append(self, line: bytes) -> None:
        """Add a line from `image_line`. OSError where it can't be written."""
        self._add(self._journal.append(line))

    def record(self, name: str) -> ImageRecord:
        """Read the record of a finished image from disk."""
        return ImageRecord.from_json_line(self._journal.body(self.entries[name].line))

    def raw(self, name: str) -> bytes:
        """Read the line of a finished image as it stands on disk."""
        return self._journal.raw(self.entries[name].line)

    def merge(self, names: Iterable[str], seal: str, run_marks: Mapping[str, Mark]) -> None:
        """Make one file, atomically: the lines of `names`, all in `entries`, in that order, and the seal."""

        def lines() -> Iterable[bytes]:
            for name in names:
                yield self.raw(name)
            yield encode_line({"seal": seal, "files": marks_text(run_marks)})

        self._journal.merge(lines())

    def remove_parts(self) -> None:
        """Remove all files but the merged one, which has their lines by now."""
        self._journal.remove_parts()

    def close(self) -> None:
        """Close all files; reading opens them again."""
        self._journal.close()

    def _add(self, line: Line) -> None:
        """Note one line, if it is better than what is known of that name."""
        self.seal = None
        if isinstance(line.head, dict) and line.file == _NAME:
            self.seal, self.run_marks = line.head["seal"], marks_from(line.head["files"])
        if not isinstance(line.head, list) or len(line.head) != _HEAD_LENGTH:
            return
        name, size, mtime_ns, where, exif_orientation, failed, marks = line.head
        entry = Entry(Source(size, mtime_ns, where), exif_orientation, failed, marks, Line(None, *line[1:]))
        known = self.entries.get(name)
        if (
            known is None
            or known.line.file == line.file
            or self._rank(name, entry) >= self._rank(name, known)
        ):
            self.entries[name], entry = entry, known or entry
        if entry.marks and entry.marks != self.entries[name].marks:
            self.replaced.setdefault(name, set()).add(entry.marks)

    def _rank(self, name: str, entry: Entry) -> int:
        current = self._current(name)
        if current is None or not same_content(current, entry.source):
            return 0
        return 1 if entry.failed else 2
