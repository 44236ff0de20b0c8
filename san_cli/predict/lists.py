"""Lists of inputs: one path a line or separated by NULs, on stdin or in a file; in files also JSON lines and tables.

Paths count from the folder where san runs; those of a file from its own folder, where nothing else is there.
"""
# Paths stay strings here: 100,000 of them must not cost seconds.
# ruff: noqa: PTH100, PTH112, PTH117, PTH118, PTH120, PTH122, PTH123, PTH206

import csv
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import StringIO
from typing import Any, BinaryIO, NamedTuple

from san_cli.datasets.foreign_formats import name_foreign_format
from san_cli.datasets.image_magic import looks_like_image
from san_cli.datasets.images import os_cause
from san_cli.errors import ExitCode, SanError
from san_cli.predict.input_hints import as_meant
from san_cli.text import counted, printable, quoted

LONGEST_LIST = 256 * 2**20  # bytes: a million long paths; what is longer may never end
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
# What columns of paths are called, the likeliest first; of our own --jsonl the first opens the file.
_COLUMNS = (
    *("input", "path", "image_path", "img_path", "image", "img", "filepath", "file_path"),
    *("file_name", "filename", "file"),
)
_TRIED = 1000  # paths of a list that are looked for, to tell where they count from

_Say = Callable[[str], None]


class PathList(NamedTuple):
    """The paths of a list, as they stand, and the folder that relative ones count from, "" for the present one."""

    entries: list[str]
    folder: str = ""


class _Place(NamedTuple):
    """Where a list stands, for messages."""

    name: str = "stdin"
    where: str = "on stdin"
    reader: str = "INPUT -"


def read_list(stdin: BinaryIO | None, null_separated: bool, say: _Say) -> list[str]:
    """Read the paths on stdin, as they stand but for line ends, a byte order mark, blank lines and comments.

    Of a line that names nothing the spaces and quotes around it, `~` and `file://` are understood. Raises SanError
    for what is no list at all, such as the bytes of an image.
    """
    if stdin is None:
        raise SanError("INPUT - reads a list of images from stdin, which is closed")
    if stdin.isatty():
        say("reading the list of images from the terminal; Ctrl-D ends it")
    return _paths(stdin.read(LONGEST_LIST + 1), null_separated, say, _Place())


def read_list_file(text: str, null_separated: bool, say: _Say) -> PathList:
    """Read the list that `--list FILE[:COLUMN]` names: lines as on stdin, JSON lines (.jsonl), a table (.csv, .tsv).

    SanError (NO_INPUT) for a file that can't be read, or is no list, or has no such column.
    """
    file, column = _file_and_column(text)
    place = _Place(quoted(file), f"in {quoted(file)}", "--list")
    if text == "-":
        raise SanError("--list names a file", hint="A list on stdin is INPUT -: san predict -")
    if os.path.isdir(file):
        raise SanError(
            f"--list reads a list, and {place.name} is a folder", hint=f"Give it as INPUT: san predict {file}"
        )
    try:
        with open(file, "rb") as stream:
            data = stream.read(LONGEST_LIST + 1)
    except (OSError, ValueError) as error:
        raise SanError(
            f"the list {place.name} can't be read: {os_cause(error)}", code=ExitCode.NO_INPUT
        ) from error
    if data.startswith(_UTF16):
        data = data.decode("utf-16", "replace").encode("utf-8", "replace")
    suffix = os.path.splitext(file)[1].lower()
    if suffix in (".csv", ".tsv", ".tab"):
        entries = _of_table(_decoded(data, place), column, say, place, tabs=suffix != ".csv")
    elif suffix in (".jsonl", ".ndjson") or (data[:1] == b"{" and _is_json_lines(data)):
        entries = _of_json_lines(_decoded(data, place), column, say, place)
    elif column is not None:
        raise SanError(
            f"{place.name} has no column '{printable(column)}': only .csv, .tsv and .jsonl have columns",
            code=ExitCode.NO_INPUT,
        )
    else:
        entries = _paths(data, null_separated, say, place)
    return PathList(entries, _folder_of(entries, os.path.dirname(file), say, place))


