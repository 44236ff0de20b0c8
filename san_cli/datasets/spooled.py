"""The pixels of a picture, put together from bands of rows: in memory, or if large in a temporary file."""

import errno
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from san_cli.datasets.bad_image import BadImage

# Pictures of more pixels are read in bands and lie in a file. What cameras take (61 megapixels) stays in memory,
# in one piece, and several at once; scans, mosaics and scenes from satellites don't.
MOST_IN_MEMORY = 64_000_000
BAND_PIXELS = 2**20  # of a band: as float64, with what is computed of it, some 100 MB


def is_large(height: int, width: int) -> bool:
    """Tell whether a picture is to be handled in bands of rows alone."""
    return height * width > MOST_IN_MEMORY


def rows_at_once(height: int, width: int) -> int:
    """Return how many rows a band has: all of them, of a picture that isn't large."""
    return max(1, BAND_PIXELS // max(1, width)) if is_large(height, width) else height


def gathered(bands: Iterable[npt.NDArray[np.uint8]], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Put bands [h, W, 3], from the top, together to pixels [H, W, 3].

    Those of a large picture become a read-only map of a file that has no name: it is gone as soon as nobody holds
    the array, however the process ends. BadImage where there is no room for it.
    """
    if not is_large(height, width):
        parts = list(bands)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
    size = height * width * 3
    with _telling_of_room(size):
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed below; a decoder's errors are others)
    with file:
        for band in bands:
            with _telling_of_room(size):
                _write(file, band)
        with _telling_of_room(size):
            mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)  # has a descriptor of its own
    return np.frombuffer(mapped, np.uint8).reshape(height, width, 3)


@contextmanager
def _telling_of_room(size: int) -> Iterator[None]:
    """Make the errors of a temporary file for `size` bytes BadImage."""
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or "the temporary folder"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            cause = f"no room for the {size:,} bytes of its pixels in {folder}; TMPDIR names another folder"
        else:
            reason = error.strerror or type(error).__name__
            cause = f"no temporary file for its pixels in {folder} ({reason}); TMPDIR names another folder"
        raise BadImage(cause) from error


def _write(file: IO[bytes], band: npt.NDArray[Any]) -> None:
    """Write all bytes: not through the map, whose changed pages would count as the process's memory."""
    rest = np.ascontiguousarray(band).data.cast("B")
    while rest:
        rest = rest[os.write(file.fileno(), rest) :]
