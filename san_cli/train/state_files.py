"""The small files of a training: read whatever has become of them, and written whole or not at all."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from san_cli.errors import ExitCode, SanError
from san_cli.files import atomic_write
from san_cli.text import printable, quoted
from san_cli.weights.checkpoint import Checkpoint

Writer = Callable[[Checkpoint, Path], None]
_MOST_BYTES = 2**24  # of settings: they hold hashes of long lists, not the lists


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. OSError where it can't be read, ValueError where it is something else."""
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")  # and a pipe would be waited for
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError("it is far too large")
    try:
        found = json.loads(content)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def write_json(path: Path, content: object) -> None:
    """Readable JSON, atomically. OSError where that fails."""
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def unwritable(what: str, output: Path, error: Exception) -> SanError:
    """What ends a training that can't write `what` any more: the cause, and the way out that fits it."""
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
