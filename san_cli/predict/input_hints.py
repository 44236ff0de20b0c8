"""Hints on a search for inputs: what was left out, what a mistaken input is and what works instead."""
# Paths stay strings here, as everywhere where inputs are listed.
# ruff: noqa: PTH111, PTH118, PTH119, PTH120, PTH122, PTH208

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from san_cli.datasets.archive_listing import archive_stem, looks_like_archive
from san_cli.datasets.foreign_formats import MEDIA_SUFFIXES, name_foreign_format
from san_cli.datasets.image_magic import HEAD, looks_like_image, read_head
from san_cli.errors import ExitCode, SanError
from san_cli.predict.output_names import has_result_name
from san_cli.predict.search import FailedInput, Search, is_glob
from san_cli.text import counted, nearest, printable

_MISSING = "no such file or directory"
_NEIGHBOURS = 10_000  # names of a folder that are looked at for a slip of the fingers
_LEFT_OUT = (".jpg", ".JPG", ".jpeg", ".JPEG", ".png", ".PNG", ".tif", ".tiff", ".webp")  # by lists


def notes(search: Search) -> list[str]:
    """List what the user may not know."""
    told = [_unmet(pattern) for pattern in search.exclusion.unmet]
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
        archives = f"; {pattern_for_archives(search)}" if search.left_archives else ""
        told.append(f"left out, as san reads images: {kinds}{archives}")
    if search.no_files:
        told.append(f"left out, as they are links or no files in their archives: {some(search.no_files)}")
    if search.twice:
        told.append(
            f"of files that an archive has more than once the last counts, as in unpacking: {some(search.twice)}"
        )
    if search.gone_on:
        told.append(
            f"what stands behind a tar's end mark is left out (several tars in one?): {some(search.gone_on)}"
        )
    if search.results:
        told.append(f"left out, as a former run has made them: {some(search.results)}")
    if search.system:
        told.append(f"left out, as systems make such folders for themselves: {some(search.system)}")
    named = [file.path for file in search.found if has_result_name(file.path)]
    if named:
        told.append(f"by their names these are results, not photographs: {some(named)}")
    return told


def _unmet(pattern: str) -> str:
    text = f"--exclude '{pattern}' met no name"
    if "," in pattern:
        return f"{text}; patterns aren't joined by commas, but --exclude may be repeated"
    if not is_glob(pattern) and os.path.lexists(pattern):
        return f"{text}; a pattern needs quotes, or the shell puts in the names that are here"
    return text


def nothing_found(search: Search) -> SanError:
    """Make the error for a search that came to nothing at all."""
    looked = [*search.searched, *search.archives]
    if not looked and not search.exclusion.left_out:
        return SanError("no usable input: the list is empty", code=ExitCode.NO_INPUT)
    seen = search.other_suffixes
    where = f" in {some(looked)}" if looked else ""
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
    """Make the error for inputs that have all failed; it names the one of which most is known."""
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
    """Say what most likely was the mistake."""
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
    if any(path.lower().endswith(suffix) for path in search.left_archives for suffix in media[:1]):
        return f"Left out: {some(search.left_archives)}; {pattern_for_archives(search)}"
    if media:
        return f"{media[0]}: {name_foreign_format(b'', media[0])}."
    if search.not_entered:
        return f"{search.not_entered:,} folders below were not entered because of --no-recursive."
    if search.system:
        return f"Not entered, as systems make such folders for themselves: {some(search.system)}"
    if search.hidden:
        return f"{search.hidden:,} hidden files or folders (with a dot in front) are taken only where they are named."
    return "In folders, images are known by their suffix (.jpg, .png, …); a named file is always tried."


def pattern_for_archives(search: Search) -> str:
    """Name the pattern that takes archives in a folder."""
    first = search.left_archives[0]
    root = next(root for root in search.searched if first.startswith(root)).rstrip("/")
    suffix = first[len(archive_stem(first)) :]
    pattern = shlex.quote(f"{root}/{'**/' if search.recursive else ''}*{suffix}")
    return f"a quoted pattern takes the images in archives: {printable(pattern)}"


