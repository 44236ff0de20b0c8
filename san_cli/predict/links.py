"""Links to the images below `yolo/images`: made and mended at the end of a run, and taken away with their images.

`.san/links` tells which are ours, as they were when they were made; nothing else is ever replaced or removed.
"""

import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from san_cli.datasets.image_names import output_stem
from san_cli.files import atomic_write, read_regular
from san_cli.outputs.annotations.yolo import leads_to, link_image, link_name, tree_name
from san_cli.outputs.places import YOLO_IMAGES
from san_cli.predict.journal import STATE_FOLDER
from san_cli.predict.results import make_folder
from san_cli.text import json_text


@dataclass(frozen=True)
class _Made:
    """A link of ours: what it leads to, and its size and time when it was made."""

    target: str
    size: int
    mtime_ns: int

    def is_still(self, link: Path) -> bool:
        """Tell whether `link` is what was made, whether or not its image is still there."""
        try:
            status = link.lstat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


def wanted_links(images: Mapping[str, Path]) -> dict[str, Path]:
    """Give the links of images, by name: their paths below `yolo/images`, and what they lead to."""
    return {
        link_name(output_stem(name), path.name): Path(os.path.abspath(path))  # noqa: PTH100 (links stay)
        for name, path in images.items()
    }


def are_there(output: Path, links: Mapping[str, Path]) -> bool:
    """Tell whether all these links lead where they should, and there are no others of ours."""
    folder = output / YOLO_IMAGES
    return _load(output).keys() <= links.keys() and all(
        leads_to(folder / relative, target) for relative, target in links.items()
    )


def update_links(output: Path, links: Mapping[str, Path], kept: Collection[str]) -> tuple[str, ...]:
    """Make these links, and remove all others of ours but those of images called as in `kept`.

    Returns the paths of those that couldn't be made, as something that isn't ours is there. OSError where that fails.
    """
    folder, ours = output / YOLO_IMAGES, _load(output)
    if not links and not ours:
        return ()
    make_folder(output, folder)
    now: dict[str, _Made] = {}
    blocked = []
    for relative, target in links.items():
        link = folder / relative
        if leads_to(link, target):
            # It may be the image itself, or somebody's own link: such a thing doesn't become ours.
            if relative in ours:
                now[relative] = ours[relative]
            continue
        if os.path.lexists(link):
            if relative not in ours or not ours[relative].is_still(link):
                blocked.append(str(link))
                continue
            link.unlink()
        make_folder(output, link.parent)
        link_image(link, target)
        status = link.lstat()
        now[relative] = _Made(str(target), status.st_size, status.st_mtime_ns)
    kept_stems = {tree_name(output_stem(name)) for name in kept}
    for relative, made in ours.items():
        if relative in links:
            continue
        if str(PurePosixPath(relative).with_suffix("")) in kept_stems:
            now[relative] = made
        elif made.is_still(folder / relative):
            _remove(folder, relative)
    if now != ours:
        with atomic_write(output / STATE_FOLDER / "links") as stream:
            rows = {relative: [one.target, one.size, one.mtime_ns] for relative, one in sorted(now.items())}
            stream.write(json_text(rows).encode("ascii"))
    return tuple(blocked)


def _remove(folder: Path, relative: str) -> None:
    (folder / relative).unlink()
    for above in PurePosixPath(relative).parents[:-1]:
        with suppress(OSError):  # not empty
            (folder / above).rmdir()


def _load(output: Path) -> dict[str, _Made]:
    """Read which links are ours; none where that can't be read, so that nothing is taken for ours."""
    try:
        rows: dict[str, Any] = json.loads(read_regular(output / STATE_FOLDER / "links"))
        return {
            relative: _Made(str(target), size, moment) for relative, (target, size, moment) in rows.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
