"""Lists that users keep in text files: UTF-8, one item per line, lines that start with # are comments."""

import re
import shlex
from pathlib import Path

from san_cli.errors import SanError
from san_cli.text import quoted
from san_cli.vocabulary.class_lists import DATASET_NAMES
from san_cli.vocabulary.learned_words import holds_words

MAX_BYTES = 16 * 2**20

_MAGIC = (  # how files begin that are taken for text by mistake, and what they are
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"RIFF", "an image, sound or film (RIFF)"),
    (b"PK\x03\x04", "a ZIP archive (.zip, .xlsx, .docx, .npz or .pth)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"%PDF", "a PDF document"),
    (b"{\\rtf", "an RTF document"),
    (b"\xd0\xcf\x11\xe0", "an Office document (.xls or .doc)"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"SQLite", "an SQLite database"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\x7fELF", "a program"),
    (b"version https://git-lfs", "a Git LFS pointer (`git lfs pull` fetches the file)"),
)


def lines_of(text: str, path: str, what: str) -> list[tuple[int, str]]:
    """List the lines of `text`, from `path`, that say something, stripped, each with its number from 1."""
    lines = [(number, line.strip()) for number, line in enumerate(all_lines(text), start=1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not lines:
        raise SanError(f"The file {quoted(path)} holds no {what}.", hint="One per line, # starts a comment.")
    return lines


def all_lines(text: str) -> list[str]:
    """Split a text with LF, CRLF or CR ends into its lines."""
    return re.split(r"\r\n|\r|\n", text)


def read_text(path: str, what: str) -> str:
    """Read the text in `path`, which may begin with a byte order mark, and may be a pipe (`@<(command)`).

    Raises SanError, with `what` ("names") in its text, if the file is missing, unreadable, above 16 MiB or
    not UTF-8 text; the message says what it is instead where its first bytes tell.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SanError(
            f"There is no file {quoted(path)} to read {what} from.", hint=_way_to_file(path)
        ) from None
    except IsADirectoryError:
        raise SanError(
            f"{quoted(path)} can't be read: it is a folder, not a file of {what}.",
            hint="Give the file itself.",
        ) from None
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: NUL in the path; RuntimeError: no home
        reason = getattr(error, "strerror", None) or str(error)
        raise SanError(f"The file {quoted(path)} can't be read: {reason}.") from None
    _refuse_binary(data, path, what)
    if len(data) > MAX_BYTES:
        raise SanError(
            f"The file {quoted(path)} is above 16 MiB, too large for a list of {what}.",
            hint=f"Put the {what} alone into a file, one a line; of a COCO file, the list of its categories.",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SanError(
            f"The file {quoted(path)} is not UTF-8 text (byte {error.start}).",
            hint=with_names(
                "Save it as UTF-8, or convert it: `iconv -f LATIN1 -t UTF-8 FILE > NEW` if it is in Latin-1.",
                path,
            ),
        ) from None


def with_names(hint: str, path: str) -> str:
    """Write `hint` with the file's own name for FILE and one beside it for NEW, as a shell reads them."""
    if path.startswith("/dev/") or not path.isprintable():
        return hint
    new = str(Path(path).with_name(f"{Path(path).stem}-new.txt")) if Path(path).name else "new.txt"
    return hint.replace("FILE", shlex.quote(path)).replace("NEW", shlex.quote(new))


def _way_to_file(path: str) -> str:
    name = path.casefold()
    if name in DATASET_NAMES:
        return f"{name} is a vocabulary: `san vocab show {name} > {name}.txt` makes a file of it."
    return "Check the path that follows the @." if not path.startswith("@") else "Write one @ only."


def _refuse_binary(data: bytes, path: str, what: str) -> None:
    """Raise SanError for what is no text in ASCII or UTF-8, saying what it is."""
    if holds_words(data) and Path(path).expanduser().is_file():
        raise SanError(
            f"{quoted(path)} is a file of learned words, not a list of {what}.",
            hint=f"Give a text file of {what} here, one a line; learned words go to --vocab of predict and eval: "
            f"--vocab {shlex.quote('@' + path)}",
        )
    if holds_words(data):  # what is read once can't be looked at before
        raise SanError(
            f"{quoted(path)} has learned words, but is no file: a pipe can't be read for them.",
            hint="Name the file itself.",
        )
    if data[8:9] == b"{" and b"\0" in data[:8]:
        raise SanError(
            f"{quoted(path)} is a safetensors file, of a model's weights perhaps, not a list of {what}.",
            hint=f"Weights go to --weights. Give a text file of {what}, one a line, or learned words: "
            "`san vocab learn` writes a file of these.",
        )
    kind = next((kind for start, kind in _MAGIC if data.startswith(start)), "")
    if kind:
        raise SanError(
            f"{quoted(path)} is {kind}, not a list of {what}.",
            hint=f"Give a text file of {what}, one a line.",
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SanError(
            f"{quoted(path)} is UTF-16 text, not UTF-8.",
            hint=with_names("Save it as UTF-8, or convert it: `iconv -f UTF-16 -t UTF-8 FILE > NEW`.", path),
        )
    if b"\0" in data:
        raise SanError(
            f"{quoted(path)} is not a text file: its byte {data.index(0)} is NUL.",
            hint=f"Give a text file of {what} in UTF-8, one a line.",
        )
