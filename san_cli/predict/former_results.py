"""Results of a former run, so that they aren't taken for photographs."""
# Paths stay strings here: 100,000 of them must not cost seconds.
# ruff: noqa: PTH113, PTH120

import os

from san_cli.predict.journal import STATE_FOLDER

# An image's results are its stem between two of these. No suffix ends in another, so two results have one name
# only if their images have one stem.
RESULTS = (("", ".overlay.jpg"), ("", ".labels.png"), ("html/", ".photo.jpg"), ("html/", ".classes.png"))
_SUFFIXES = tuple(suffix for _, suffix in RESULTS)


def has_result_name(name: str) -> bool:
    """Whether a file is called like a result."""
    return name.endswith(_SUFFIXES)


class FormerResults:
    """Tells the results of former runs from other files: by name, and by the run's own folder beside or above."""

    def __init__(self) -> None:
        self._in_run: dict[str, bool] = {}  # by folder

    def has(self, real: str) -> bool:
        """Whether a run has made the file; `real` is its path without links."""
        return has_result_name(real) and self._is_in_run(os.path.dirname(real))

    def _is_in_run(self, folder: str) -> bool:
        if folder not in self._in_run:
            above = os.path.dirname(folder)
            self._in_run[folder] = os.path.isfile(f"{folder}/{STATE_FOLDER}/run.json") or (
                above != folder and self._is_in_run(above)
            )
        return self._in_run[folder]