def _file_and_column(text: str) -> tuple[str, str | None]:
    """Split FILE:COLUMN, unless a file is called so."""
    file, colon, column = text.rpartition(":")
    if colon and not os.path.lexists(text) and os.path.lexists(file):
        return file, column
    return as_meant(text), None


def _folder_of(entries: Sequence[str], folder: str, say: _Say, place: _Place) -> str:
    """Return the list's own folder if its paths count from there, as far as that can be told; else ""."""
    relative = [entry for entry in entries[:_TRIED] if not os.path.isabs(entry)]
    if not folder or not relative or any(os.path.lexists(entry) for entry in relative):
        return ""
    if not any(os.path.lexists(os.path.join(folder, entry)) for entry in relative):
        return ""
    say(
        f"the paths {place.where} are not here, but in the list's own folder: they count from {quoted(folder)}"
    )
    return folder


def _paths(data: bytes, null_separated: bool, say: _Say, place: _Place) -> list[str]:
    """Return the paths of a plain list."""
    _refuse_long(data, place)
    _refuse_other_data(data, place)
    if null_separated:
        return _split_at_nulls(data, place)
    if data.startswith(_UTF16):  # as PowerShell writes
        data = data.decode("utf-16", "replace").encode("utf-8", "replace")
    if b"\0" in data:
        raise SanError(f"the list {place.where} is separated by NULs", hint="Add -0 to read it as such.")
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    lines = [os.fsdecode(line) for line in data.split(b"\n" if b"\n" in data else b"\r") if line.strip()]
    paths = [line for line in lines if not line.startswith("#") or os.path.lexists(line)]
    if len(paths) < len(lines):
        say(f"lines of the list that start with # are comments: {len(lines) - len(paths):,} left out")
    return [as_meant(path) for path in paths]


def _split_at_nulls(data: bytes, place: _Place) -> list[str]:
    paths = [os.fsdecode(entry) for entry in data.split(b"\0") if entry]
    if b"\0" not in data and b"\n" in data and not os.path.lexists(paths[0]):
        raise SanError(
            f"there is no NUL in the list {place.where}", hint="Leave -0 out: its paths stand one a line."
        )
    return paths


def _refuse_long(data: bytes, place: _Place) -> None:
    if len(data) > LONGEST_LIST:
        raise SanError(
            f"the list {place.where} is above 256 MiB", hint="Give it in parts, each to its own -o folder."
        )


def _refuse_other_data(data: bytes, place: _Place) -> None:
    """SanError for data that is meant as an input itself, or as another list than one of lines."""
    head = data[:1024]
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if os.path.lexists(os.fsdecode(re.split(rb"[\0\r\n]", start)[0])):
        return
    if looks_like_image(head):
        raise SanError(
            f"{place.reader} reads a list of paths, and {place.where} there is an image",
            hint="Name its file: san predict FILE. What a program prints goes into a file first: "
            "… > image.png && san predict image.png",
            code=ExitCode.NO_INPUT,
        )
    what = name_foreign_format(head, "")
    if what:
        raise SanError(
            f"{place.reader} reads a list of paths, and {place.name} holds something else: {what}",
            code=ExitCode.NO_INPUT,
        )
    if start[:1] in (b"[", b"{", b"<") and b"\0" not in head:
        what = "XML" if start[:1] == b"<" else "JSON or a list of Python"
        raise SanError(
            f"{place.reader} reads one path a line, and {place.name} holds {what}",
            hint=_json_hint(data, start[:1], place),
            code=ExitCode.NO_INPUT,
        )


def _json_hint(data: bytes, first: bytes, place: _Place) -> str:
    if first == b"<":
        return "Print the paths alone."
    if b'"annotations"' in data and b'"file_name"' in data:
        return (
            "It seems to be COCO's. Print the paths of its images alone, below the folder that they are in: "
            "jq -r '.images[].file_name' FILE.json | (cd IMAGES && san predict -)"
        )
    name = "LIST.json" if place.name == "stdin" else place.name
    return f"Print the paths alone, perhaps: jq -r '.[]' {name} | san predict -"


