"""What lies below a folder: every file once, whatever links and faults the tree contains."""
# Paths stay strings here: 100,000 of them must not cost seconds.
# ruff: noqa: PTH100, PTH118

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

from san_cli.datasets.images import os_cause


class FoundFile(NamedTuple):
    """A directory entry that is no folder: a file, a pipe, a broken link …"""

    path: str  # to open it with
    name: str  # below the root, "/" between the parts
    real: str  # without links: two names with equal `real` are one file
    is_link: bool


@dataclass
class FileTree:
    """What `list_tree` found; all names are below the root."""

    files: list[FoundFile] = field(default_factory=list)  # by the bytes of their names
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # folder, cause
    listed_already: list[str] = field(default_factory=list)  # folders reached again through a link
    not_entered: int = 0  # folders deeper than asked for
    system: list[str] = field(default_factory=list)  # folders that systems make for themselves, not entered
    hidden: int = 0  # files and folders


class _Folder(NamedTuple):
    path: str
    name: str  # "" for the root
    real: str
    depth: int  # 1 for the root


# Made by macOS in archives, by Synology and QNAP beside photographs, by Windows: thumbnails, and what was deleted.
_SYSTEM_FOLDERS = frozenset(["__MACOSX", "@eaDir", "@Recycle", "#recycle", "$RECYCLE.BIN"])


def list_tree(
    root: str,
    *,
    depth: int | None = None,
    exclude: str | None = None,
    leave_out: Callable[[str, str], bool] = lambda name, path: False,
) -> FileTree:
    """List the files below `root`, at most `depth` folders deep, leaving out what is hidden.

    Links are followed, those to folders after everything that is really there, so that a file goes by its own
    name where it has one; no folder is listed twice, and none through a link inside itself. `exclude` is the
    real path of a folder to leave out; so is everything of which `leave_out(name, path)` is true. Raises nothing:
    what cannot be read is in `unreadable`.
    """
    tree = FileTree()
    listed: set[str] = set()
    folders, links = [_Folder(root, "", real_path(root), 1)], deque[_Folder]()
    while folders or links:
        folder = folders.pop() if folders else links.popleft()
        if folder.real in listed:
            tree.listed_already.append(folder.name)
            continue
        listed.add(folder.real)
        for entry in _entries(folder, tree):
            if leave_out(_join(folder.name, entry.name), entry.path):
                continue
            below = _subfolder(entry, folder)
            if below is None:
                tree.files.append(_file(entry, folder))
            elif exclude is not None and is_within(below.real, exclude):
                continue
            elif entry.name in _SYSTEM_FOLDERS:
                tree.system.append(below.name)
            elif depth is not None and folder.depth >= depth:
                tree.not_entered += 1
            elif not entry.is_symlink():
                folders.append(below)
            elif is_within(folder.real, below.real):
                tree.listed_already.append(below.name)
            else:
                links.append(below)
    tree.files.sort(key=lambda file: os.fsencode(file.name))
    tree.unreadable.sort(key=lambda entry: os.fsencode(entry[0]))
    return tree


def is_within(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or below it; both real."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def real_path(path: str) -> str:
    """The path without links, as far as they can be read."""
    try:
        return os.path.realpath(path)
    except OSError:  # a link that vanishes meanwhile, or may not be read
        return os.path.abspath(path)


def _entries(folder: _Folder, tree: FileTree) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder.path) as entries:
            found = list(entries)
    except OSError as error:
        tree.unreadable.append((folder.name, os_cause(error)))
        return []
    visible = [entry for entry in found if not entry.name.startswith(".")]
    tree.hidden += len(found) - len(visible)
    return sorted(visible, key=lambda entry: os.fsencode(entry.name))


def _subfolder(entry: "os.DirEntry[str]", folder: _Folder) -> _Folder | None:
    try:
        if not entry.is_dir():
            return None
    except OSError:  # a link that loops: it will fail as a file, with its cause
        return None
    real = real_path(entry.path) if entry.is_symlink() else os.path.join(folder.real, entry.name)
    return _Folder(entry.path, _join(folder.name, entry.name), real, folder.depth + 1)


def _file(entry: "os.DirEntry[str]", folder: _Folder) -> FoundFile:
    is_link = entry.is_symlink()
    real = real_path(entry.path) if is_link else os.path.join(folder.real, entry.name)
    return FoundFile(entry.path, _join(folder.name, entry.name), real, is_link)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def split_glob(pattern: str) -> tuple[str, list[str]]:
    """The folder where a pattern's search starts and the parts that are left to match below it.

    A part that contains `*`, `?` or `[` and exists under just that name is no pattern.
    """
    root = "/" if pattern.startswith("/") else ""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    while len(parts) > 1 and (not is_glob(parts[0]) or os.path.lexists(os.path.join(root, parts[0]))):
        root = os.path.join(root, parts.pop(0))
    return root or ".", parts


def is_glob(text: str) -> bool:
    """Whether the shell would see a pattern in it."""
    return any(char in text for char in "*?[")


def matches(name: list[str], pattern: list[str]) -> bool:
    """Whether the parts of a name match those of a pattern; `**` stands for any number of parts."""
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(matches(name[taken:], pattern[1:]) for taken in range(len(name) + 1))
    return bool(name) and fnmatchcase(name[0], pattern[0]) and matches(name[1:], pattern[1:])
