"""A list of paths on stdin, one a line or separated by NULs, and the names that the paths get."""
# Paths stay strings here: 100,000 of them must not cost seconds.
# ruff: noqa: PTH100, PTH117, PTH120, PTH206

import os
import re
from collections.abc import Callable, Sequence
from typing import BinaryIO

from san_cli.datasets.foreign_formats import name_foreign_format
from san_cli.datasets.image_magic import looks_like_image
from san_cli.errors import ExitCode, SanError
from san_cli.predict.mistaken_inputs import as_meant

LONGEST_LIST = 256 * 2**20  # bytes: a million long paths; what is longer may never end
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def read_list(stdin: BinaryIO | None, null_separated: bool, say: Callable[[str], None]) -> list[str]:
    """The paths on stdin, as they stand but for line ends, a byte order mark, blank lines and comments.

    Of a line that names nothing the spaces and quotes around it, `~` and `file://` are understood. Raises SanError
    for what is no list at all, such as the bytes of an image.
    """
    if stdin is None:
        raise SanError("INPUT - reads a list of images from stdin, which is closed")
    if stdin.isatty():
        say("reading the list of images from the terminal; Ctrl-D ends it")
    data = stdin.read(LONGEST_LIST + 1)
    if len(data) > LONGEST_LIST:
        raise SanError(
            "the list on stdin is above 256 MiB", hint="Give it in parts, each to its own -o folder."
        )
    _refuse_other_data(data)
    if null_separated:
        return _split_at_nulls(data)
    if data.startswith(_UTF16):  # as PowerShell writes
        data = data.decode("utf-16", "replace").encode("utf-8", "replace")
    if b"\0" in data:
        raise SanError("the list on stdin is separated by NULs", hint="Add -0 to read it as such.")
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    lines = [os.fsdecode(line) for line in data.split(b"\n" if b"\n" in data else b"\r") if line.strip()]
    paths = [line for line in lines if not line.startswith("#") or os.path.lexists(line)]
    if len(paths) < len(lines):
        say(f"lines of the list that start with # are comments: {len(lines) - len(paths):,} left out")
    return [as_meant(path) for path in paths]


def _split_at_nulls(data: bytes) -> list[str]:
    paths = [os.fsdecode(entry) for entry in data.split(b"\0") if entry]
    if b"\0" not in data and b"\n" in data and not os.path.lexists(paths[0]):
        raise SanError(
            "there is no NUL in the list on stdin", hint="Leave -0 out: its paths stand one a line."
        )
    return paths


def _refuse_other_data(data: bytes) -> None:
    """SanError for data that is meant as an input itself, or as another list than one of lines."""
    head = data[:1024]
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if os.path.lexists(os.fsdecode(re.split(rb"[\0\r\n]", start)[0])):
        return
    if looks_like_image(head):
        raise SanError(
            "INPUT - reads a list of paths, and on stdin there is an image",
            hint="Name its file: san predict FILE. What a program prints goes into a file first: "
            "… > image.png && san predict image.png",
            code=ExitCode.NO_INPUT,
        )
    what = name_foreign_format(head, "")
    if what:
        raise SanError(
            f"INPUT - reads a list of paths, and stdin holds something else: {what}", code=ExitCode.NO_INPUT
        )
    if start[:1] in (b"[", b"{", b"<") and b"\0" not in head:
        is_xml = start[:1] == b"<"
        raise SanError(
            f"INPUT - reads one path a line, and stdin holds {'XML' if is_xml else 'JSON or a list of Python'}",
            hint="Print the paths alone"
            + ("." if is_xml else ", perhaps: jq -r '.[]' LIST.json | san predict -"),
            code=ExitCode.NO_INPUT,
        )


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
