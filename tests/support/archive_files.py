"""Archives of every kind that san reads, made of a folder."""

import tarfile
import zipfile
from pathlib import Path

KINDS = ("zip", "stored.zip", "tar", "tar.gz", "tar.bz2", "tar.xz")


def archive_of(folder: Path, path: Path, names: list[str] | None = None) -> Path:
    """An archive at `path` of the files in a folder, in the order of their names, by the suffix of `path`."""
    files = names or sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        method = zipfile.ZIP_STORED if "stored" in path.name else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", method) as archive:
            for name in files:
                archive.write(folder / name, name)
    else:
        mode = {".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
        with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
            for name in files:
                tar.add(folder / name, name)
    return path
