"""`--save geojson`: the regions of a label map as polygons on the map.

    {"type": "FeatureCollection",
     "crs": null,                                only where no coordinate system is known: x and y are those of
                                                 the world file then, whatever a program that ignores this shows
     "features": [{"type": "Feature",
                   "properties": {"class",
                                  "label",       value in the label map (GDAL takes an "id" for the feature's own)
                                  "score",       of the class in the picture, as in areas.csv
                                  "confidence",  the same
                                  "pixels",      of this region
                                  "area_m2"},    of this region, null where the plane of the map has no area
                   "geometry": {"type": "Polygon", "coordinates": […]}}]}

A region is what hangs together by sides of pixels (4-connected), so that its polygon is a valid one. Its rings go
along the pixels' edges and have a vertex at every corner, and holes are rings of their own; between two vertices a
reprojected edge is taken for straight. Coordinates are longitude and latitude in WGS 84 (RFC 7946): 9 decimals are
0.1 mm. Where the picture's tags put it is what GDAL makes of them. A region across the antimeridian goes on
beyond 180°, which shows right where two parts would show a seam; one with a pole inside has no polygon that does.

`area_m2` is measured in the plane of a projected coordinate system, whose scale it has: in UTM up to 0.2 % off the
ground's. Mercator's areas are no areas, and degrees have none.

Features are written in batches once GDAL has traced all: 100,000 regions take some 10 s and 65 MB, the scan
of 400 megapixels some 30 s.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from san_cli.errors import SanError
from san_cli.files import atomic_write
from san_cli.outputs.label_tiff import GeoTags, write_label_tiff_to
from san_cli.outputs.record import Found
from san_cli.text import json_text, quoted

if TYPE_CHECKING:
    from rasterio.crs import CRS

_Rings = list[list[tuple[float, float]]]  # outline and holes, closed; (column, row) of corners of pixels
_Region = tuple[int, _Rings]  # class and shape

_BATCH = 2**16  # corners that are put on the map in one go
_DECIMALS = 9  # of degrees
_FARTHEST = 720  # degrees: rasters of the globe begin at -180 or 0, and may end half a pixel beyond a pole
_JSON = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_PIXEL_SCALE, _TRANSFORM = 33550, 34264  # tags, one of which every transform has
# Projections whose areas are far from the ground's, in WKT 1 and 2.
_STRETCHED = re.compile(
    r'(PROJECTION|METHOD)\["(Popular Visualisation Pseudo )?(Mercator|Equirect|Equidistant.Cyl|Plate|Miller|Gall)',
    re.I,
)


@dataclass(frozen=True)
class Place:
    """Where the pixels of a picture are, as GDAL reads its tags."""

    affine: NDArray[
        np.float64
    ]  # [2, 3], from (column, row) of corners of pixels to the coordinate system's x and y
    crs: "CRS | None"

    @property
    def pixel_m2(self) -> float | None:
        """The area of a pixel in m²; None where the coordinate system has no unit of length or no true areas."""
        from rasterio.errors import CRSError

        try:
            if self.crs is None or not self.crs.is_projected or _STRETCHED.search(self.crs.wkt):
                return None
            _, metres = self.crs.linear_units_factor
        except CRSError:
            return None
        (a, b, _), (d, e, _) = self.affine.tolist()
        return float(abs(a * e - b * d) * metres**2)

    @property
    def decimals(self) -> int:
        """Digits behind the point: of degrees, or for a thousandth of a pixel."""
        if self.crs is not None:
            return _DECIMALS
        smallest = min(math.hypot(*column) for column in self.affine.T[:2].tolist())
        return min(15, max(0, 3 - math.floor(math.log10(smallest))))

    def coordinates(self, corners: NDArray[np.float64]) -> NDArray[np.float64]:
        """Longitude and latitude [N, 2] of (column, row) [N, 2]; without a coordinate system the plane's x and y.

        SanError where PROJ knows no way there.
        """
        plane = corners @ self.affine[:, :2].T + self.affine[:, 2]
        return plane if self.crs is None else _to_wgs84(self.crs, plane)


def refuse_without_rasterio() -> None:
    """SanError where rasterio, of the extra `geo`, is missing."""
    if find_spec("rasterio") is None:
        raise SanError("GeoJSON needs rasterio", hint="Install it: pip install rasterio")


def write_geojson(
    path: Path,
    label_map: NDArray[np.integer],
    names: Sequence[str],
    found: Sequence[Found],
    geo_tags: GeoTags | None,
) -> str | None:
    """Write the regions of `label_map` [H, W] of ids in `names`, -1 where unlabelled; needs rasterio.

    `found` are the classes of the picture, `geo_tags` say where it lies. Returns None, or, where there can be no
    GeoJSON, the reason; then nothing is written. SanError where PROJ can't take the coordinate system to WGS 84.
    """
    if not geo_tags:
        return "no GeoJSON: nothing says where on earth the picture lies"
    if _PIXEL_SCALE not in geo_tags and _TRANSFORM not in geo_tags:
        return "no GeoJSON: ground control points alone place no pixel; warp the picture first (gdalwarp)"
    place = read_place(geo_tags)
    with atomic_write(path) as stream:
        start = '{"type":"FeatureCollection",' + ('"crs":null,' if place.crs is None else "")
        stream.write((start + '"features":[').encode())
        separator = "\n"
        for feature in _features(label_map, place, {one.class_id: one for one in found}, names):
            stream.write((separator + feature).encode())
            separator = ",\n"
        stream.write(b"\n]}\n")
    return None


def read_place(geo_tags: GeoTags) -> Place:
    """Return where pictures with these tags, a transform among them, lie: as GDAL says of one of a pixel."""
    from rasterio.io import MemoryFile

    made = BytesIO()
    write_label_tiff_to(made, np.zeros((1, 1), np.int16), ("",), geo_tags)
    with MemoryFile(made.getvalue()) as file, file.open() as picture:
        affine = np.array(picture.transform[:6], np.float64).reshape(2, 3)
        return Place(affine, picture.crs)


def _features(
    label_map: NDArray[np.integer], place: Place, found: Mapping[int, Found], names: Sequence[str]
) -> Iterator[str]:
    """Yield each region as the JSON of a feature, in the order in which GDAL's scan ends them."""
    pixel_m2, wraps = place.pixel_m2, _crosses_antimeridian(place, label_map.shape)
    for batch in _batches(_regions(label_map)):
        rings = [ring for _, shape in batch for ring in shape]
        corners = np.array([corner for ring in rings for corner in ring])
        starts = np.cumsum([0, *map(len, rings[:-1])])
        pixels = np.abs(_ring_areas(corners, starts)).tolist()
        coordinates = place.coordinates(corners)
        if wraps:
            coordinates = _unwrapped(coordinates, [sum(map(len, shape)) for _, shape in batch])
        lines = iter(_lines(coordinates, starts, place.decimals))
        first = 0
        for class_id, shape in batch:
            outline, *holes = islice(lines, len(shape))
            area = int(pixels[first] - sum(pixels[first + 1 : first + len(shape)]))
            first += len(shape)
            properties = _properties(class_id, area, pixel_m2, found.get(class_id), names)
            yield _feature(properties, [outline, *(hole[::-1] for hole in holes)])


