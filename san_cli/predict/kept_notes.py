"""What a run said of its words, kept beside its journal: a run that embeds none, as all is done, says it again.

DIR/.san/notes      a list of texts, JSON
"""

import json
from collections.abc import Sequence
from pathlib import Path

from san_cli.files import atomic_write, read_regular
from san_cli.predict.journal import STATE_FOLDER
from san_cli.predict.results import stopping
from san_cli.text import json_text


def keep_notes(output: Path, notes: Sequence[str]) -> None:
    """Keep what was said of the words; SanError where that can't be written."""
    if kept_notes(output) == list(notes):
        return
    try:
        with atomic_write(output / STATE_FOLDER / "notes") as stream:
            stream.write((json_text(list(notes)) + "\n").encode("ascii"))
    except OSError as error:
        raise stopping(error, output) from error


def kept_notes(output: Path) -> list[str] | None:
    """Read what was said of the words; None where that isn't known, as of an older san."""
    try:
        found = json.loads(read_regular(output / STATE_FOLDER / "notes"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(text, str) for text in found) else None
