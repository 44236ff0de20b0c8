"""From the INPUT arguments to a list of images, each with the name that its results get.

- A folder's images are named relative to the folder, a quoted pattern's relative to the folder before its
  first `*`, `?` or `[`; with several arguments the folder's own name comes in front, as by `cp -r a b out`.
- A file is named by its last part.
- The images of an archive are named as those of a folder that it was unpacked to; where it is one of several, its
  own name without suffix is in front.
- A line of a list is named as it stands if it is a relative path below the working directory. Absolute paths,
  and those that climb out with `..`, are named relative to the deepest folder that they all have in common.
"""
# Paths stay strings here: 100,000 of them must not cost seconds.
# ruff: noqa: PTH112, PTH118, PTH119, PTH122

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from san_cli.datasets.archive_listing import archive_stem, is_archive_name, looks_like_archive
from san_cli.datasets.foreign_formats import MEDIA_SUFFIXES, PHOTO_SUFFIXES, name_foreign_format
from san_cli.datasets.image_header import header_fault
from san_cli.datasets.image_magic import looks_like_image, read_head
from san_cli.datasets.image_names import IMAGE_SUFFIXES
from san_cli.datasets.images import os_cause
from san_cli.errors import SanError
from san_cli.predict.archive_inputs import add_archive
from san_cli.predict.braces import expand_braces, has_braces
from san_cli.predict.input_hints import (
    as_meant,
    did_you_mean,
    instead_of_image,
    notes,
    nothing_found,
    pattern_for_archives,
    some,
    why_missing,
    within_archive,
)
from san_cli.predict.lists import PathList, names_in_list, read_list
from san_cli.predict.output_names import FormerResults
from san_cli.predict.search import (
    Exclusion,
    FailedInput,
    FoundFile,
    InputImage,
    Search,
    is_glob,
    is_within,
    join,
    matches,
    real_path,
    split_glob,
)
from san_cli.text import printable

_EXPLAINED = 100  # missing inputs of which the cause is looked for
_HEADERS = 1000  # images of which the header is looked at before the model is loaded
_TRIED_OF_SUFFIX, _TRIED_SUFFIXES = 64, 1024  # files that are opened in search of images without a suffix


@dataclass(frozen=True)
class Listing:
    """The images and failures that the arguments came to, in their order."""

    images: tuple[InputImage, ...]
    failures: tuple[FailedInput, ...]


def discover(
    arguments: Sequence[str | PathList],
    *,
    recursive: bool = True,
    stdin: BinaryIO | None = None,
    null_separated: bool = False,
    exclude: Sequence[str] = (),
    output: Path | None = None,
    say: Callable[[str], None],
) -> Listing:
    """List the images that the arguments stand for.

    "-" reads a list from `stdin`, one path a line or separated by NULs; another list is given as such. A folder gives
    its visible files with an image's suffix, and those of the folders below unless `recursive` is off, and so does an
    archive; a pattern takes also those that begin like an image; a file that is named is taken unless it plainly is
    something else. What `exclude`
    matches (see `Exclusion`) is left out. `output` is the folder of the results: it is not searched. A file
    reached twice is taken once. Where all inputs failed there are no images, only failures. Raises SanError if
    the results would lie among the inputs, or (NO_INPUT) if there is nothing at all.
    """
    # Each argument adds to what is found, or to the failures.
    real_output = None if output is None else real_path(os.fspath(output))
    search = Search(recursive, real_output, Exclusion(exclude))
    meant = [one for argument in arguments for one in _meant(argument)]
    for argument in meant:
        if isinstance(argument, PathList):
            _add_list(search, argument)
            continue
        front = _own_name(argument) if len(meant) > 1 else ""
        if argument == "-":
            _add_list(search, PathList(read_list(stdin, null_separated, say)))
        elif os.path.lexists(argument) or not is_glob(argument):
            _add_path(search, argument, front, os.path.basename(argument))
        else:
            _add_glob(search, argument, len(meant) > 1)

    # A photograph counts once, also where the camera or a link has it twice.
    _sort_out_foreign(search, say)
    images = _take_once(search.found, say)
    if not images and not search.failures:
        raise nothing_found(search)
    _refuse_results_among_inputs(images, search)

    # What was left out is told last: only now is it known what met nothing.
    for note in notes(search):
        say(note)
    return Listing(tuple(images), tuple(search.failures))