def _lines(
    coordinates: NDArray[np.float64], starts: NDArray[np.int64], decimals: int
) -> Iterator[list[list[float]]]:
    """Yield the rounded positions of every ring, its inside left of its way."""
    is_left = (_ring_areas(coordinates, starts) > 0).tolist()
    rounded = (np.round(coordinates, decimals) + 0.0).tolist()  # no -0.0
    for start, stop, is_right_way in zip(starts, [*starts[1:], len(rounded)], is_left, strict=True):
        yield rounded[start:stop] if is_right_way else rounded[start:stop][::-1]


def _feature(properties: Mapping[str, object], rings: list[list[list[float]]]) -> str:
    geometry = f'{{"type":"Polygon","coordinates":{_JSON.encode(rings)}}}'
    return f'{{"type":"Feature","properties":{json_text(properties)},"geometry":{geometry}}}'


def _properties(
    class_id: int, pixels: int, pixel_m2: float | None, found: Found | None, names: Sequence[str]
) -> dict[str, object]:
    return {
        "class": names[class_id],
        "label": class_id,
        "score": None if found is None else _rounded(found.score),
        "confidence": None if found is None else _rounded(found.confidence),
        "pixels": pixels,
        "area_m2": None if pixel_m2 is None else round(pixels * pixel_m2, 6),
    }


