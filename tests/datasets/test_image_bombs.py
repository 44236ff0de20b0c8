"""Small files that ask for much memory or time: refused, or read in no more than an honest file takes."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from tiff_files import assembled, write_tiff

from san_cli.datasets.images import BadImage, load_image_bytes
from san_cli.datasets.tiff import Page
from san_cli.datasets.tiff_samples import _numbers


def test_pages_that_share_a_long_table() -> None:
    """60 pages point at one table of 128 KiB with 9 tags each: 600 MB of numbers, if all were believed."""
    table, count = 2**17, 60
    start, size = 8 + table, 2 + 12 * 11 + 4
    data = struct.pack("<2sHI", b"II", 42, start) + bytes(table)
    for page in range(count):
        tags = [(256, 4, 1, 32), (257, 4, 1, 32)]
        tags += [(tag, 1, table, 8) for tag in (258, 273, 279, 281, 324, 325, 330, 338, 339)]
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
        data += struct.pack("<I", 0 if page == count - 1 else start + (page + 1) * size)
    tracemalloc.start()
    try:
        with pytest.raises(BadImage):
            load_image_bytes(data)
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


def test_strip_that_unpacks_to_far_more_than_its_pixels_account_for() -> None:
    """1000 bands of 600 × 600 pixels of 16 bits from 0.5 MB: 0.7 GB."""
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(bytes(2**24)) for _ in range(32)) + packer.flush()
    data = assembled(
        body,
        {
            256: (4, [600]), 257: (4, [600]), 258: (3, [16]), 259: (3, [8]), 262: (3, [1]), 273: (4, [8]),
            277: (3, [1000]), 278: (4, [600]), 279: (4, [len(body)]),
        },
        "<",
        False,
    )  # fmt: skip
    with pytest.raises(BadImage, match="far more bytes"):
        load_image_bytes(data)


def test_many_bands_are_read_where_the_file_has_the_bytes_for_them() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (24, 32, 224)).astype(np.uint16)
    assert load_image_bytes(write_tiff(values, compression=8)).pixels.shape == (24, 32, 3)


@pytest.mark.parametrize("samples", [2**32 - 1, 2**62])
def test_damage_that_makes_bands_beyond_count(samples: int) -> None:
    """Each was given a kind, one after another."""
    data = bytearray(write_tiff(np.zeros((4, 4, 3), np.uint16), big=True))
    at = data.index(struct.pack("<HHQ", 277, 3, 1))
    data[at : at + 20] = struct.pack("<HHQQ", 277, 16, 1, samples)
    with pytest.raises(BadImage):
        load_image_bytes(bytes(data))


def test_tiles_that_each_claim_the_whole_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each was copied, and its bits turned round, as long as it claimed to be."""
    side, tile, filling = 64, 16, 2**20
    count = (side // tile) ** 2
    data = assembled(
        bytes(filling),
        {
            256: (4, [side]), 257: (4, [side]), 258: (3, [16]), 259: (3, [1]), 262: (3, [1]), 266: (3, [2]),
            277: (3, [1]), 322: (3, [tile]), 323: (3, [tile]), 324: (4, [8] * count), 325: (4, [filling] * count),
        },
        "<",
        False,
    )  # fmt: skip
    given = []

    def noted(page: Page, raw: bytes, *shape: int) -> np.ndarray:
        given.append(len(raw))
        return _numbers(page, raw, *shape)

    monkeypatch.setattr("san_cli.datasets.tiff_samples._numbers", noted)
    assert load_image_bytes(data).pixels.shape == (side, side, 3)
    assert len(given) == count and max(given) < filling // 100


def test_plain_netpbm_with_more_numbers_than_pixels() -> None:
    data = b"P2 2 1 65535 " + b"11 " * 2**21
    tracemalloc.start()
    try:
        assert load_image_bytes(data).pixels.shape == (1, 2, 3)
        assert tracemalloc.get_traced_memory()[1] < 6 * len(data)
    finally:
        tracemalloc.stop()
