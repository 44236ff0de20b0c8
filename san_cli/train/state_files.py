"""The small files of a training, written whole or not at all."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

from san_cli.errors import ExitCode, SanError
from san_cli.files import atomic_write
from san_cli.text import printable, quoted
from san_cli.weights.checkpoint import Checkpoint

Writer = Callable[[Checkpoint, Path], None]


def write_json(path: Path, content: object) -> None:
    """Write readable JSON, atomically. OSError where that fails."""
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def unwritable(what: str, output: Path, error: Exception) -> SanError:
    """Return the error that ends a training which can't write `what`: the cause, and the way out that fits it."""
    cause = error.__cause__ if isinstance(error, SanError) and error.__cause__ is not None else error
    if not output.is_dir():
        return SanError(
            f"{what} can't be written: the folder {quoted(output)} is gone",
            hint="It was moved or removed under way. Put it back and go on with --resume, or begin anew.",
            code=ExitCode.SOME_FAILED,
        )
    is_full = any(os.strerror(number) in str(cause) for number in (errno.ENOSPC, errno.EDQUOT))
    way = "make room" if is_full else "mend that"
    return SanError(
        f"{what} can't be written to {quoted(output)} ({printable(str(cause))})",
        hint=f"Checkpoints are complete: {way} and go on with --resume.",
        code=ExitCode.SOME_FAILED,
    )