def _regions(label_map: NDArray[np.integer]) -> Iterator[_Region]:
    """Yield every region that has a class, traced by GDAL."""
    from rasterio.features import shapes

    if label_map.dtype not in (np.int16, np.int32, np.uint8, np.uint16):
        label_map = label_map.astype(np.int32)
    # Without a mask, which would take another byte a pixel: what is unlabelled is traced as well.
    for shape, value in shapes(label_map, connectivity=4):
        if value >= 0:
            yield int(value), shape["coordinates"]


def _batches(regions: Iterable[_Region]) -> Iterator[list[_Region]]:
    """Yield lists of regions that have some `_BATCH` corners together."""
    batch: list[_Region] = []
    corners = 0
    for region in regions:
        batch.append(region)
        corners += sum(map(len, region[1]))
        if corners >= _BATCH:
            yield batch
            batch, corners = [], 0
    if batch:
        yield batch


def _ring_areas(points: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the areas [R] of closed rings of `points` [N, 2], positive where x turns towards y."""
    lengths = np.diff(starts, append=len(points))
    near = points - np.repeat(
        points[starts], lengths, axis=0
    )  # else small rings drown in the rounding of far ones
    x, y = near.T
    following = np.append(near[1:], near[:1], axis=0)
    following[starts[1:] - 1] = 0  # the last point of a ring, itself at the origin, ends it
    return np.add.reduceat(x * following[:, 1] - following[:, 0] * y, starts) / 2


def _crosses_antimeridian(place: Place, shape: tuple[int, ...]) -> bool:
    """Tell whether longitudes jump along the border of a picture of this shape (H, W)."""
    if place.crs is None:
        return False
    along, none, full = np.linspace(0, 1, 257), np.zeros(257), np.ones(257)
    columns = np.concatenate([along, full, along[::-1], none]) * shape[1]
    rows = np.concatenate([none, along, full, along[::-1]]) * shape[0]
    longitudes = place.coordinates(np.stack([columns, rows], axis=1))[:, 0]
    return bool((np.abs(np.diff(longitudes)) > 180).any())


def _unwrapped(coordinates: NDArray[np.float64], counts: Sequence[int]) -> NDArray[np.float64]:
    """Make the longitudes [N, 2] of regions of so many positions each go on over 180 where a region's jump."""
    region = np.repeat(np.arange(len(counts)), counts)
    jumps = (np.abs(np.diff(coordinates[:, 0])) > 180) & (region[1:] == region[:-1])
    crosses = np.bincount(region[1:][jumps], minlength=len(counts)) > 0
    longitude, latitude = coordinates.T
    return np.stack(
        [np.where(crosses[region] & (longitude < 0), longitude + 360, longitude), latitude], axis=1
    )


def _to_wgs84(crs: "CRS", plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Longitude and latitude [N, 2] of points [N, 2] of a coordinate system."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError
    from rasterio.warp import transform

    try:
        longitude, latitude = transform(crs, "EPSG:4326", plane[:, 0], plane[:, 1])
    except (RasterioError, CPLE_BaseError) as error:
        raise _no_way(crs) from error
    found = np.array([longitude, latitude]).T
    if not (np.abs(found) <= _FARTHEST).all():  # nor is NaN
        raise _no_way(crs)
    return found


def _no_way(crs: "CRS") -> SanError:
    name = re.search('"([^"]*)"', crs.wkt)
    return SanError(
        f"PROJ finds no way from the coordinate system {quoted(name[1] if name else '')} to WGS 84 that all of "
        "the picture can go",
        hint="Leave geojson out of --save, or give the picture another coordinate system (gdalwarp).",
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