def _look_alikes(search: Search) -> str:
    """Name the files that a folder's suffixes don't tell, and the pattern that takes them."""
    names = [file.path for file in search.look_alikes]
    if any(file.member for file in search.look_alikes):
        return (
            f"{counted(len(names), 'file')} may be images but lack a known suffix ({some(names)}); those of an "
            "archive are taken from its folder once it is unpacked, by a quoted pattern: 'FOLDER/**'"
        )
    root = next(root for root in search.searched if names[0].startswith(root)).rstrip("/")
    pattern = printable(shlex.quote(f"{root}/{'**' if search.recursive else '*'}"))
    if len(names) == 1:
        return f"{some(names)} looks like an image but lacks a known suffix; a quoted pattern takes it: {pattern}"
    return (
        f"{len(names):,} files look like images but lack a known suffix ({some(names)}); "
        f"a quoted pattern takes them: {pattern}"
    )


def some(names: Sequence[str]) -> str:
    """Name the first few of many names, harmless."""
    shown = ", ".join(printable(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3:,} more"


def as_meant(text: str) -> str:
    """Return the path without what people and programs put around one, if only then something is there; else `text`.

    That is white space, quotes, `~` for the home folder and `file://`.
    """
    if text == text.strip() and not text.startswith(("~", "'", '"', "file:")):
        return text
    if os.path.lexists(text):
        return text
    path = text.strip()
    if len(path) > 1 and path[0] == path[-1] and path[0] in "'\"":
        path = path[1:-1]
    if path.startswith("file:"):
        path = unquote(path.removeprefix("file:").removeprefix("//localhost").removeprefix("//"))
    path = os.path.expanduser(path)
    return path if os.path.lexists(path) or (is_glob(path) and path.startswith("/")) else text


def why_missing(text: str) -> str:
    """Say what a text is that names nothing on this disk, with what works instead; "" if it is just missing."""
    return _address(text) or _another_spelling(text) or _more_than_a_path(text)


def within_archive(path: str) -> str:
    """Say what works instead of a path into an archive, as results name the images there; "" for others."""
    while (above := os.path.dirname(path)) not in ("", path):
        path = above
        if looks_like_archive(path):
            return f"images of an archive are given together: {_quoted(path)}, without others by --exclude"
    return ""


def _quoted(path: str) -> str:
    """Quote a path as it can be typed, harmless."""
    return printable(shlex.quote(path))


def _address(text: str) -> str:
    """Explain a path on another machine or in another system."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?", text)
    if scheme and scheme[1].lower() == "file":
        return f"no such file: {printable(unquote(urlsplit(text).path))}"
    if text.startswith("www.") or (scheme and scheme[1].lower() in ("http", "https", "ftp")):
        return f"a web address, and san reads files only: download it first (curl -LO {_quoted(text)})"
    if scheme and scheme[1].lower() == "data":
        return "data and not a path: write it to a file first"
    if scheme and scheme[2]:
        return "an address, and san reads files only: copy it to this machine first"
    if re.match(r"[A-Za-z]:[\\/]", text):
        path = "/mnt/" + text[0].lower() + text[2:].replace("\\", "/")
        return f"a path of Windows; under WSL it is {_quoted(path)}"
    if text.startswith("\\\\"):
        return "a path of Windows' network: mount the share and give the path that it has then"
    if re.match(r"[\w.-]+@[\w.-]+:|[\w.-]{2,}:[~/]", text):
        return "a path on another machine: copy it to this one first (rsync or scp), or mount it"
    return ""


def _another_spelling(text: str) -> str:
    """Explain a path that is there in another spelling."""
    for path in (text.replace("\\", "/"), os.path.expandvars(text), _unquoted(text)):
        if path and path != text and os.path.lexists(path):
            return f"no such file, but there is {_quoted(path)}"
    for suffix in _LEFT_OUT if text else ():
        if os.path.lexists(text + suffix):
            return f"no such file, but there is {_quoted(text + suffix)}: paths need their suffix"
    if text.startswith("@") and os.path.lexists(text[1:]):
        return f"a list is read from standard input: san predict - < {_quoted(text[1:])}"
    if re.search(r"\{[^{}]*(,|\.\.)[^{}]*\}", text):
        return "no such file: braces are a matter of the shell, which expands them outside of quotes"
    if "\udc80" <= max(text, default="") <= "\udcff":
        return "no such file (its name is not UTF-8)"
    return ""


def _unquoted(text: str) -> str:
    """Read a text as the shell would; "" if that isn't one word."""
    try:
        words = shlex.split(text)
    except ValueError:
        return ""
    return words[0] if len(words) == 1 else ""


def _more_than_a_path(text: str) -> str:
    """Explain a line in which a path is but a part, or several paths."""
    if re.match(r"[-dlbcps]([r-][w-][xsStT-]){3}|total \d+$", text):
        return "a line of `ls -l`; paths alone come from `find FOLDER -type f`"
    for separator, cut in (
        (",", "cut -d, -f1"),
        (";", "cut -d';' -f1"),
        ("\t", "cut -f1"),
        (" ", "cut -d' ' -f1"),
    ):
        parts = [part.strip() for part in text.split(separator)]
        there = [bool(part) and os.path.lexists(part.strip("'\"")) for part in parts]
        if len(parts) > 1 and all(there):
            return "several paths: give them as arguments of their own, in a list one a line"
        if len(parts) > 1 and there[0]:
            return f"a path and more beside it: of a list, take the first column ({cut} LIST)"
        if len(parts) > 1 and there[-1]:
            return "a path and more before it: of a list, take the last column (awk '{print $NF}' LIST)"
    return ""


def did_you_mean(path: str) -> str:
    """Suggest what is there under nearly the name of a path that isn't; "" where nothing is alike enough."""
    folder, last = os.path.split(path.rstrip("/"))
    after = ""
    while folder and not os.path.lexists(folder):
        after = os.path.join(last, after) if after else last
        folder, last = os.path.split(folder)
    better = os.path.join(folder, _neighbour(folder or ".", last) or last, after).rstrip("/")
    return f"did you mean {_quoted(better)}?" if os.path.lexists(better) else ""


def _neighbour(folder: str, name: str) -> str | None:
    try:
        names = sorted(os.listdir(folder))[:_NEIGHBOURS]
    except (OSError, ValueError):
        return None
    digits = re.sub(r"\D", "", name)  # another number is another photograph
    alike = [near for near in names if near[0] != "." and re.sub(r"\D", "", near) == digits]
    by_stem = {os.path.splitext(near)[0]: near for near in reversed(alike)}
    found = nearest(os.path.splitext(name)[0], by_stem, cutoff=0.75) if name else None
    return None if found is None else by_stem[found]


def instead_of_image(path: str) -> str:
    """Say what a file is that certainly isn't an image, with what works instead; "" if it may be one."""
    head = read_head(path)
    if not head or looks_like_image(head):
        return ""
    suffix = os.path.splitext(path)[1].lower()
    foreign = name_foreign_format(head, suffix)
    if foreign or not _is_text(head):
        return foreign
    first = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if suffix in (".json", ".jsonl", ".geojson", ".ipynb") or first in (b"{", b"["):
        return "JSON, not an image: give the images that it is about"
    if first == b"<":
        return "XML, not an image: give the images that it is about"
    return _what_text(path, os.fsdecode(head))


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and len(head) == HEAD  # cut in the middle of a character
    return True


def _what_text(path: str, text: str) -> str:
    """Explain a text file: a list of paths, if its first line is one, from here or from the list's own folder."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    first, folder = lines[0] if lines else "", os.path.dirname(path)
    here, name = _quoted(path), _quoted(os.path.basename(path))
    if first and os.path.lexists(as_meant(first)):
        return f"a list of paths, which is read from standard input: san predict - < {here}"
    if first and folder and os.path.lexists(os.path.join(folder, first)):
        return f"a list of paths, relative to its folder: (cd {_quoted(folder)} && san predict - < {name})"
    if "," in first or "\t" in first:
        cut = "cut -d, -f1" if "," in first else "cut -f1"
        return (
            f"a table, not an image; --list {here}:COLUMN takes the paths in it, and so does, perhaps: "
            f"{cut} {here} | san predict -"
        )
    return f"a text, not an image; a list of paths is read from standard input: san predict - < {here}"
