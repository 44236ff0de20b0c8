"""TIFFs of kinds that else nothing here reads (LERC, WebP, odd depths), through rasterio if it is installed.

GDAL is given the file's bytes and one driver, and nothing else: no name, so nothing beside the file and no network.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from san_cli.datasets import tiff
from san_cli.datasets.bad_image import BadImage
from san_cli.datasets.image_file import Content
from san_cli.datasets.spooled import rows_at_once
from san_cli.datasets.tiff import Page, Tag, TiffPicture

Samples = Callable[[Page, Content, Sequence[int]], Iterator[npt.NDArray[Any]]]

BY_GDAL = frozenset({34887, 50001, 50002, 52546})  # LERC, WebP, JPEG XL
_COMPLEX = frozenset({5, 6})  # kinds of samples
_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_NUM_THREADS": "1",
    "GDAL_CACHEMAX": 256,  # MB; holds a row of tiles
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": "{none}",
}


def reader_by_gdal(picture: TiffPicture, refusal: str) -> Samples:
    """Return what reads the numbers of a picture that we don't read.

    Raises BadImage where GDAL wouldn't either, or where rasterio is missing; `refusal` is why we don't, to go on
    after what the file is.
    """
    page = picture.page
    is_meant = picture.is_first and page.number(Tag.PHOTOMETRIC) in tiff.COLOURS
    if not is_meant or _COMPLEX & set(page.numbers(Tag.FORMAT)):
        raise BadImage(f"{tiff.describe(page)}{refusal}")
    if find_spec("rasterio") is None:
        raise BadImage(f"{tiff.describe(page)}{refusal}, or let GDAL read it: pip install rasterio")
    return _samples


def _samples(page: Page, content: Content, bands: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
    """The numbers [h, W, len(bands)] of some bands, as stored, in bands of rows. BadImage for damage."""
    try:
        import rasterio
        from rasterio.io import MemoryFile
        from rasterio.windows import Window
    except ImportError as error:
        raise BadImage(f"{tiff.describe(page)}: rasterio can't be loaded ({error})") from error

    log = logging.getLogger("rasterio")
    if not log.handlers:  # what GDAL complains of is raised as well; without a handler it would be printed
        log.addHandler(logging.NullHandler())
    step = rows_at_once(page.height, page.width)
    try:
        with (
            rasterio.Env(**_OPTIONS),
            MemoryFile(content.whole()) as memory,
            memory.open(driver="GTiff", sharing=False) as dataset,
        ):
            if (dataset.height, dataset.width, dataset.count) != (page.height, page.width, page.samples):
                raise BadImage(f"{tiff.describe(page)}: GDAL sees another picture in it")
            for top in range(0, page.height, step):
                window = Window(0, top, page.width, min(step, page.height - top))
                yield np.moveaxis(dataset.read([band + 1 for band in bands], window=window), 0, 2)
    except BadImage:
        raise
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split())[:120]
        raise BadImage(f"{tiff.describe(page)}: GDAL can't read it ({reason})") from error
