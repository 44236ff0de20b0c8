"""What a search for inputs has come to, and what is told of it."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from san_cli.datasets.foreign_formats import MEDIA_SUFFIXES, name_foreign_format
from san_cli.errors import ExitCode, SanError
from san_cli.predict.exclusion import Exclusion
from san_cli.predict.file_tree import FoundFile
from san_cli.predict.former_results import has_result_name
from san_cli.text import counted, printable

_MISSING = "no such file or directory"


class FailedInput(NamedTuple):
    """An input that came to no image."""

    name: str
    cause: str  # in one line
    path: str  # as it was given, or found


@dataclass
class Search:
    """What was asked for and what is found so far."""

    recursive: bool
    output: str | None  # real path of the folder of the results
    exclusion: Exclusion
    found: list[FoundFile] = field(default_factory=list)  # named as in the results
    failures: list[FailedInput] = field(default_factory=list)
    searched: list[str] = field(default_factory=list)  # folders
    without_images: list[str] = field(default_factory=list)  # those of them that had none
    foreign: list[FoundFile] = field(default_factory=list)  # photographs in formats that we don't read
    look_alikes: list[FoundFile] = field(default_factory=list)  # left out: images without a known suffix
    results: list[str] = field(default_factory=list)  # left out: files of former runs
    system: list[str] = field(default_factory=list)  # left out: folders of the system's own
    other_suffixes: Counter[str] = field(default_factory=Counter)  # left out: other files
    hidden: int = 0
    not_entered: int = 0
    listed_already: list[str] = field(default_factory=list)
    explained: int = 0  # failures of which the cause was looked for

    def count(self) -> int:
        """How many files were of interest, those left out on request included."""
        return len(self.found) + len(self.foreign) + self.exclusion.left_out


def notes(search: Search) -> list[str]:
    """What the user may not know."""
    told = search.exclusion.unmet_notes()
    if search.listed_already:
        told.append(f"folders reached again through links are listed once: {some(search.listed_already)}")
    if search.without_images:
        told.append(f"no image in {some(search.without_images)}")
    if search.look_alikes:
        told.append(f"left out: {_look_alikes(search)}")
    media = sorted(
        (suffix, count) for suffix, count in search.other_suffixes.items() if suffix in MEDIA_SUFFIXES
    )
    if media:
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in media)
        told.append(f"left out, as san reads images: {kinds}")
    if search.results:
        told.append(f"left out, as a former run has made them: {some(search.results)}")
    if search.system:
        told.append(f"left out, as systems make such folders for themselves: {some(search.system)}")
    named = [file.path for file in search.found if has_result_name(file.path)]
    if named:
        told.append(f"by their names these are results, not photographs: {some(named)}")
    return told


def nothing_found(search: Search) -> SanError:
    """The error for a search that came to nothing at all."""
    if not search.searched and not search.exclusion.left_out:
        return SanError("no usable input: the list is empty", code=ExitCode.NO_INPUT)
    seen = search.other_suffixes
    where = f" in {some(search.searched)}" if search.searched else ""
    if seen:
        kinds = [
            f"{count:,} {printable(suffix) or 'without suffix'}" for suffix, count in seen.most_common(4)
        ]
        message = f"no image{where}: {counted(seen.total(), 'file')} seen ({', '.join(kinds)})"
    elif search.results:
        message = f"no image{where}, only what a former run has made"
    elif search.exclusion.left_out:
        message = f"no image{where}: --exclude leaves out all there is"
    else:
        message = f"no image{where}: 0 files seen"
    return SanError(message, hint=_hint(search), code=ExitCode.NO_INPUT)


def nothing_usable(failures: Sequence[FailedInput]) -> SanError:
    """The error for inputs that have all failed; it names the one of which most is known."""
    missing = [failure for failure in failures if failure.cause == _MISSING]
    name, cause, _ = next((failure for failure in failures if failure.cause != _MISSING), failures[0])
    more = f" (and {len(failures) - 1:,} more that can't be used)" if len(failures) > 1 else ""
    hint = ""
    if missing and not missing[0].path.startswith("/"):
        hint = f"Relative paths count from the folder where san runs: {printable(str(Path.cwd()))}"
    return SanError(
        f"no usable input: {printable(name)}: {printable(cause)}{more}", hint=hint, code=ExitCode.NO_INPUT
    )


def _hint(search: Search) -> str:
    """What most likely was the mistake."""
    media = [suffix for suffix, _ in search.other_suffixes.most_common() if suffix in MEDIA_SUFFIXES]
    if search.look_alikes:
        return f"Left out: {_look_alikes(search)}"
    if search.results:
        return (
            f"Left out, as a former run has made them: {some(search.results)}. Give the folder of the photographs; "
            "a quoted pattern takes results too: 'san-out/**/*.overlay.jpg'"
        )
    if search.exclusion.left_out:
        return f"--exclude leaves out {counted(search.exclusion.left_out, 'file or folder', 'files or folders')}."
    if media:
        return f"{media[0]}: {name_foreign_format(b'', media[0])}."
    if search.not_entered:
        return f"{search.not_entered:,} folders below were not entered because of --no-recursive."
    if search.system:
        return f"Not entered, as systems make such folders for themselves: {some(search.system)}"
    if search.hidden:
        return f"{search.hidden:,} hidden files or folders (with a dot in front) are taken only where they are named."
    return "In folders, images are known by their suffix (.jpg, .png, …); a named file is always tried."


def _look_alikes(search: Search) -> str:
    """The files that a folder's suffixes don't tell, and the pattern that takes them."""
    names = [file.path for file in search.look_alikes]
    root = next(root for root in search.searched if names[0].startswith(root)).rstrip("/")
    pattern = printable(shlex.quote(f"{root}/{'**' if search.recursive else '*'}"))
    if len(names) == 1:
        return f"{some(names)} looks like an image but lacks a known suffix; a quoted pattern takes it: {pattern}"
    return (
        f"{len(names):,} files look like images but lack a known suffix ({some(names)}); "
        f"a quoted pattern takes them: {pattern}"
    )


def some(names: Sequence[str]) -> str:
    """The first few of many names, harmless."""
    shown = ", ".join(printable(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3:,} more"
