"""From the INPUT arguments to a list of images, each with the name that its results get.

- A folder's images are named relative to the folder, a quoted pattern's relative to the folder before its
  first `*`, `?` or `[`; with several arguments the folder's own name comes in front, as by `cp -r a b out`.
- A file is named by its last part.
- A line of a list is named as it stands if it is a relative path below the working directory. Absolute paths,
  and those that climb out with `..`, are named relative to the deepest folder that they all have in common.
"""
# Paths stay strings here: 100,000 of them must not cost seconds.
# ruff: noqa: PTH100, PTH112, PTH117, PTH119, PTH120, PTH122, PTH206

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from san_cli.datasets.foreign_formats import PHOTO_SUFFIXES, name_foreign_format
from san_cli.datasets.images import os_cause
from san_cli.engine.file_tree import FoundFile, is_glob, is_within, list_tree, matches, real_path, split_glob
from san_cli.errors import ExitCode, SanError
from san_cli.inert import inert

_JPEG, _PNG, _TIFF = (".jpg", ".jpeg", ".jpe", ".jfif"), (".png", ".apng"), (".tif", ".tiff")
_NETPBM, _JPEG_2000 = (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"), (".jp2", ".j2k", ".jpx")
_OTHERS = (".webp", ".avif", ".avifs", ".gif", ".bmp")
LONGEST_LIST = 256 * 2**20  # bytes of a list on stdin: a million long paths; what is longer may never end
IMAGE_SUFFIXES = frozenset(_JPEG + _PNG + _TIFF + _NETPBM + _JPEG_2000 + _OTHERS)


@dataclass(frozen=True, slots=True)
class InputImage:
    """One image to do. `name` is relative, has "/" between its parts and none of them is `..`."""

    path: Path
    name: str


class FailedInput(NamedTuple):
    """An input that came to no image."""

    name: str
    cause: str  # in one line
    path: str  # as it was given, or found


@dataclass(frozen=True)
class Listing:
    """What the arguments came to, in their order."""

    images: tuple[InputImage, ...]
    failures: tuple[FailedInput, ...]


@dataclass
class _Search:
    recursive: bool
    exclude: str | None  # real path
    found: list[FoundFile] = field(default_factory=list)  # named as in the results
    failures: list[FailedInput] = field(default_factory=list)
    foreign: list[FoundFile] = field(default_factory=list)  # photographs in formats that we don't read
    searched: list[str] = field(default_factory=list)  # folders
    without_images: list[str] = field(default_factory=list)  # those of them that had none
    other_suffixes: Counter[str] = field(default_factory=Counter)
    listed_already: list[str] = field(default_factory=list)
    not_entered: int = 0


def discover(
    arguments: Sequence[str],
    *,
    recursive: bool = True,
    stdin: BinaryIO | None = None,
    null_separated: bool = False,
    exclude: Path | None = None,
    say: Callable[[str], None],
) -> Listing:
    """List the images that the arguments stand for.

    "-" reads a list from `stdin`, one path a line or separated by NULs. A folder gives its visible files with
    an image's suffix, and those of the folders below unless `recursive` is off; a file that is named is taken
    whatever its suffix. `exclude` is the folder of the results: it is not searched. A file reached twice is
    taken once. Raises SanError if the results would lie among the inputs, or (NO_INPUT) if there is no image.
    """
    search = _Search(recursive, None if exclude is None else real_path(os.fspath(exclude)))
    for argument in arguments:
        front = _own_name(argument) if len(arguments) > 1 else ""
        if argument == "-":
            _add_list(search, _read_list(stdin, null_separated, say))
        elif os.path.lexists(argument) or not is_glob(argument):
            _add_path(search, argument, front, os.path.basename(argument))
        else:
            _add_glob(search, argument, len(arguments) > 1)
    _sort_out_foreign(search, say)
    images = _take_once(search.found, say)
    if not images:
        raise _nothing_found(search)
    _refuse_results_among_inputs(images, search)
    if search.listed_already:
        say(f"folders reached again through links are listed once: {_some(search.listed_already)}")
    if search.without_images:
        say(f"no image in {_some(search.without_images)}")
    return Listing(tuple(images), tuple(search.failures))


def _add_path(search: _Search, path: str, folder_name: str, file_name: str) -> None:
    """A path that is meant literally; its images are named after it if it is a file, below it if a folder."""
    try:
        os.lstat(path)
    except (OSError, ValueError) as error:
        search.failures.append(FailedInput(path, os_cause(error), path))
        return
    if os.path.isdir(path):
        _add_tree(search, path, folder_name, depth=None if search.recursive else 1)
    else:
        search.found.append(FoundFile(path, file_name, real_path(path), False))


def _add_glob(search: _Search, pattern: str, several: bool) -> None:
    root, parts = split_glob(pattern)
    if not os.path.isdir(root):
        search.failures.append(FailedInput(pattern, f"no such folder: {inert(root)}", pattern))
        return
    before = len(search.found)
    depth = None if "**" in parts else len(parts)
    _add_tree(search, root, _own_name(root) if several else "", depth=depth, pattern=parts)
    if len(search.found) == before:
        search.failures.append(FailedInput(pattern, "nothing matches this pattern", pattern))


def _add_tree(
    search: _Search, root: str, front: str, *, depth: int | None, pattern: list[str] | None = None
) -> None:
    """The images below a folder; `front` goes before their names.

    A pattern whose last part has a dot (`*.dat`) says itself which files are images.
    """
    real = real_path(root)
    exclude = search.exclude
    if exclude is not None and is_within(real, exclude):  # nothing is excluded from what is all inside
        exclude = None
    tree = list_tree(root, depth=depth, exclude=exclude)
    search.searched.append(root)
    search.not_entered += tree.not_entered
    for name, cause in tree.unreadable:
        path = _join(root, name)
        search.failures.append(FailedInput(path, f"unreadable folder: {cause}", path))
    search.listed_already += [_join(root, name) for name in tree.listed_already]
    before = len(search.found) + len(search.foreign)
    for file in tree.files:
        if pattern is not None and not matches(file.name.split("/"), pattern):
            continue
        suffix = os.path.splitext(file.name)[1].lower()
        if suffix in IMAGE_SUFFIXES or (pattern is not None and "." in pattern[-1]):
            search.found.append(file._replace(name=_join(front, file.name)))
        elif suffix in PHOTO_SUFFIXES:
            search.foreign.append(file._replace(name=_join(front, file.name)))
        else:
            search.other_suffixes[suffix] += 1
    if pattern is None and len(search.found) + len(search.foreign) == before:
        search.without_images.append(root)


def _read_list(stdin: BinaryIO | None, null_separated: bool, say: Callable[[str], None]) -> list[str]:
    """The paths on stdin, as they stand but for line ends, a byte order mark and blank lines."""
    if stdin is None:
        raise SanError("INPUT - reads a list of images from stdin, which is closed")
    if stdin.isatty():
        say("reading the list of images from the terminal; Ctrl-D ends it")
    data = stdin.read(LONGEST_LIST + 1)
    if len(data) > LONGEST_LIST:
        raise SanError(
            "the list on stdin is above 256 MiB", hint="Give it in parts, each to its own -o folder."
        )
    if null_separated:
        return [os.fsdecode(entry) for entry in data.split(b"\0") if entry]
    if b"\0" in data:
        raise SanError("the list on stdin is separated by NULs", hint="Add -0 to read it as such.")
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [os.fsdecode(line.removesuffix(b"\r")) for line in lines if line.strip()]


def _add_list(search: _Search, entries: list[str]) -> None:
    for entry, name in zip(entries, names_in_list(entries), strict=True):
        _add_path(search, entry, name, name)


def names_in_list(entries: Sequence[str]) -> list[str]:
    """The names that the paths of a list get, none of which leaves the folder of the results; "" for `.`."""
    outside = [os.path.abspath(entry) for entry in entries if _is_outside(entry)]
    common = os.path.commonpath([os.path.dirname(path) for path in outside]) if outside else ""
    names = []
    for entry in entries:
        if _is_outside(entry):
            name = os.path.relpath(os.path.abspath(entry), common)
        else:
            name = os.path.normpath(entry)
        names.append("" if name == "." else name.replace(os.sep, "/"))
    return names


def _is_outside(path: str) -> bool:
    return os.path.isabs(path) or os.path.normpath(path).split(os.sep)[0] == ".."


def _own_name(folder: str) -> str:
    """The last part of a folder's path as given; "" if that is `.`, `..` or the root."""
    last = os.path.basename(os.path.normpath(folder))
    return "" if last in (".", "..") else last


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name


def _sort_out_foreign(search: _Search, say: Callable[[str], None]) -> None:
    """A photograph that we can't read is a failure, unless the camera has put the same picture beside it."""
    pictures = {os.path.splitext(file.name)[0] for file in search.found} if search.foreign else set()
    twins = []
    for file in {file.name: file for file in search.foreign}.values():
        stem, suffix = os.path.splitext(file.name)
        if stem in pictures:
            twins.append(file.name)
        else:
            search.failures.append(FailedInput(file.name, name_foreign_format(b"", suffix), file.path))
    if twins:
        say(f"left out, as the same picture is there in a format that san reads: {_some(twins)}")


def _take_once(found: list[FoundFile], say: Callable[[str], None]) -> list[InputImage]:
    """Each real file once: under its own name where it was reached by that, else where it came first."""
    chosen: dict[str, FoundFile] = {}
    for file in found:
        other = chosen.get(file.real)
        if other is None or (other.is_link and not file.is_link):
            chosen[file.real] = file
    again = [file.path for file in found if chosen[file.real] is not file]
    if again:
        say(f"files reached more than once are taken once: {_some(again)}")
    return [InputImage(Path(file.path), file.name) for file in found if chosen[file.real] is file]


def _nothing_found(search: _Search) -> SanError:
    if search.failures:
        name, cause, _ = search.failures[0]
        more = f" (and {len(search.failures) - 1} more like it)" if len(search.failures) > 1 else ""
        return SanError(f"no usable input: {inert(name)}: {cause}{more}", code=ExitCode.NO_INPUT)
    if not search.searched:
        return SanError("no usable input: the list is empty", code=ExitCode.NO_INPUT)
    seen = search.other_suffixes
    kinds = ", ".join(f"{count} {inert(suffix) or 'without suffix'}" for suffix, count in seen.most_common(4))
    message = f"no image in {_some(search.searched)}: {seen.total()} files seen"
    if kinds:
        message += f" ({kinds})"
    hint = "In folders, images are known by their suffix (.jpg, .png, …); a named file is always tried."
    if search.not_entered:
        hint = f"{search.not_entered} folders below were not entered because of --no-recursive."
    return SanError(message, hint=hint, code=ExitCode.NO_INPUT)


def _refuse_results_among_inputs(images: list[InputImage], search: _Search) -> None:
    """Results inside a searched folder would be the next run's inputs."""
    for folder in search.searched if search.exclude is not None else ():
        real = real_path(folder)
        if search.exclude is None or not is_within(real, search.exclude):
            continue
        below = os.path.relpath(real, search.exclude).replace(os.sep, "/")
        if below == "." or any(image.name.startswith(below + "/") for image in images):
            raise SanError(
                f"the results would be written among the images of {inert(folder)}",
                hint="Choose another folder with -o; one inside that folder will do, it is not searched.",
            )


def _some(names: Sequence[str]) -> str:
    """The first few of many names, harmless."""
    shown = ", ".join(inert(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3:,} more"
