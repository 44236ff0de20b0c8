"""The files that a run leaves: written, or why they can't be."""

import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from san_cli.datasets.image_names import output_stem
from san_cli.datasets.images import os_cause
from san_cli.errors import ExitCode, SanError
from san_cli.files import temp_path
from san_cli.outputs.picture_files import Picture, class_files, write_picture_file
from san_cli.outputs.places import STAGED, run_files, way_to
from san_cli.predict.journal import STATE_FOLDER
from san_cli.predict.made_files import Mark, mark_of
from san_cli.predict.output_names import class_folders, result_paths
from san_cli.text import quoted

# Troubles with one name, not with the disk: that image fails and the others go on.
_OF_ONE_NAME = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


class Written(NamedTuple):
    """A result that is complete, but under a temporary name until the journal tells of it."""

    temp: Path
    path: Path
    mark: Mark


def write_results(
    output: Path, name: str, save: Sequence[str], picture: Picture, classes: Sequence[str]
) -> tuple[dict[str, Written], tuple[str, ...]]:
    """Write an image's own files, by key, under temporary names, and remove what has theirs.

    Returns them, and a note on each of those asked for that there can't be. OSError where writing fails; nothing
    new is left then.
    """
    if not (output / STATE_FOLDER).is_dir():  # nor is it to be made again under a run that began elsewhere
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(output))
    planned = [(kind, path, 0) for kind, path in result_paths(name, save).items()]
    planned += class_files(output_stem(name), save, picture, classes)
    written: dict[str, Written] = {}
    notes: list[str] = []
    try:
        for key, relative, class_id in planned:
            kind = key.removeprefix(STAGED).partition("/")[0]
            if kind == "labels-tiff" and not picture.geo_tags:
                continue
            path = output / relative
            make_folder(output, path.parent)
            temp = temp_path(path.parent)
            image_path = way_to(picture.path, path.parent)
            note = write_picture_file(kind, temp, picture, classes, image_path, class_id)
            if note is not None:
                notes.append(note)
            if temp.exists():
                written[key] = Written(temp, path, mark_of(temp))
                path.unlink(missing_ok=True)  # or it might be taken for the new one after a kill
    except BaseException:
        discard(written)
        raise
    return written, tuple(notes)


def discard(written: Mapping[str, Written]) -> None:
    """Remove results that are not to be; no error if that fails, as a later run sweeps them."""
    for result in written.values():
        with suppress(OSError):
            result.temp.unlink(missing_ok=True)


def make_folder(output: Path, folder: Path) -> None:
    """Make a folder for results; OSError where that fails, SanError if a link would lead out of `output`."""
    if folder != output and not folder.is_dir():  # `output` itself is there, or was removed and stays so
        make_folder(output, folder.parent)
        folder.mkdir(exist_ok=True)
    _refuse_outside(output, folder)


def _refuse_outside(output: Path, folder: Path) -> None:
    real, inside = os.path.realpath(folder), os.path.realpath(output)
    if os.path.commonpath([real, inside]) != inside:
        raise SanError(
            f"{quoted(folder)} is a link that leads out of the folder of the results",
            hint="Remove the link, or choose another folder with -o.",
            code=ExitCode.SOME_FAILED,
        )


def foreign_file(output: Path, names: Sequence[str], save: Sequence[str], tars: Sequence[str]) -> str | None:
    """Return a file that is there already under the name of a result, if any."""
    if not output.is_dir() or all(entry.name == STATE_FOLDER for entry in output.iterdir()):
        return None
    of_the_images = (
        path for name in names for make in (result_paths, class_folders) for path in make(name, save).values()
    )
    for relative in chain(run_files(save), tars, of_the_images):
        if os.path.lexists(output / relative):
            return str(output / relative)
    return None


def cause_of_one_image(error: OSError) -> str | None:
    """Say why this one image's results can't be written, None if it is a matter of the disk or the folder."""
    return f"its results can't be written: {os_cause(error)}" if error.errno in _OF_ONE_NAME else None


def stopping(error: OSError, output: Path) -> SanError:
    """Say why a run can't write any more, and how to go on."""
    if not os.path.lexists(output / STATE_FOLDER):
        return SanError(
            f"'{output}' was removed or moved while the run was writing to it",
            hint="Run the same command again: it does everything anew.",
            code=ExitCode.SOME_FAILED,
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message, hint = f"no space left for the results in '{output}'", "Make room"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        message, hint = "too many open files", "Raise the limit (ulimit -n)"
    else:
        message, hint = f"can't write to '{output}': {os_cause(error)}", "Mend that"
    return SanError(
        message,
        hint=f"{hint} and run the same command again: it goes on from here.",
        code=ExitCode.SOME_FAILED,
    )
