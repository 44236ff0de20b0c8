"""Open the tables of a run in the programs that read tables, and compare what they see with what is written.

    python scripts/check_tables.py FOLDER [--program NAME]
    python scripts/check_tables.py FOLDER --sample        write tables with hard names there first (needs san)

Asks those of pandas, DuckDB, pyarrow and LibreOffice that are installed (pandas, duckdb, pyarrow from the index;
LibreOffice is `soffice` on the PATH, which converts to xlsx, read here as the XML that it is). The truth is what
Python's csv reads, strictly; of a Parquet file, the CSV file beside it. Compared are the number of rows, the sum of
the pixels and all names; a formula is a fault. One line per program and file, exit code 1 where something differs.

LibreOffice has to be told that CSV is UTF-8 where no window asks (its 7.4 takes Windows-1252 otherwise, also behind a
byte order mark), and has one kind of line break in a cell.
"""

import argparse
import csv
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

Table = tuple[list[str], int]  # the names, image and class by turns, row by row; the sum of the pixels

_INFILTER = "--infilter=CSV:44,34,76,1"  # comma, quote, UTF-8, from the first line on
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def in_csv(path: Path) -> Table:
    """The truth: what Python's csv reads."""
    with path.open(encoding="utf-8", newline="") as file:
        return _table(csv.DictReader(file, strict=True))


def in_pandas(path: Path) -> Table:
    """Read by pandas as its manual says, but for a class that is called `NA`."""
    import pandas

    if path.suffix == ".parquet":
        frame = pandas.read_parquet(path).astype({"class": object}).fillna({"class": ""})
    else:
        frame = pandas.read_csv(path, keep_default_na=False)
    return _table(frame.to_dict("records"))


def in_duckdb(path: Path) -> Table:
    """Read by DuckDB, which finds out the dialect by itself."""
    import duckdb

    rows = duckdb.connect().execute("select * from " + f"'{str(path).replace(chr(39), chr(39) * 2)}'")
    columns = [column[0] for column in rows.description]
    return _table(dict(zip(columns, row, strict=True)) for row in rows.fetchall())


def in_pyarrow(path: Path) -> Table:
    """Read by pyarrow."""
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    if path.suffix == ".parquet":
        return _table(parquet.read_table(path).to_pylist())
    options = arrow_csv.ParseOptions(newlines_in_values=True)
    return _table(arrow_csv.read_csv(path, parse_options=options).to_pylist())


def in_libreoffice(path: Path) -> Table:
    """Opened by LibreOffice and saved as xlsx."""
    with tempfile.TemporaryDirectory() as folder:
        command = [_soffice(), f"-env:UserInstallation=file://{folder}/profile", "--headless", _INFILTER]
        command += ["--convert-to", "xlsx", "--outdir", folder, str(path)]
        subprocess.run(command, check=True, capture_output=True, timeout=600)
        rows = list(_xlsx_rows(Path(folder, path.stem + ".xlsx")))
    columns = rows[0]
    return _table(dict(zip(columns, [*row, *[""] * len(columns)], strict=False)) for row in rows[1:])


def _xlsx_rows(path: Path) -> Iterator[list[str]]:
    """The cells of the first sheet as text; ValueError for a formula."""
    with zipfile.ZipFile(path) as book:
        shared = [
            "".join(part.text or "" for part in item.iter(f"{_SHEET}t"))
            for item in ElementTree.fromstring(book.read("xl/sharedStrings.xml"))
        ]
        with book.open("xl/worksheets/sheet1.xml") as sheet:
            for _, row in ElementTree.iterparse(sheet):
                if row.tag != f"{_SHEET}row":
                    continue
                cells: list[str] = []
                for cell in row:
                    if cell.find(f"{_SHEET}f") is not None:
                        raise ValueError(f"cell {cell.get('r')} is a formula")
                    place = _column(cell.get("r", ""))
                    cells += [""] * (place - len(cells))
                    value = cell.findtext(f"{_SHEET}v") or ""
                    text = shared[int(value)] if cell.get("t") == "s" else value
                    cells.append(re.sub("_x([0-9A-Fa-f]{4})_", lambda found: chr(int(found[1], 16)), text))
                yield cells
                row.clear()


def _column(reference: str) -> int:
    """The place, from 0, of a cell such as AB12."""
    place = 0
    for letter in re.match("[A-Z]*", reference)[0]:  # type: ignore[index]
        place = 26 * place + ord(letter) - 64
    return place - 1


def _soffice() -> str:
    return shutil.which("soffice") or ""


def _table(rows: Iterator[dict[str, Any]] | Sequence[dict[str, Any]]) -> Table:
    names, pixels = [], 0
    for row in rows:
        names += [str(row.get("image", "")), str(row["class"] or "")]
        pixels += int(row["pixels"])
    return names, pixels


