"""Error of everything between a file and its pixels, and how many of these a file may have."""

import os

from san_cli.errors import ExitCode, SanError
from san_cli.text import printable

MAX_PIXELS = 178_956_970  # by default; where Pillow itself stops


class BadImage(SanError):
    """One image that cannot be used. `cause` is one line without control characters and without the path."""

    def __init__(self, cause: str, *, path: str | os.PathLike[str] | None = None) -> None:
        self.cause = printable(cause)
        message = self.cause if path is None else f"{printable(os.fspath(path))}: {self.cause}"
        super().__init__(message, code=ExitCode.SOME_FAILED)
