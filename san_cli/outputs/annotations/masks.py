"""`--save masks` and `cutouts`: a picture for each class found in an image, named after it.

`masks/photo/CLASS.png` is 8-bit gray, 255 where the pixel is of the class and 0 elsewhere. `cutouts/photo/CLASS.png`
is the photograph where the pixel is of the class, and transparent (and black) elsewhere. Both have the photograph's
size.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from san_cli.files import atomic_write
from san_cli.outputs.large import bands, drop_pages, is_large
from san_cli.outputs.png import write_png

_LONGEST = 150  # bytes of a name: file systems allow 255, some that encrypt 143, and a suffix comes behind
_FORBIDDEN = '<>:"/\\|?*'  # on Windows
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])( *\..*)?", re.I
)  # there too


def write_mask(path: Path, label_map: NDArray[np.integer], class_id: int) -> None:
    """Write 255 where `label_map` [H, W] has `class_id`, and 0 elsewhere; OSError where writing fails."""
    with atomic_write(path) as stream:
        if is_large(*label_map.shape):
            pixels = (_mask(label_map[band], class_id) for band in bands(*label_map.shape))
            write_png(stream, pixels, size=label_map.shape, bits=8)
        else:
            Image.fromarray(_mask(label_map, class_id)).save(stream, "PNG", compress_level=1)


def _mask(label_map: NDArray[np.integer], class_id: int) -> NDArray[np.uint8]:
    return (label_map == class_id).view(np.uint8) * np.uint8(255)


def write_cutout(path: Path, image: NDArray[np.uint8], label_map: NDArray[np.integer], class_id: int) -> None:
    """Write `image` [H, W, 3] where `label_map` [H, W] has `class_id`, transparent elsewhere.

    OSError where writing fails.
    """
    with atomic_write(path) as stream:
        if is_large(*label_map.shape):
            pixels = (_cutout(image[band], label_map[band], class_id) for band in bands(*label_map.shape))
            write_png(stream, pixels, size=label_map.shape, bits=8, alpha=True)
            drop_pages(image)
        else:
            cutout = _cutout(image, label_map, class_id)
            Image.fromarray(cutout).save(stream, "PNG", compress_level=1)


def _cutout(image: NDArray[np.uint8], label_map: NDArray[np.integer], class_id: int) -> NDArray[np.uint8]:
    """Return RGBA [H, W, 4]."""
    mask = _mask(label_map, class_id)
    cutout = np.empty((*mask.shape, 4), np.uint8)
    np.bitwise_and(image, mask[..., None], out=cutout[..., :3])
    cutout[..., 3] = mask
    return cutout


def file_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return a file's name, without a suffix, for each of the classes `names`: as it is, where any system takes it.

    Characters that some system forbids become `_`. No two are equal for a system that ignores case or the composition
    of letters: those that would be, and names that were too long, get a hash of the class's name.
    """
    return _file_names(tuple(names))


@lru_cache(maxsize=4)  # asked for with every picture
def _file_names(names: tuple[str, ...]) -> tuple[str, ...]:
    safe = [_safe(name) for name in names]
    found: dict[int, str] = {}
    taken: set[str] = set()
    for number in sorted(range(len(names)), key=lambda number: safe[number] != names[number]):
        name = _shortened(safe[number], names[number]) if _is_long(safe[number]) else safe[number]
        while _key(name) in taken:
            name = _shortened(safe[number], names[number] + name)
        taken.add(_key(name))
        found[number] = name
    return tuple(found[number] for number in range(len(names)))


def _safe(name: str) -> str:
    """Replace what some system forbids."""
    text = name.encode("utf-8", "replace").decode()  # half a surrogate pair becomes a question mark
    text = "".join("_" if one in _FORBIDDEN or not one.isprintable() else one for one in text).strip(" ")
    text = re.sub(r"^\.+|[. ]+$", lambda found: "_" * len(found[0]), text) or "_"
    return "_" + text if _RESERVED.fullmatch(text) else text


def _is_long(text: str) -> bool:
    return len(text.encode()) > _LONGEST


def _shortened(text: str, name: str) -> str:
    """Make room behind `text` for a hash of `name`."""
    mark = "~" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    while _is_long(text + mark):
        text = text[:-1]
    return text + mark


def _key(name: str) -> str:
    """Equal for names that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
