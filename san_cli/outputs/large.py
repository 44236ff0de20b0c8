"""Pictures too large for a second copy in memory: read in bands of rows, and made smaller for the eye.

At 20,000 × 20,000 pixels a label map takes 0.8 GB and a photograph 1.2 GB, 1.6 GB as Pillow holds it.
"""

import mmap
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Pillow's copies of so many pixels take 100 to 500 MB. Most cameras' pictures have fewer, up to 61 megapixels today;
# and an overlay of so many, with its legend, has fewer than the 89 from which Pillow warns of a decompression bomb.
LARGE = 64_000_000
_BAND_PIXELS = 2**20


def is_large(height: int, width: int) -> bool:
    """Tell whether a picture has more than `LARGE` pixels."""
    return height * width > LARGE


def bands(height: int, width: int) -> Iterator[slice]:
    """Yield the rows of a picture in bands of about a megapixel."""
    rows = max(1, _BAND_PIXELS // width)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def averaged_bands(image: NDArray[np.uint8], size: tuple[int, int]) -> Iterator[tuple[int, Image.Image]]:
    """Yield `image` [H, W, 3] at `size` = (h, w), its own or smaller, in bands of rows: (top row, band).

    Each pixel is an average around its centre (Pillow's Hamming window). The pages of a memory map don't stay in
    memory.
    """
    height, width = image.shape[:2]
    ratio = height / size[0]
    for band in bands(size[0], round(width * ratio)):  # about a megapixel of `image`
        if size == (height, width):
            yield band.start, Image.fromarray(image[band])
        else:
            # The window reaches a pixel of the smaller picture beyond each centre.
            upper, lower = band.start * ratio, band.stop * ratio
            top, bottom = max(0, int(upper - ratio)), min(height, int(lower + ratio) + 1)
            yield (
                band.start,
                Image.fromarray(image[top:bottom]).resize(
                    (size[1], band.stop - band.start),
                    Image.Resampling.HAMMING,
                    box=(0, upper - top, width, min(lower - top, bottom - top)),
                    reducing_gap=2.0,
                ),
            )
        drop_pages(image)


def averaged(image: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """Make `image` [H, W, 3] smaller, to `size` = (h, w), without a full copy of it."""
    picture = Image.new("RGB", size[::-1])
    for top, band in averaged_bands(image, size):
        picture.paste(band, (0, top))
    return picture


def nearest(label_map: NDArray[np.integer], size: tuple[int, int]) -> NDArray[np.integer]:
    """Return `label_map` at another size, each pixel that of the nearest centre; itself if it has that size."""
    if label_map.shape == size:
        return label_map
    rows, columns = (
        ((np.arange(small) + 0.5) * large / small).astype(np.intp)
        for small, large in zip(size, label_map.shape, strict=True)
    )
    return label_map[rows[:, None], columns]


def drop_pages(array: NDArray[np.generic]) -> None:
    """Take the pages of a read-only map of a file out of this process's memory; they come back when they are read.

    Nothing happens to another array or map, nor where the system has no such call.
    """
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED") and memoryview(owner).readonly:
        owner.madvise(mmap.MADV_DONTNEED)
