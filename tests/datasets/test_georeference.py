"""The place on earth that a picture's tags or world file give it stays with the upright picture."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio
from geo_files import CONTROL_POINTS, DEGREES, PLAIN, ROTATED, reference_of, write_geotiff
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rasterio.transform import Affine
from tiff_files import write_tiff

from san_cli.datasets.georeference import GeoTags, geo_tags_of
from san_cli.datasets.pillow_image import upright
from san_cli.datasets.tiff import Page, Tag, find_picture
from san_cli.outputs.label_tiff import write_label_tiff

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

SIZE = (8, 10)  # height, width
WORLD = "0.5\n0.125\n-0.25\n-0.75\n100.25\n199.5\n"
GCP_TAG = tuple(float(i * j + i) for i in range(3) for j in range(6))
KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
TIE = (0.0, 0.0, 0.0, 500_000.0, 5_000_000.0, 0.0)


def page_of(path: Path) -> Page:
    with path.open("rb") as file:
        picture = find_picture(file)
    assert picture is not None
    return picture.page


def tags_of(
    path: Path, orientation: int = 1, size: tuple[int, int] = SIZE
) -> tuple[GeoTags | None, tuple[str, ...]]:
    page = page_of(path) if path.suffix.lower() in (".tif", ".tiff") else None
    return geo_tags_of(path, page, size, orientation)


def made(folder: Path, tags: GeoTags | None, size: tuple[int, int] = SIZE) -> Path:
    """A label map with these tags."""
    path = folder / "labels.out"
    write_label_tiff(path, np.zeros(size, np.int16), ["a"], tags)
    return path


def place_of(transform: Affine, row: float, column: float) -> tuple[float, float]:
    a, b, c, d, e, f = transform[:6]
    return a * column + b * row + c, d * column + e * row + f


@pytest.mark.parametrize("point", [False, True])
@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32633", PLAIN),
        ("EPSG:32633", ROTATED),
        ("EPSG:4326", DEGREES),
        ("EPSG:4326", Affine(1e-4, 2e-5, 13, 1e-5, -1e-4, 52)),
        ("EPSG:2263", PLAIN),
        ("+proj=laea +lat_0=12.5 +lon_0=7 +ellps=GRS80", PLAIN),
        ("EPSG:32633", Affine(10, 0, 5e5, 0, 10, 5e6)),
    ],
)
def test_tags_are_carried_as_they_are(tmp_path: Path, crs: str, transform: Affine, point: bool) -> None:
    write_geotiff(
        tmp_path / "a.tif", np.zeros((3, *SIZE), np.uint8), crs=crs, transform=transform, point=point
    )
    tags, notes = tags_of(tmp_path / "a.tif")
    expected = reference_of(tmp_path / "a.tif")
    assert notes == () and expected.crs is not None
    assert reference_of(made(tmp_path, tags)) == expected


@pytest.mark.parametrize(
    "profile", [{"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}, {"BIGTIFF": "YES", "ENDIANNESS": "BIG"}]
)
def test_every_kind_of_tiff(tmp_path: Path, profile: dict[str, object]) -> None:
    write_geotiff(tmp_path / "a.tif", np.zeros((3, *SIZE), np.uint8), transform=ROTATED, **profile)
    assert reference_of(made(tmp_path, tags_of(tmp_path / "a.tif")[0])) == reference_of(tmp_path / "a.tif")


def test_control_points_are_carried_unless_the_image_is_turned(tmp_path: Path) -> None:
    write_geotiff(tmp_path / "a.tif", np.zeros((1, *SIZE), np.uint8), gcps=CONTROL_POINTS)
    tags, notes = tags_of(tmp_path / "a.tif")
    expected = reference_of(tmp_path / "a.tif")
    assert notes == () and len(expected.control_points) == 4
    assert reference_of(made(tmp_path, tags)) == expected
    tags, notes = tags_of(tmp_path / "a.tif", orientation=3)
    assert tags is None and "control points are dropped" in notes[0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("source", ["tags", "point", "world file", "world file and keys"])
def test_upright_pixels_lie_where_the_stored_ones_do(tmp_path: Path, orientation: int, source: str) -> None:
    path, stored = tmp_path / "a.tif", np.arange(80).reshape(SIZE)
    with_tags = source in ("tags", "point")
    write_geotiff(
        path,
        np.zeros((1, *SIZE), np.uint8),
        transform=ROTATED if with_tags else None,
        crs=None if source == "world file" else "EPSG:32633",
        point=source in ("point", "world file and keys"),
    )
    if not with_tags:
        path.with_suffix(".tfw").write_text(WORLD)
    turned = upright(stored, orientation)
    tags, notes = tags_of(path, orientation, turned.shape)
    assert notes == ()
    before, after = reference_of(path), reference_of(made(tmp_path, tags, turned.shape))
    assert after.crs == before.crs and not before.transform.is_identity
    for (row, column), number in np.ndenumerate(turned):
        stored_row, stored_column = divmod(int(number), SIZE[1])
        there = place_of(before.transform, stored_row + 0.5, stored_column + 0.5)
        assert place_of(after.transform, row + 0.5, column + 0.5) == pytest.approx(there, rel=0, abs=1e-9)


@pytest.mark.parametrize(
    ("image", "world"),
    [
        (image, world)
        for image, worlds in {
            "a.tif": "a.tfw a.tifw a.wld a.TFW a.TIFW a.WLD",
            "a.TIFF": "a.tfw a.tiffw a.TIFFW",
            "a.Tif": "a.Tfw a.TIFW",
            "a.png": "a.pgw a.pngw a.wld a.PGW",
            "a.b.jpg": "a.b.jgw a.b.jpgw a.b.wld",
            "a.jpeg": "a.jgw a.jpegw",
            "a.JPG": "a.jgw a.JGW",
            "a.bmp": "a.bpw a.bmpw",
            "a.gif": "a.gfw a.gifw",
            "a.jp2": "a.j2w a.jp2w",
        }.items()
        for world in worlds.split()
    ],
)
def test_world_files_are_those_of_gdal(tmp_path: Path, image: str, world: str) -> None:
    Image.new("RGB", SIZE[::-1]).save(tmp_path / image)
    (tmp_path / world).write_text(WORLD)
    tags, notes = tags_of(tmp_path / image)
    expected = reference_of(tmp_path / image)
    assert notes == () and expected.transform.c == 100.25 - 0.25 + 0.125
    assert reference_of(made(tmp_path, tags)).transform == expected.transform


@pytest.mark.parametrize(
    "content",
    [
        WORLD,
        WORLD.replace(".", ","),
        WORLD.replace("\n", "\r\n"),
        "\n" + WORLD.replace("\n", "  \n\n"),
        WORLD + "note",
    ],
)
def test_spellings_of_world_files(tmp_path: Path, content: str) -> None:
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "a.png")
    (tmp_path / "a.pgw").write_bytes(content.encode())
    tags, notes = tags_of(tmp_path / "a.png")
    assert notes == ()
    assert reference_of(made(tmp_path, tags)).transform == reference_of(tmp_path / "a.png").transform


@pytest.mark.parametrize(
    "content",
    [
        b"", b"0.5\n0\n0\n-0.5\n100\n", b"a\nb\nc\nd\ne\nf\n", b"nan\n0\n0\n-1\n0\n0\n", b"1\n0\n0\n-1\ninf\n0\n",
        b"0\n0\n0\n0\n0\n0\n", b"1\n1\n1\n1\n0\n0\n", b"1e308\n0\n0\n-1e308\n1e308\n0\n",
        b"\xff\0\xfe" * 99, b"1\n" * 40_000,
    ],
)  # fmt: skip
def test_world_files_without_sense(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pgw").write_bytes(content)
    tags, notes = tags_of(tmp_path / "a.png")
    assert tags is None and len(notes) == 1 and "'a.pgw' is ignored" in notes[0]


def test_what_is_no_file_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pgw")
    (tmp_path / "a.pngw").mkdir()
    (tmp_path / "a.wld").write_text(WORLD)
    tags, notes = tags_of(tmp_path / "a.png")
    assert tags is not None and [note.split("'")[1] for note in notes] == ["a.pgw", "a.pngw"]
    assert geo_tags_of(None, None, SIZE, 1) == (None, ())
    for name in ("x" * 250 + ".jpeg", "none", ".png", "", "\0.png"):
        assert geo_tags_of(tmp_path / "below" / name, None, SIZE, 1)[0] is None


def test_a_tiff_needs_no_world_file_and_lends_it_its_coordinate_system(tmp_path: Path) -> None:
    for name, place in (("own", {}), ("lent", {"transform": None}), ("control", {"gcps": CONTROL_POINTS})):
        path = tmp_path / f"{name}.tif"
        write_geotiff(path, np.zeros((1, *SIZE), np.uint8), **place)
        path.with_suffix(".tfw").write_text(WORLD)
        expected = reference_of(path)
        assert (expected.transform == PLAIN) == (name == "own")
        result = reference_of(made(tmp_path, tags_of(path)[0]))
        assert (result.crs, result.transform) == ((expected.crs or expected.control_crs), expected.transform)


def page(keys: object = None, text: bytes | None = None, **reals: tuple[float, ...]) -> Page:
    tags = {Tag.GEO_KEYS: keys, Tag.GEO_TEXT: text}
    return Page(
        8,
        "<",
        {tag: value for tag, value in tags.items() if value is not None},
        {Tag[name]: v for name, v in reals.items()},
    )


@pytest.mark.parametrize(
    "damaged",
    [
        page(PIXEL_SCALE=(10.0, 10.0, 0.0)),
        page(PIXEL_SCALE=(10.0, 0.0, 0.0), TIE_POINTS=TIE),
        page(PIXEL_SCALE=(10.0,), TIE_POINTS=TIE),
        page(PIXEL_SCALE=(10.0, float("nan"), 0.0), TIE_POINTS=TIE),
        page(PIXEL_SCALE=(10.0, 10.0, 0.0), TIE_POINTS=TIE[:5]),
        page(PIXEL_SCALE=(1e300, 1e300, 0.0), TIE_POINTS=(1e300, *TIE[1:])),
        page(PIXEL_SCALE=(), TIE_POINTS=()),
        page(TIE_POINTS=TIE),
        page(TIE_POINTS=GCP_TAG[:-1]),
        page(TIE_POINTS=(float("inf"), *GCP_TAG[1:])),
        page(TRANSFORM=(0.0,) * 16),
        page(TRANSFORM=(1.0,) * 16),
        page(TRANSFORM=(1.0, 0.0, 0.0, 0.0, 0.0, 1.0)),
    ],
)
def test_places_without_sense_are_dropped(damaged: Page) -> None:
    tags, notes = geo_tags_of(None, damaged, SIZE, 1)
    assert tags is None and len(notes) == 1 and "make no sense" in notes[0]


def test_a_pixel_size_without_a_tie_point_leaves_the_matrix(tmp_path: Path) -> None:
    matrix = (10.0, 0.0, 0.0, 5e5, 0.0, -10.0, 0.0, 5e6, *(0.0,) * 7, 1.0)
    tags, notes = geo_tags_of(None, page(PIXEL_SCALE=(2.0, 2.0, 0.0), TRANSFORM=matrix), SIZE, 1)
    assert len(notes) == 1 and reference_of(made(tmp_path, tags)).transform == PLAIN


@pytest.mark.parametrize(
    "keys",
    [
        (), KEYS[:3], KEYS[:-1], (2, *KEYS[1:]), (1, 1, 0, 30, *KEYS[4:]), (1, 1, 0, 1, 2049, 34737, 9, 0),
        (1, 1, 0, 1, 2057, 34736, 1, 1), (1, 1, 0, 1, 2057, 7, 1, 0), (1, 1, 0, 1, 3072, 0, 1, -1),
        (1, 1, 0, 1, 3072, 0, 1, 2**16),
    ],
)  # fmt: skip
def test_coordinate_systems_without_sense_are_dropped(tmp_path: Path, keys: tuple[int, ...]) -> None:
    damaged = page(keys, b"WGS 84|\0", PIXEL_SCALE=(10.0, 10.0, 0.0), TIE_POINTS=TIE, GEO_DOUBLES=(1.0,))
    tags, notes = geo_tags_of(None, damaged, SIZE, 1)
    assert len(notes) == 1 and "keys are damaged" in notes[0]
    found = reference_of(made(tmp_path, tags))
    assert found.crs is None and found.transform == PLAIN


def test_a_coordinate_system_alone_is_no_place() -> None:
    assert geo_tags_of(None, page(KEYS), SIZE, 1) == (None, ())


def test_damaged_tags_are_no_matter_of_the_picture(tmp_path: Path) -> None:
    data = write_tiff(np.zeros((8, 10, 3), np.uint8), tags={Tag.SUBFILE: (4, [0, 0, 0])})
    for tag, kind in ((Tag.TIE_POINTS, 12), (Tag.GEO_KEYS, 3), (Tag.GEO_DOUBLES, 12), (Tag.GEO_TEXT, 2)):
        for count, start in ((2**31, 8), (6, 2**31)):
            entry = struct.pack("<HHII", tag, kind, count, start)
            at = data.index(struct.pack("<HHI", Tag.SUBFILE, 4, 3))
            (tmp_path / "a.tif").write_bytes(data[:at] + entry + data[at + 12 :])
            found = page_of(tmp_path / "a.tif")
            assert (found.width, found.height) == (10, 8)
            assert geo_tags_of(None, found, SIZE, 1)[0] is None


REALS = st.lists(
    st.sampled_from([0.0, 1.0, -3.5, 5e5, 1e308, float("nan"), float("inf")]) | st.floats(), max_size=18
)


@given(
    st.dictionaries(st.sampled_from([33550, 33922, 34264, 34736]), REALS.map(tuple)),
    st.none()
    | st.lists(
        st.integers(0, 4) | st.sampled_from([1024, 1025, 3072, 32633, 34735, 34736, 34737]), max_size=16
    ),
    st.none() | st.binary(max_size=9),
    st.integers(1, 8),
)
def test_no_tags_break_anything(
    tmp_path_factory: pytest.TempPathFactory,
    reals: dict[int, tuple[float, ...]],
    keys: list[int] | None,
    text: bytes | None,
    orientation: int,
) -> None:
    given_tags = {34735: None if keys is None else tuple(keys), 34737: text}
    odd = Page(8, "<", {tag: value for tag, value in given_tags.items() if value is not None}, reals)
    tags, notes = geo_tags_of(None, odd, SIZE, orientation)
    assert all(note.strip() for note in notes)
    path = made(tmp_path_factory.getbasetemp(), tags)
    with rasterio.open(path) as file:
        assert (file.width, file.height) == SIZE[::-1]