def fail_unreadable(listing: Listing, max_pixels: int) -> Listing:
    """Return the listing with all images among the failures if the start of each file tells that it can't be used.

    As soon as one may be usable, and after 1,000, the listing is returned as it is.
    """
    failures: list[FailedInput] = []
    for image in listing.images[: _HEADERS + 1]:
        cause = header_fault(image.path, max_pixels) if len(failures) < _HEADERS else ""
        if not cause:
            return listing
        failures.append(FailedInput(image.name, cause, str(image.path)))
    return Listing((), (*failures, *listing.failures))


def _meant(argument: str | PathList) -> list[str] | list[PathList]:
    """Return what an argument stands for: with braces, of which the shell left the quoted ones, it is several."""
    if isinstance(argument, PathList):
        return [argument]
    path = as_meant(argument)
    return expand_braces(path) if has_braces(path) and not os.path.lexists(path) else [path]


def _add_path(search: Search, path: str, folder_name: str, file_name: str, *, of_list: bool = False) -> None:
    """Add a path that is meant literally; its images are named after it if it is a file, below it if a folder."""
    if search.exclusion.covers(file_name or os.path.normpath(path), path):
        return
    try:
        os.lstat(path)
    except (OSError, ValueError) as error:
        is_missing = isinstance(error, FileNotFoundError)
        cause = _explained(search, path, of_list) if is_missing else within_archive(path)
        search.failures.append(FailedInput(path, cause or os_cause(error), path))
        return
    if os.path.isdir(path):
        _add_tree(search, path, folder_name, depth=None if search.recursive else 1)
        return
    if looks_like_archive(path):
        add_archive(search, path, archive_stem(folder_name))
        return
    suffix = os.path.splitext(path)[1].lower()
    cause = "" if suffix in IMAGE_SUFFIXES else instead_of_image(path)
    if cause:
        search.failures.append(FailedInput(file_name, cause, path))
    else:
        search.found.append(FoundFile(path, file_name, real_path(path), False))


def _explained(search: Search, path: str, of_list: bool) -> str:
    """Say why nothing is there, as far as that can be told; of a list only for its first lines, as it takes time."""
    search.explained += 1
    if search.explained > _EXPLAINED:
        return ""
    if not path:
        return "the path is empty (an unset variable?)"
    if of_list and is_glob(path):
        return why_missing(path) or "no such file; a pattern is an argument of its own, in quotes"
    near = "" if of_list else did_you_mean(path)
    return why_missing(path) or (near and f"no such file or folder: {near}")


def _add_glob(search: Search, pattern: str, several: bool) -> None:
    root, parts = split_glob(pattern)
    if not os.path.isdir(root):
        cause = (
            why_missing(pattern)
            or " ".join([f"no such folder: {printable(root)}", did_you_mean(root)]).rstrip()
        )
        search.failures.append(FailedInput(pattern, cause, pattern))
        return
    before, left = search.count() + len(search.archives), len(search.left_archives)
    depth = None if "**" in parts else len(parts)
    _add_tree(search, root, _own_name(root) if several else "", depth=depth, pattern=parts)
    if search.count() + len(search.archives) == before:
        if len(search.left_archives) > left:
            cause = f"nothing but archives matches this pattern; {pattern_for_archives(search)}"
        else:
            cause = why_missing(pattern) or f"nothing matches this pattern{_what_would(root, parts)}"
        search.failures.append(FailedInput(pattern, cause, pattern))


def _what_would(root: str, parts: list[str]) -> str:
    """Say what a pattern would match if it were written a little otherwise, as the end of a sentence."""
    files = [file.name.casefold().split("/") for file in Search().files_below(root, len(parts))]
    same = sum(matches(name, [part.casefold() for part in parts]) for name in files)
    if same:
        return f"; in other capitals it would match {same:,} files"
    if parts[-1] in ("*", "*.*"):
        return "; one that ends in **/* searches the folders below"
    return ""


