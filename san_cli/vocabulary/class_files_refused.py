"""Text files that are refused as class files: what they are instead, and the way to a list of names."""

import csv
import re
import shlex
from pathlib import Path

from san_cli.errors import SanError
from san_cli.text import counted, printable, quoted
from san_cli.vocabulary.lines import with_names
from san_cli.vocabulary.terms import read_line

Lines = list[tuple[int, str]]  # number and text of each line that says something

_ALONE = "Put the names alone into a file, one a line."
_HEADERS = {  # of a table's columns
    "id", "idx", "index", "label", "labels", "class", "classes", "category", "name", "names", "filename",
    "label_id", "class_id", "category_id", "train_id", "trainid", "supercategory", "colour", "color",
    "labelname", "displayname", "classname", "class_name", "category_name", "r", "g", "b", "red", "green",
}  # fmt: skip
_PICTURE = re.compile(r"\S.*\.(jpe?g|png|tiff?|bmp|webp|gif)", re.IGNORECASE)
# A number before a name with something else than a space or a colon between: (0) road, 0_road, 0 -> road, id 0 road
_MARKED = re.compile(
    r"(?:(?:id|class|label)\s*)?[(\[<#]?(\d{1,9})\s*[)\]>]?\s*(?:[-=]?>|[-_/=:.)]|\s)\s*\S", re.IGNORECASE
)
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")


def refuse_foreign(path: str, text: str, lines: Lines) -> None:
    """Raise SanError if `text`, whose `lines` are those without comments, isn't certainly one name a line."""
    lines = [(number, line) for number, line in lines if not _is_quoted(line)]
    if not lines:
        return
    found = (
        _markup(text, lines)
        or _labelmap(text, lines)
        or _markdown(lines)  # which may hold code
        or _code(path, lines)
        or _table(path, lines)
        or _other_things(lines)
        or _names_with_numbers(lines)
        or _one_line(lines)
        or _special_lines(lines)
    )
    if found:
        what, hint = found
        quotes = "" if "quotes" in hint else " A line in quotes is literally a name."
        raise SanError(f"{quoted(path)} is no list of names: {what}.", hint=with_names(hint, path) + quotes)


def _is_quoted(line: str) -> bool:
    try:
        return line[0] in "'\"" and bool(read_line(line))
    except SanError:
        return False


Finding = tuple[str, str] | None  # what it is and the way out


def _markup(text: str, lines: Lines) -> Finding:
    start, first, last = text.lstrip()[:200].lower(), lines[0][1], lines[-1][1]
    if start.startswith(("<!doctype html", "<html")):
        return "it is a web page (HTML)", "Download the file itself (on GitHub: Raw)."
    closed = first.startswith("<") and len(lines) > 1 and (last.startswith("</") or last.endswith("/>"))
    if start.startswith(("<?xml", "<!", "<annotation", "<view")) or closed:
        studio = "a labelling configuration of Label Studio" if "<Label " in text else "XML"
        return f"it is {studio}", _ALONE
    if re.match(r"(?m)item\s*:?\s*\{", first):
        return "it is a label map of TensorFlow (pbtxt)", _ALONE
    return None


def _labelmap(text: str, lines: Lines) -> Finding:
    parts = re.compile(r"[^:]*:(\d+,\d+,\d+)?:[^:]*:[^:]*")
    if text.lstrip().startswith("# label:color_rgb") or all(parts.fullmatch(line) for _, line in lines):
        return (
            "it is a labelmap.txt of CVAT, with colours",
            "Take the names alone: `cut -d: -f1 FILE > NEW`.",
        )
    return None


def _code(path: str, lines: Lines) -> Finding:
    """Python, TOML and other settings."""
    suffix = Path(path).suffix.lower()
    assigned = re.compile(r"[\w.\"-]+\s*=(?!=)\s*(\S.*)?")
    code = re.compile(
        r"from\s+[\w.]+\s+import\b.*|(def|class)\s+\w+.*:|[\w.]+\s*=\s*([\[({'\"]|\w+\().*|\(\s*['\"].*"
    )
    for number, line in lines:
        if suffix in (".py", ".toml", ".cfg", ".ini") or code.fullmatch(line):
            name = "TOML" if suffix == ".toml" else "Python or settings"
            return f"it is {name} (line {number}: {printable(line[:40])})", _ALONE
    if all(assigned.fullmatch(line) or re.fullmatch(r"\[.*\]", line) for _, line in lines):
        named = [line.split("=")[1].strip() for _, line in lines if re.match(r"names\s*=\s*\S", line)]
        file = f" Its names are in another file: @{named[0]}" if named else ""
        return "its lines are settings (key = value)", _ALONE + printable(file)
    return None


def _markdown(lines: Lines) -> Finding:
    for number, line in lines:
        if line.startswith(("|", "```", "---")):
            return f"it is Markdown (line {number}: {printable(line[:40])})", _ALONE
    return None


def _table(path: str, lines: Lines) -> Finding:
    """CSV, tab-separated and other columns, of which one holds the names."""
    suffix, texts = Path(path).suffix.lower(), [line for _, line in lines]
    for mark, name in (("\t", "tabs"), (",", "commas"), (";", "semicolons"), ("|", "|")):
        if not any(mark in line for line in texts):
            continue
        try:
            rows = [[cell.strip() for cell in row] for row in csv.reader(texts, delimiter=mark)]
        except csv.Error:
            continue
        meant = mark == "\t" or (suffix in (".csv", ".tsv") and mark != "|")
        if meant or _has_columns(rows):
            head = ", ".join(printable(cell[:20]) for cell in rows[0][:6])
            return f"it is a table with {name} between its columns (first line: {head})", _column(rows, mark)
    if len(texts) > 1 and texts[0].casefold() in _HEADERS and suffix in (".csv", ".tsv"):
        return f"its first line is a header ({printable(texts[0])})", "Remove that line."
    if all(re.fullmatch(r"(\d+\s+){3}\D.*|.*\D(\s+\d+){3}", line) for line in texts):
        return "its lines hold colours beside the names", _ALONE
    return None


