"""Lists that users keep in text files: UTF-8, one item per line, lines that start with # are comments."""

import re
from pathlib import Path

from san_cli.errors import SanError

MAX_BYTES = 16 * 2**20


def read_lines(path: str, what: str) -> list[tuple[int, str]]:
    """The lines of `path` that say something, stripped, each with its number from 1.

    A byte order mark and CRLF or CR line ends are accepted, and so is a pipe (`@<(command)`).
    Raises SanError, with `what` ("names") in its text, if the file is missing, unreadable, above 16 MiB,
    not UTF-8, or has nothing but comments.
    """
    lines = [(number, line.strip()) for number, line in enumerate(_read(path, what), start=1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not lines:
        raise SanError(f"The file '{path}' holds no {what}.", hint="One per line, # starts a comment.")
    return lines


def _read(path: str, what: str) -> list[str]:
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SanError(
            f"There is no file '{path}' to read {what} from.", hint="Check the path that follows the @."
        ) from None
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: NUL in the path; RuntimeError: no home
        reason = getattr(error, "strerror", None) or str(error)
        raise SanError(f"The file '{path}' can't be read: {reason}.") from None
    if len(data) > MAX_BYTES:
        raise SanError(f"The file '{path}' is above 16 MiB, too large for a list of {what}.")
    try:
        return re.split(r"\r\n|\r|\n", data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SanError(
            f"The file '{path}' is not UTF-8 text (byte {error.start}).", hint="Save it as UTF-8."
        ) from None
