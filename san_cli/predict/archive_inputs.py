"""The images of an archive as inputs: those that a folder would give that it was unpacked to, in its order."""
# Paths stay strings here: 100,000 of them must not cost seconds.
# ruff: noqa: PTH122

import os

from san_cli.datasets.archive_listing import Found, files_of, list_archive
from san_cli.datasets.foreign_formats import MEDIA_SUFFIXES, PHOTO_SUFFIXES
from san_cli.datasets.image_magic import looks_like_image
from san_cli.datasets.image_names import IMAGE_SUFFIXES
from san_cli.predict.journal import STATE_FOLDER
from san_cli.predict.output_names import is_result_below
from san_cli.predict.search import SYSTEM_FOLDERS, FailedInput, FoundFile, Search, join, real_path

_RUN = f"{STATE_FOLDER}/run.json"


def add_archive(search: Search, path: str, front: str) -> None:
    """Add the images of an archive; `front` goes before their names. What is wrong with it is a failure."""
    listed = list_archive(path)
    search.archives.append(path)
    before = len(search.found) + len(search.foreign)
    files = list(files_of(listed))
    if len(files) < len(listed.found):
        search.twice.append(path)
    if listed.goes_on:
        search.gone_on.append(path)
    runs = tuple(one.name.removesuffix(_RUN) for one in files if f"/{one.name}".endswith(f"/{_RUN}"))
    real = real_path(path)
    hidden: set[str] = set()
    for one in files:
        if _is_wanted(search, one, hidden):
            _add(
                search,
                one,
                FoundFile(str(one.member), join(front, one.name), "", False, one.member),
                runs,
                real,
            )
    search.hidden += len(hidden)
    if listed.fault:
        search.failures.append(FailedInput(front or os.path.basename(path), listed.fault, path))  # noqa: PTH119
    elif len(search.found) + len(search.foreign) == before:
        search.without_images.append(path)


def _is_wanted(search: Search, one: Found, hidden: set[str]) -> bool:
    """Tell whether a folder's search would come upon a file, and note it if not; of a folder once."""
    parts = one.name.split("/")
    for depth, part in enumerate(parts):
        above = "/".join(parts[: depth + 1])
        if part.startswith("."):
            hidden.add(above)
            return False
        if part in SYSTEM_FOLDERS and depth < len(parts) - 1:
            where = f"{one.member.archive.path}/{above}"
            if where not in search.system:
                search.system.append(where)
            return False
    if not search.recursive and len(parts) > 1:
        search.not_entered += 1
        return False
    return not (one.name and search.exclusion.covers(one.name, str(one.member)))


def _add(search: Search, one: Found, file: FoundFile, runs: tuple[str, ...], real: str) -> None:
    suffix = os.path.splitext(one.name or one.what)[1].lower()
    is_image = suffix in IMAGE_SUFFIXES or suffix in PHOTO_SUFFIXES
    if not one.name:
        if is_image:
            search.failures.append(
                FailedInput(one.what, "its name leads out of its archive's folder", f"{file.path}{one.what}")
            )
    elif one.what:
        search.no_files += [file.path] * is_image
    elif any(one.name.startswith(run) and is_result_below(one.name[len(run) :]) for run in runs):
        search.results.append(file.path)
    elif suffix in IMAGE_SUFFIXES:
        search.found.append(file._replace(real=f"{real}/{one.name}"))
    elif suffix in PHOTO_SUFFIXES:
        search.foreign.append(file)
    elif suffix not in MEDIA_SUFFIXES and looks_like_image(one.head):
        search.look_alikes.append(file)
    else:
        search.other_suffixes[suffix] += 1
