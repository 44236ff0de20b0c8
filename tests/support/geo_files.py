"""Pictures with a place on earth, written by rasterio, and what rasterio reads of one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine

COS, SIN = 0.6, 0.8
PLAIN = Affine(10, 0, 500_000, 0, -10, 5_000_000)
ROTATED = Affine(0.3 * COS, 0.2 * SIN, 500_000, 0.3 * SIN, -0.2 * COS, 5_000_000)
DEGREES = Affine(1e-4, 0, 13.25, 0, -1e-4, 52.5)
CONTROL_POINTS = [
    GroundControlPoint(row, col, x, y, 0)
    for row, col, x, y in [
        (0, 0, 1e5, 2e5),
        (0, 9, 1e5 + 90, 2e5 + 5),
        (7, 0, 1e5 - 3, 2e5 - 70),
        (7, 9, 1e5 + 80, 2e5 - 60),
    ]
]


@dataclass(frozen=True)
class Reference:
    """What rasterio reads of a picture's georeference."""

    crs: object
    transform: Affine
    area_or_point: str | None
    control_points: list[tuple[float, ...]]
    control_crs: object


def write_geotiff(
    path: Path,
    values: np.ndarray,
    *,
    crs: str | None = "EPSG:32633",
    transform: Affine | None = PLAIN,
    gcps: list[GroundControlPoint] | None = None,
    point: bool = False,
    **profile: object,
) -> None:
    """Write values [C, H, W]. `point`: coordinates in the file are those of pixel centres (PixelIsPoint)."""
    count, height, width = values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype.name}
    place = {"transform": transform} if gcps is None else {}
    with rasterio.open(
        path, "w", driver="GTiff", crs=crs if gcps is None else None, **place, **shape, **profile
    ) as file:
        if gcps is not None:
            file.gcps = (gcps, rasterio.CRS.from_user_input(crs))
        if point:
            file.update_tags(AREA_OR_POINT="Point")
        file.write(values)


def reference_of(path: Path) -> Reference:
    """Read the georeference of a picture."""
    with rasterio.open(path) as file:
        points, control_crs = file.gcps
        return Reference(
            file.crs,
            file.transform,
            file.tags().get("AREA_OR_POINT"),
            [(one.row, one.col, one.x, one.y) for one in points],
            control_crs,
        )