def _libreoffice_version() -> str:
    return subprocess.run([_soffice(), "--version"], capture_output=True, text=True).stdout.split()[1]


PROGRAMS: dict[str, Callable[[Path], Table]] = {
    "pandas": in_pandas,
    "duckdb": in_duckdb,
    "pyarrow": in_pyarrow,
    "libreoffice": in_libreoffice,
}


def difference(expected: Table, seen: Table, same: Callable[[str, str], bool]) -> str:
    """What a program sees otherwise than it is written, in a few words; empty if nothing."""
    if len(expected[0]) != len(seen[0]):
        return f"{len(seen[0]) // 2} rows instead of {len(expected[0]) // 2}"
    if expected[1] != seen[1]:
        return f"{seen[1]} pixels instead of {expected[1]}"
    for written, read in zip(expected[0], seen[0], strict=True):
        if not same(written, read):
            return f"the name {written!r} is read as {read!r}"
    return ""


def _equal(written: str, read: str) -> bool:
    return written == read


def _equal_but_line_breaks(written: str, read: str) -> bool:
    return written.replace("\r\n", "\n").replace("\r", "\n") == read.replace("\r\n", "\n").replace("\r", "\n")


def _true_name(written: str, read: str) -> bool:
    """Whether `read`, of Parquet, is the name for which CSV has `written`."""
    spelled = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], read)
    return written in (spelled, "'" + spelled)


def write_sample(folder: Path) -> None:
    """Write the tables of 500 images with names that are hard to read."""
    import numpy as np

    from san_cli.outputs import tables
    from san_cli.outputs.record import Found, ImageRecord
    from san_cli.regions.parts import count_parts
    from san_cli.regions.rle import encode_label_map

    # Without names such as 007 and 1/2, which a spreadsheet reads as a number or a date whatever one writes.
    hard = ["=1+1", "+1", "-1", "@SUM(1)", "=cmd|' /C calc'!A0", "\t=1", "\r1", " =1", "＝1+1", "'=1", "'80s"]
    hard += [
        'a "quoted", name',
        "two\nlines",
        "cr\r\nlf",
        "a;b\tc",
        "猫",
        "ä é",
        "\u0627\u0644",
        "👩\u200d🚒",
        "\x1b[1m",
    ]
    hard += ["NA", "null", "  blanks  ", "\udcff", "#x", "﹢1", "−1", "\ufeff=1", "a\u2028b"]
    random = np.random.default_rng(0)
    records = []
    for i in range(500):
        label_map = random.integers(-1, len(hard), (5, 9))
        regions = encode_label_map(label_map)
        parts = count_parts(label_map, regions)
        found = tuple(Found(c, region, 0.5, 0.25, parts[c]) for c, region in regions.items())
        name = hard[i] + ".jpg" if i < len(hard) else f"{i}.jpg"
        records.append(ImageRecord(name, *label_map.shape, found))
    writers = {tables.AREAS: tables.write_areas, tables.SUMMARY: tables.write_summary}
    if importlib.util.find_spec("pyarrow"):
        writers |= {
            tables.AREAS_PARQUET: tables.write_areas_parquet,
            tables.SUMMARY_PARQUET: tables.write_summary_parquet,
        }
    for file_name, write in writers.items():
        stream = io.BytesIO()
        write(stream, classes=hard, records=records)
        (folder / file_name).write_bytes(stream.getvalue())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--program", choices=PROGRAMS)
    parser.add_argument("--sample", action="store_true")
    options = parser.parse_args()
    if options.sample:
        write_sample(options.folder)
    asked = 0
    wrong = 0
    for name in [options.program] if options.program else PROGRAMS:
        there = _soffice() if name == "libreoffice" else importlib.util.find_spec(name)
        if not there:
            print(f"{name}: not installed")
            continue
        number = _libreoffice_version() if name == "libreoffice" else version(name)
        for stem in ("areas", "summary"):
            for suffix in (".csv", ".parquet"):
                path = options.folder / (stem + suffix)
                if not path.exists() or (name == "libreoffice" and suffix == ".parquet"):
                    continue
                expected = in_csv(path.with_suffix(".csv"))
                same = _equal_but_line_breaks if name == "libreoffice" else _equal
                same = _true_name if suffix == ".parquet" else same
                try:
                    seen = PROGRAMS[name](path)
                    fault = difference(expected, seen, same)
                except Exception as error:
                    fault = f"{type(error).__name__}: {error}"
                asked += 1
                wrong += bool(fault)
                rows = len(expected[0]) // 2
                print(
                    f"{name} {number}: {path.name}: {fault or f'{rows} rows, {expected[1]} pixels, all names'}"
                )
    return 1 if wrong or not asked else 0


if __name__ == "__main__":
    sys.exit(main())
