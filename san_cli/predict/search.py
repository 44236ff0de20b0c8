"""The search for images in folders: every file once, whatever links and faults a tree contains; patterns of names."""
# Paths stay strings here: 100,000 of them must not cost seconds.
# ruff: noqa: PTH100, PTH118

import os
import re
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase, translate
from pathlib import Path
from typing import NamedTuple

from san_cli.datasets.archives import Member
from san_cli.datasets.images import os_cause

# Made by macOS in archives, by Synology and QNAP beside photographs, by Windows: thumbnails, and what was deleted.
SYSTEM_FOLDERS = frozenset(["__MACOSX", "@eaDir", "@Recycle", "#recycle", "$RECYCLE.BIN"])


@dataclass(frozen=True, slots=True)
class InputImage:
    """One image to do. `name` is relative, has "/" between its parts and none of them is `..`."""

    path: Path | Member  # to open it with
    name: str


class FailedInput(NamedTuple):
    """An input that came to no image."""

    name: str
    cause: str  # in one line
    path: str  # as it was given, or found


class FoundFile(NamedTuple):
    """A directory entry: a folder, a file, a pipe, a broken link …"""

    path: str  # to open it with
    name: str  # below the root, "/" between the parts; "" for the root
    real: str  # without links: two names with equal `real` are one file
    is_link: bool
    member: Member | None = None  # what it is, in an archive