def _add_tree(
    search: Search, root: str, front: str, *, depth: int | None, pattern: list[str] | None = None
) -> None:
    """Add the images below a folder; `front` goes before their names.

    A pattern whose last part has a dot (`*.dat`) says itself which files are images.
    """
    files = search.files_below(root, depth)
    search.searched.append(root)
    before = len(search.found) + len(search.foreign)
    is_told = pattern is not None and "." in pattern[-1]
    results, others = FormerResults(), []
    for file in files:
        if pattern is not None and not matches(file.name.split("/"), pattern):
            continue
        suffix = os.path.splitext(file.name)[1].lower()
        if not is_told and results.has(file.real):
            search.results.append(file.path)
        elif is_archive_name(file.name) and is_told:
            add_archive(search, file.path, join(front, archive_stem(file.name)))
        elif suffix in IMAGE_SUFFIXES or is_told:
            search.found.append(file._replace(name=join(front, file.name)))
        elif suffix in PHOTO_SUFFIXES:
            search.foreign.append(file._replace(name=join(front, file.name)))
        elif pattern is not None and looks_like_image(read_head(file.path)):
            search.found.append(file._replace(name=join(front, file.name)))
        else:
            search.other_suffixes[suffix] += 1
            others.append(file)
            if is_archive_name(file.name):
                search.left_archives.append(file.path)
    if pattern is None:
        search.look_alikes += _images_by_content(others)
        if len(search.found) + len(search.foreign) == before:
            search.without_images.append(root)


def _images_by_content(files: list[FoundFile]) -> list[FoundFile]:
    """Pick those that begin like images; no more are opened of a suffix once many of it didn't."""
    found = []
    others: Counter[str] = Counter()
    for file in files:
        suffix = os.path.splitext(file.name)[1]
        if (
            suffix.lower() in MEDIA_SUFFIXES
            or others[suffix] == _TRIED_OF_SUFFIX
            or len(others) > _TRIED_SUFFIXES
        ):
            continue
        if looks_like_image(read_head(file.path)):
            found.append(file)
        else:
            others[suffix] += 1
    return found


def _add_list(search: Search, paths: PathList) -> None:
    for entry, name in zip(paths.entries, names_in_list(paths.entries), strict=True):
        path = os.path.join(paths.folder, entry) if paths.folder else entry
        _add_path(search, path, name, name, of_list=True)


def _own_name(folder: str) -> str:
    """Return the last part of a folder's path as given; "" if that is `.`, `..` or the root."""
    last = os.path.basename(os.path.normpath(folder))
    return "" if last in (".", "..") else last


def _sort_out_foreign(search: Search, say: Callable[[str], None]) -> None:
    """Make a photograph that we can't read a failure, unless the camera has put the same picture beside it."""
    pictures = {os.path.splitext(file.name)[0] for file in search.found} if search.foreign else set()
    twins = []
    for file in {file.name: file for file in search.foreign}.values():
        stem, suffix = os.path.splitext(file.name)
        if stem in pictures:
            twins.append(file.name)
        else:
            search.failures.append(FailedInput(file.name, name_foreign_format(b"", suffix), file.path))
    if twins:
        say(f"left out, as the same picture is there in a format that san reads: {some(twins)}")


def _take_once(found: list[FoundFile], say: Callable[[str], None]) -> list[InputImage]:
    """Take each real file once: under its own name where it was reached by that, else where it came first."""
    chosen: dict[str, FoundFile] = {}
    for file in found:
        other = chosen.get(file.real)
        if other is None or (other.is_link and not file.is_link):
            chosen[file.real] = file
    again = [file.path for file in found if chosen[file.real] is not file]
    if again:
        say(f"files reached more than once are taken once: {some(again)}")
    return [
        InputImage(file.member or Path(file.path), file.name) for file in found if chosen[file.real] is file
    ]


def _refuse_results_among_inputs(images: list[InputImage], search: Search) -> None:
    """Raise SanError for results inside a searched folder: they would be the next run's inputs."""
    for folder in search.searched if search.output is not None else ():
        real = real_path(folder)
        if search.output is None or not is_within(real, search.output):
            continue
        below = os.path.relpath(real, search.output).replace(os.sep, "/")
        if below == "." or any(image.name.startswith(below + "/") for image in images):
            raise SanError(
                f"the results would be written among the images of {printable(folder)}",
                hint="Choose another folder with -o; one inside that folder will do, it is not searched.",
            )