def _decoded(data: bytes, place: _Place) -> str:
    """Decode a table or JSON lines; bytes that aren't UTF-8 stay what they are in names."""
    _refuse_long(data, place)
    if b"\0" in data:
        what = name_foreign_format(data[:1024], "") or "no text"
        raise SanError(f"the list {place.name} can't be read: {what}", code=ExitCode.NO_INPUT)
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def _of_table(text: str, column: str | None, say: _Say, place: _Place, *, tabs: bool) -> list[str]:
    """Return the paths in a column of a table, whose first line names its columns."""
    text = text.lstrip("\r\n")
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    delimiter = "\t" if tabs else max(",;\t", key=first.count)
    # Strict, as a quote that is never closed would swallow all that follows.
    rows = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(rows, [])]
        if any(name and os.path.lexists(name) for name in names):
            raise SanError(
                f"the first line of {place.name} is no header: {printable(first.strip()[:80])}",
                hint="A table needs a line with the names of its columns; a plain list ends in .txt.",
                code=ExitCode.NO_INPUT,
            )
        number = names.index(_column(names, column, say, place))
        cells = []
        for row in filter(None, rows):
            if any(row[len(names) :]):
                raise csv.Error("it has more cells than there are columns")
            cells.append(row[number].strip() if len(row) > number else "")
    except csv.Error as error:
        raise SanError(
            f"the table {place.name} can't be read: line {rows.line_num:,}: {error}",
            hint="Quotes go around cells with a separator or a line break in them, and are doubled inside.",
            code=ExitCode.NO_INPUT,
        ) from error
    return _without_blanks(cells, say, place)


def _is_json_lines(data: bytes) -> bool:
    first, _, rest = data.partition(b"\n")
    try:
        return isinstance(json.loads(first), dict) and (not rest.strip() or rest.lstrip()[:1] == b"{")
    except (ValueError, RecursionError):
        return False


def _of_json_lines(text: str, column: str | None, say: _Say, place: _Place) -> list[str]:
    """Return the paths in a column of JSON lines, which are objects, or strings."""
    cells: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        row: Any = None
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
        if isinstance(row, dict):
            if column is None or number == 1:
                column = _column([str(key) for key in row], column, say, place)
            row = row.get(column) or ""
        if not isinstance(row, str):
            raise SanError(
                f"line {number:,} of {place.name} has no path: {printable(line.strip()[:60])}",
                hint='Each line is an object such as {"path": "a.jpg"}; --list FILE:COLUMN names another key.',
                code=ExitCode.NO_INPUT,
            )
        cells.append(row)
    return _without_blanks(cells, say, place)


def _column(names: Sequence[str], asked: str | None, say: _Say, place: _Place) -> str:
    """Choose the column of the paths; SanError (NO_INPUT) where there is none of that name, or none told."""
    if asked in names and asked is not None:
        if names.count(asked) > 1:
            raise SanError(
                f"{place.name} has {names.count(asked)} columns '{printable(asked)}'",
                hint="Rename one of them.",
                code=ExitCode.NO_INPUT,
            )
        return asked
    listed = ", ".join(printable(name) for name in names[:20] if name) or "none"
    if asked is not None:
        raise SanError(
            f"{place.name} has no column '{printable(asked)}'",
            hint=f"There are: {listed}.",
            code=ExitCode.NO_INPUT,
        )
    likely = [name for known in _COLUMNS for name in names if name.casefold() == known]
    if not likely:
        raise SanError(
            f"none of the columns of {place.name} is known to hold paths: {listed}",
            hint="Name it: --list FILE:COLUMN.",
            code=ExitCode.NO_INPUT,
        )
    if len(likely) > 1:
        say(
            f"the paths {place.where} are taken from its column '{likely[0]}'; --list FILE:COLUMN takes another"
        )
    return likely[0]


def _without_blanks(cells: Sequence[str], say: _Say, place: _Place) -> list[str]:
    paths = [as_meant(cell) for cell in cells if cell]
    if len(paths) < len(cells):
        say(f"{counted(len(cells) - len(paths), 'line')} of {place.name} without a path left out")
    return paths


def names_in_list(entries: Sequence[str]) -> list[str]:
    """Return the names that the paths of a list get, none of which leaves the folder of the results; "" for `.`."""
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
