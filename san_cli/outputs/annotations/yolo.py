"""YOLO's segmentation labels, as ultralytics trains on them: `yolo/data.yaml`, `yolo/labels/*.txt`, `yolo/images/*`.

A label file has a line for each outline: number of the class (from 0), then x and y of its corners as fractions of
the image's width and height, from the outer edge of the first pixel on. That several outlines are one region can't
be said. Images are links to the originals; one without regions has an empty label file: all of it is background.

`data.yaml` says no `path`, so it is the file's own folder, wherever that is moved. Training and validation are the
same images, as both must be there.

ultralytics finds an image's labels by its path: the last `/images/` in it becomes `/labels/`. So a folder `images`
within the input is `images_` here (`tree_name`).
"""

import errno
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from san_cli.files import atomic_write, temp_path
from san_cli.outputs.annotations.fractions import fractions
from san_cli.regions.split import FoundRegion
from san_cli.text import counted, printable

# What ultralytics 8.4 takes by its suffix; a link may have another one than the image.
_TAKEN = ".avif .bmp .dng .heic .heif .jp2 .jpeg .jpg .mpo .png .tif .tiff .webp"
_SUFFIXES = dict(zip(_TAKEN.split(), _TAKEN.split(), strict=True)) | {
    ".jpe": ".jpg",
    ".jfif": ".jpg",
    ".apng": ".png",
}
_IMAGES_FOLDER = re.compile("images_*")


def write_yolo_labels(path: Path, size: tuple[int, int], regions: Iterable[FoundRegion]) -> None:
    """Write the label file of an image of `size` = (H, W); OSError where writing fails."""
    down, across = (fractions(side) for side in size)
    with atomic_write(path) as stream:
        for class_id, _, outlines in regions:
            for outline in outlines:
                corners = zip(outline[::2], outline[1::2], strict=True)
                numbers = " ".join(f"{across[x]} {down[y]}" for x, y in corners)
                stream.write(f"{class_id} {numbers}\n".encode("ascii"))


def write_data_yaml(stream: BinaryIO, names: Sequence[str]) -> None:
    """Write `data.yaml` for classes of these names."""
    stream.write(
        b"# The folders are beside this file. Validation is the same as training: to know how good a model is, name\n"
        b"# two lists instead, train.txt and val.txt beside this file, with a line ./images/photo.jpg for each.\n"
        b"train: images\nval: images\nnames:\n"
    )
    for number, name in enumerate(names):
        stream.write(f"  {number}: {_yaml_string(name)}\n".encode())


def _yaml_string(text: str) -> str:
    """Write any text in double quotes; half a surrogate pair, which YAML can't say, as in a Python string."""
    return '"' + "".join(map(_yaml_character, text)) + '"'


def _yaml_character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    number = ord(character)
    if 0xD800 <= number < 0xE000:
        return rf"\\u{number:04x}"
    return (
        rf"\x{number:02x}"
        if number < 0x100
        else rf"\u{number:04x}"
        if number < 0x10000
        else rf"\U{number:08x}"
    )


def tree_name(name: str) -> str:
    """Rename folders `images` in a relative name with `/` (`images/a` → `images_/a`), each name to one of its own."""
    *folders, last = name.split("/")
    return "/".join([*(f"{part}_" if _IMAGES_FOLDER.fullmatch(part) else part for part in folders), last])


def link_suffix(name: str) -> str | None:
    """Return the suffix of the link for an image of this name; None where ultralytics takes no such images."""
    return _SUFFIXES.get(PurePosixPath(name).suffix.lower())


def link_name(stem: str, image_name: str) -> str:
    """Return the path of an image's link below `yolo/images`, by its stem and the image's own name."""
    return tree_name(stem) + (link_suffix(image_name) or PurePosixPath(image_name).suffix)


def untaken_note(names: Sequence[str]) -> str:
    """Say that ultralytics takes no images such as these."""
    images = f"{counted(len(names), 'image')}, such as {printable(names[0])},"
    return f"ultralytics will pass over {images} by the suffix: convert them, or train on the others"


def link_image(link: Path, image: Path) -> None:
    """Make `link` lead to `image`; nothing happens where it does. Its folder must exist, OSError where it fails.

    A symbolic link, or where the file system has none a hard link, or else a copy. Another link there is replaced;
    a file isn't: FileExistsError.
    """
    target = Path(os.path.abspath(image))  # noqa: PTH100 (resolve() would follow links)
    if leads_to(link, target):
        return
    if os.path.lexists(link) and not link.is_symlink():
        raise FileExistsError(errno.EEXIST, "a file that isn't a link is there", str(link))
    temp = temp_path(link.parent)
    try:
        _make_link(temp, target)
        temp.replace(link)
    finally:
        temp.unlink(missing_ok=True)  # it is still there after a rename to a hard link of the same file


def leads_to(link: Path, image: Path) -> bool:
    """Tell whether `link` is what `link_image` made for the absolute path `image`."""
    try:
        if link.is_symlink():
            return os.readlink(link) == str(image)  # noqa: PTH115 (a Path would drop its last slash)
        ours, theirs = link.stat(), image.stat()
    except OSError:
        return False
    return os.path.samestat(ours, theirs) or (
        (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)
    )


def _make_link(link: Path, image: Path) -> None:
    with suppress(OSError, NotImplementedError):
        link.symlink_to(image)
        return
    with suppress(OSError, NotImplementedError):
        link.hardlink_to(image.resolve())
        return
    shutil.copy2(image, link)