def _has_columns(rows: list[list[str]]) -> bool:
    """Tell whether rows of equal length have a column of numbers, or a header."""
    if len(rows) < 2 or len({len(row) for row in rows}) > 1 or len(rows[0]) < 2:
        return False
    if all(cell.casefold().strip("'\"") in _HEADERS for cell in rows[0]):
        return True
    return any(all(_NUMBER.fullmatch(cell) for cell in column[1:]) for column in zip(*rows, strict=True))


def _column(rows: list[list[str]], mark: str) -> str:
    """Write the command that takes the names out of a table, as far as the column can be told."""
    head, *body = rows
    if head[0].casefold() in ("filename", "file", "image"):
        return f"{_ALONE} They are in its first line."
    width = min(map(len, rows))
    words = [n for n in range(width) if not all(_NUMBER.fullmatch(row[n]) for row in body or rows)]
    words = [n for n in words if not rows[-1][n].startswith("/")] or [0]
    has_header = any(cell.casefold() in _HEADERS for cell in head)
    named = [n for n in words if has_header and "name" in head[n].casefold()]
    column = (named[-1] if named else words[0]) + 1
    option = "" if mark == "\t" else f"-d{shlex.quote(mark)} "
    command = f"cut {option}-f{column} FILE{' | tail -n +2' if has_header else ''} > NEW"
    return f"Take the names alone; if they are in column {column}: `{command}`."


def _other_things(lines: Lines) -> Finding:
    texts = [line for _, line in lines]
    if all(_NUMBER.fullmatch(word) for line in texts for word in line.split()):
        return (
            "it holds nothing but numbers (are they labels?)",
            "Write names, which CLIP knows; put quotes around numbers that are names.",
        )
    if all(_PICTURE.fullmatch(line) for line in texts):
        return "it is a list of images", "Give the file of class names."
    if all(re.fullmatch(r"n\d{8}", line) for line in texts):
        return "it holds WordNet ids without names", "Give a file of names, such as synset_words.txt."
    if texts[0].startswith("404: Not Found"):
        return "it is an error page (404: Not Found)", "Download the file again."
    return None


def _names_with_numbers(lines: Lines) -> Finding:
    """Numbers before or after names that are not 0…n-1 or 1…n in order, so that their meaning is open."""
    texts = [line for _, line in lines]
    leading = [re.match(r"(\d{1,9})(\s*[:)\]]|\.\s|\s)", line) for line in texts]
    marked = [_MARKED.match(line) for line in texts]
    if all(marked):
        leading = marked
    numbers = [found[1] for found in leading if found]
    if len(numbers) >= max(2, len(texts) / 2) and len(set(numbers)) == len(numbers):
        some = (
            f"{len(numbers):,} of its {counted(len(texts), 'line')}"
            if len(numbers) < len(texts)
            else "its lines"
        )
        why = "" if all(marked) else ", but not with 0, 1, 2 … in order"
        return (
            f"{some} begin with numbers{why}",
            "Number all lines from 0 (or 1) on, as in `0: road`, or leave the numbers out; put quotes around a "
            "name that begins with a number.",
        )
    if len(texts) == 1 and re.fullmatch(r"[01] \S.*", texts[0]):
        return (
            f"{quoted(texts[0][:40])} may be a name with its id",
            "Write the name alone, or put quotes around the line if the number belongs to it.",
        )
    trailing = [re.fullmatch(r"(.*\S)\s*[\s:=(\[]\s*(\d{1,9})[)\]]?", line) for line in texts]
    stems = {found[1] for found in trailing if found}
    ids = [int(found[2]) for found in trailing if found]
    if len(texts) > 1 and len(ids) == len(stems) == len(texts) and len(set(ids)) == len(ids):
        return "its lines end with numbers", f"{_ALONE} In the order of their ids."
    pairs = [re.fullmatch(r"[^:\s][^:]*:\s+\S.*", line) for line in texts]
    if len(texts) > 1 and all(pairs):
        return f"its lines are `key: value` ({printable(texts[0][:40])})", _ALONE
    return None


def _one_line(lines: Lines) -> Finding:
    texts = [line for _, line in lines]
    if len(texts) == 1 and re.fullmatch(r"([^.]+\.\s*){2,}", texts[0]):
        return (
            "all names stand in one line, with full stops between",
            "Write one name a line: `tr '.' '\\n' < FILE > NEW`.",
        )
    if len(texts) == 1 and re.search(r"[,;]", texts[0]):
        return (
            "all names stand in one line",
            "Write one name a line: `tr ',;' '\\n' < FILE > NEW`; or put quotes around the line if it is one name.",
        )
    mark = texts[0][-1]
    if len(texts) > 1 and mark in ",;" and all(line[-1] == mark for line in texts[:-1]):
        return f"its lines end with '{mark}'", f"Remove that: `sed 's/{mark}$//' FILE > NEW`."
    return None


def _special_lines(lines: Lines) -> Finding:
    """Names that stand for no class in the programs that write them."""
    for number, line in lines:
        if line == "__ignore__":
            return (
                f"line {number} is `__ignore__`, which has the id -1 in labelme's labels.txt",
                "Remove that line, and write background for _background_.",
            )
        if line in ("_background_", "__background__"):
            return (
                f"line {number} is `{line}`, which CLIP can't read",
                "Write background, or any name for it.",
            )
    return None
