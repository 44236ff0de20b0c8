"""`--exclude`: inputs that are left out by their names."""

import os
import re
from collections.abc import Sequence
from fnmatch import translate

from san_cli.predict.file_tree import is_glob, matches


class Exclusion:
    """Patterns of names to leave out, and which of them have met one.

    A pattern without `/` is compared with every part of a name: `*.png`, `masks`. One with `/` is compared with
    the whole name below the folder given, or with the path as it was given; `**` stands for any folders.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._parts: dict[str, re.Pattern[str]] = {}
        self._paths: dict[str, list[str]] = {}
        for pattern in patterns:
            plain = pattern.removeprefix("./").rstrip("/")
            if "/" in plain:
                self._paths[pattern] = plain.split("/")
            else:
                self._parts[pattern] = re.compile(translate(plain))
        self._unmet = dict.fromkeys(patterns)
        self.left_out = 0

    def __call__(self, name: str, path: str) -> bool:
        """Whether to leave out what is called `name` below the folder given and is opened as `path`."""
        if not self._parts and not self._paths:
            return False
        last = name.rpartition("/")[2]
        met = [pattern for pattern, compiled in self._parts.items() if compiled.match(last)]
        if self._paths:
            below, whole = name.split("/"), os.path.normpath(path).split("/")
            for pattern, parts in self._paths.items():
                from_folder = (
                    parts[1:] if parts[0] == "" else parts
                )  # as in .gitignore, "/masks" starts there
                if matches(below, from_folder) or matches(whole, parts):
                    met.append(pattern)
        for pattern in met:
            self._unmet.pop(pattern, None)
        self.left_out += bool(met)
        return bool(met)

    def covers(self, name: str, path: str) -> bool:
        """Whether to leave out a path that is named itself, by its own name or by that of a folder in it."""
        parts = name.split("/")
        return any(self("/".join(parts[:end]), path) for end in range(1, len(parts) + 1))

    def unmet_notes(self) -> list[str]:
        """A sentence on each pattern that has met nothing so far."""
        notes = []
        for pattern in self._unmet:
            text = f"--exclude '{pattern}' met no name"
            if "," in pattern:
                text += "; patterns aren't joined by commas, but --exclude may be repeated"
            elif not is_glob(pattern) and os.path.lexists(pattern):
                text += "; a pattern needs quotes, or the shell puts in the names that are here"
            notes.append(text)
        return notes
