"""What is known of a model's weights without loading them: where they are, their hash, whether that is right."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from san_cli.errors import SanError
from san_cli.weights.file_hash import states_hash, weights_sha256
from san_cli.weights.find import file_names, locate_weights
from san_cli.weights.hub import OFFICIAL


@dataclass(frozen=True)
class Survey:
    """One model's weights, here or published.

    `check` is "published" (the authors' own file, to the byte), "sealed" (has the sha256 that its header states),
    "unknown" (nothing tells what it should be), "damaged", "not here", or why the file can't be read.
    """

    model: str
    file: str  # name
    bytes: int | None  # of the file, or of the published one where none is here; None if unknown
    sha256: str | None  # likewise
    check: str
    path: Path | None  # None: not here

    @property
    def facts(self) -> dict[str, Any]:
        """The same in JSON."""
        return {**vars(self), "path": None if self.path is None else str(self.path)}


def survey_weights(model: str) -> Survey:
    """Look for a model's weights as `find_weights` does, without a download, and hash them; raises nothing."""
    found, official = locate_weights(model), OFFICIAL.get(model)
    if found is None:
        if official is None:
            return Survey(model, file_names(model)[0], None, None, "not here", None)
        return Survey(model, official.filename, official.size, official.sha256, "not here", None)
    size = sha256 = None
    try:
        size = found.stat().st_size
        sha256 = weights_sha256(found)
        if official is not None and sha256 == official.sha256:
            check = "published"
        elif states_hash(found):
            check = "sealed"
        else:
            check = "damaged" if official is not None and size == official.size else "unknown"
    except OSError as error:
        check = error.strerror or "unreadable"
    except SanError:  # `san weights verify` says more
        check = "damaged"
    return Survey(model, found.name, size, sha256, check, found)