class Exclusion:
    """Patterns of names to leave out (`--exclude`), and which of them have met one.

    A pattern without `/` is compared with every part of a name: `*.png`, `masks`. One with `/` is compared with
    the whole name below the folder given, or with the path as it was given; `**` stands for any folders.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._parts: dict[str, re.Pattern[str]] = {}
        self._paths: dict[str, list[str]] = {}
        for pattern in patterns:
            plain = pattern.removeprefix("./").rstrip("/")
            if "/" in plain:
                self._paths[pattern] = plain.split("/")
            else:
                self._parts[pattern] = re.compile(translate(plain))
        self.unmet = dict.fromkeys(patterns)
        self.left_out = 0

    def __call__(self, name: str, path: str) -> bool:
        """Tell whether to leave out what is called `name` below the folder given and is opened as `path`."""
        if not self._parts and not self._paths:
            return False
        last = name.rpartition("/")[2]
        met = [pattern for pattern, compiled in self._parts.items() if compiled.match(last)]
        if self._paths:
            below, whole = name.split("/"), os.path.normpath(path).split("/")
            for pattern, parts in self._paths.items():
                # As in .gitignore, "/masks" starts at the folder.
                from_folder = parts[1:] if parts[0] == "" else parts
                if matches(below, from_folder) or matches(whole, parts):
                    met.append(pattern)
        for pattern in met:
            self.unmet.pop(pattern, None)
        self.left_out += bool(met)
        return bool(met)

    def covers(self, name: str, path: str) -> bool:
        """Tell whether to leave out a path that is named itself, by its own name or by that of a folder in it."""
        parts = name.split("/")
        return any(self("/".join(parts[:end]), path) for end in range(1, len(parts) + 1))


@dataclass
class Search:
    """Search for inputs: what was asked for, and what is found so far."""

    recursive: bool = True
    output: str | None = None  # real path of the folder of the results: it is not searched
    exclusion: Exclusion = field(default_factory=Exclusion)
    found: list[FoundFile] = field(default_factory=list)  # named as in the results
    failures: list[FailedInput] = field(default_factory=list)
    searched: list[str] = field(default_factory=list)  # folders
    without_images: list[str] = field(default_factory=list)  # those of them that had none
    foreign: list[FoundFile] = field(default_factory=list)  # photographs in formats that we don't read
    archives: list[str] = field(default_factory=list)  # that were listed
    left_archives: list[str] = field(default_factory=list)  # left out: archives in folders
    twice: list[str] = field(default_factory=list)  # archives that have a name more than once
    gone_on: list[str] = field(default_factory=list)  # tars with something behind their end marks
    no_files: list[str] = field(default_factory=list)  # left out: links and devices in archives
    look_alikes: list[FoundFile] = field(default_factory=list)  # left out: images without a known suffix
    results: list[str] = field(default_factory=list)  # left out: files of former runs
    system: list[str] = field(default_factory=list)  # left out: folders of the system's own
    other_suffixes: Counter[str] = field(default_factory=Counter)  # left out: other files
    hidden: int = 0  # left out: files and folders
    not_entered: int = 0  # folders deeper than asked for
    listed_already: list[str] = field(default_factory=list)  # folders reached again through a link
    explained: int = 0  # failures of which the cause was looked for

    def count(self) -> int:
        """Count the files that were of interest, those left out on request included."""
        return len(self.found) + len(self.foreign) + self.exclusion.left_out

    def files_below(self, root: str, depth: int | None = None) -> list[FoundFile]:
        """List the files below `root`, at most `depth` folders deep, by the bytes of their names.

        Links are followed, those to folders after everything that is really there, so that a file goes by its own
        name where it has one; no folder is listed twice, and none through a link inside itself. What is hidden or
        excluded is left out, and so is the folder of the results, unless `root` is inside it. Raises nothing:
        what can't be read is among the failures.
        """
        real = real_path(root)
        output = None if self.output is None or is_within(real, self.output) else self.output
        files: list[FoundFile] = []
        unreadable: list[FailedInput] = []
        listed: set[str] = set()
        folders, links = [FoundFile(root, "", real, False)], deque[FoundFile]()
        while folders or links:
            folder = folders.pop() if folders else links.popleft()
            if folder.real in listed:
                self.listed_already.append(join(root, folder.name))
                continue
            listed.add(folder.real)
            try:
                entries = self._visible(folder)
            except OSError as error:
                path = join(root, folder.name)
                unreadable.append(FailedInput(path, f"unreadable folder: {os_cause(error)}", path))
                continue
            for entry in entries:
                if self.exclusion(join(folder.name, entry.name), entry.path):
                    continue
                found = _found(entry, folder)
                if not _is_folder(entry):
                    files.append(found)
                elif output is not None and is_within(found.real, output):
                    continue
                elif entry.name in SYSTEM_FOLDERS:
                    self.system.append(join(root, found.name))
                elif depth is not None and found.name.count("/") + 1 >= depth:
                    self.not_entered += 1
                elif not found.is_link:
                    folders.append(found)
                elif is_within(folder.real, found.real):
                    self.listed_already.append(join(root, found.name))
                else:
                    links.append(found)
        self.failures += sorted(unreadable, key=lambda failure: os.fsencode(failure.name))
        return sorted(files, key=lambda file: os.fsencode(file.name))

    def _visible(self, folder: FoundFile) -> list["os.DirEntry[str]"]:
        with os.scandir(folder.path) as entries:
            found = list(entries)
        visible = [entry for entry in found if not entry.name.startswith(".")]
        self.hidden += len(found) - len(visible)
        return sorted(visible, key=lambda entry: os.fsencode(entry.name))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that loops: it will fail as a file, with its cause
        return False


def _found(entry: "os.DirEntry[str]", folder: FoundFile) -> FoundFile:
    is_link = entry.is_symlink()
    real = real_path(entry.path) if is_link else os.path.join(folder.real, entry.name)
    return FoundFile(entry.path, join(folder.name, entry.name), real, is_link)


def join(folder: str, name: str) -> str:
    """Join two names, either of which may be empty."""
    return f"{folder}/{name}" if folder and name else folder or name


def is_within(path: str, folder: str) -> bool:
    """Tell whether `path` is `folder` or below it; both real."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def real_path(path: str) -> str:
    """Return the path without links, as far as they can be read."""
    try:
        return os.path.realpath(path)
    except OSError:  # a link that vanishes meanwhile, or may not be read
        return os.path.abspath(path)


def split_glob(pattern: str) -> tuple[str, list[str]]:
    """Split a pattern into the folder where its search starts and the parts that are left to match below it.

    A part that contains `*`, `?` or `[` and exists under just that name is no pattern.
    """
    root = "/" if pattern.startswith("/") else ""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    while len(parts) > 1 and (not is_glob(parts[0]) or os.path.lexists(os.path.join(root, parts[0]))):
        root = os.path.join(root, parts.pop(0))
    return root or ".", parts


def is_glob(text: str) -> bool:
    """Tell whether the shell would see a pattern in a text."""
    return any(char in text for char in "*?[")


def matches(name: list[str], pattern: list[str]) -> bool:
    """Tell whether the parts of a name match those of a pattern; `**` stands for any number of parts."""
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(matches(name[taken:], pattern[1:]) for taken in range(len(name) + 1))
    return bool(name) and fnmatchcase(name[0], pattern[0]) and matches(name[1:], pattern[1:])
