"""TIFF files of every organisation, written by the specification: what tests read."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

LZW, DEFLATE, PACKBITS = 5, 8, 32773


def write_tiff(
    values: np.ndarray,
    *,
    bits: int | None = None,
    order: str = "<",
    planar: bool = False,
    tile: int | None = None,
    rows: int | None = None,
    compression: int = 1,
    predictor: int = 1,
    photometric: int | None = None,
    big: bool = False,
    tags: dict[int, tuple[int, list[int]] | bytes] | None = None,
    sparse: bool = False,
) -> bytes:
    """Values [H, W, C] as a TIFF of one page. `tags` are further ones: (type, numbers), or text.

    `bits` below 8 or 12: values are packed. `tile` is the side of tiles, `rows` those of a strip (default: all).
    `sparse` leaves out strips and tiles that are all 0.
    """
    height, width, count = values.shape
    bits = bits or values.dtype.itemsize * 8
    wide, high = (tile, tile) if tile else (width, rows or height)
    segments = []
    for plane in np.moveaxis(values, 2, 0)[:, :, :, None] if planar else [values]:
        for top in range(0, height, high):
            for left in range(0, width, wide):
                part = plane[top : top + high, left : left + wide]
                if tile:
                    part = np.pad(part, ((0, high - part.shape[0]), (0, wide - part.shape[1]), (0, 0)))
                whole = sparse and not part.any()
                segments.append(b"" if whole else packed(encoded(part, bits, order, predictor), compression))
    formats = {"u": 1, "i": 2, "f": 3, "c": 6}[values.dtype.kind]
    colours = 3 if photometric is None and count >= 3 else 1
    entries: dict[int, tuple[int, list[int]] | bytes] = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * count), 259: (3, [compression]),
        262: (3, [photometric if photometric is not None else 2 if colours == 3 else 1]),
        277: (3, [count]), 284: (3, [2 if planar else 1]), 317: (3, [predictor]), 339: (3, [formats] * count),
    }  # fmt: skip
    if photometric is None and count > colours:
        entries[338] = (3, [0] * (count - colours))
    sizes = [len(segment) for segment in segments]
    at, starts = (16 if big else 8), []
    for size in sizes:
        starts.append(at if size else 0)
        at += size
    if tile:
        entries |= {322: (3, [wide]), 323: (3, [high]), 324: (4, starts), 325: (4, sizes)}
    else:
        entries |= {273: (4, starts), 278: (4, [high]), 279: (4, sizes)}
    return assembled(b"".join(segments), entries | (tags or {}), order, big)


def assembled(body: bytes, entries: dict[int, tuple[int, list[int]] | bytes], order: str, big: bool) -> bytes:
    """A file of one directory after the body."""
    code, size = ("Q", 8) if big else ("I", 4)
    body += b"\0" * (len(body) % 2)
    at = (16 if big else 8) + len(body)
    count = len(entries)
    tail_at = at + (8 if big else 2) + count * (20 if big else 12) + size
    tail, table = b"", b""
    for tag, entry in sorted(entries.items()):
        if isinstance(entry, bytes):
            kind, number, raw = 2, len(entry) + 1, entry + b"\0"
        else:
            kind, numbers = entry
            number, raw = (
                len(numbers),
                struct.pack(f"{order}{len(numbers)}{ {3: 'H', 4: 'I'}[kind] }", *numbers),
            )
        if len(raw) > size:
            raw, tail = struct.pack(order + code, tail_at + len(tail)), tail + raw + b"\0" * (len(raw) % 2)
        table += struct.pack(order + "HH" + code, tag, kind, number) + raw.ljust(size, b"\0")
    mark = {"<": b"II", ">": b"MM"}[order]
    head = mark + (struct.pack(order + "HHHQ", 43, 8, 0, at) if big else struct.pack(order + "HI", 42, at))
    directory = struct.pack(order + ("Q" if big else "H"), count) + table + bytes(size)
    return head + body + directory + tail


def encoded(part: np.ndarray, bits: int, order: str, predictor: int) -> bytes:
    """Values [h, w, c] as the bytes of a strip or tile."""
    rows, wide, count = part.shape
    if bits not in (8, 16, 32, 64):
        flat = part.reshape(rows, -1).astype(np.int64)
        single = (flat[:, :, None] >> np.arange(bits)[::-1]) & 1
        return np.packbits(single.reshape(rows, -1).astype(np.uint8), axis=1).tobytes()
    if predictor == 2:
        whole = part.view(f"u{part.dtype.itemsize}")
        part = np.concatenate([whole[:, :1], whole[:, 1:] - whole[:, :-1]], axis=1)
    if predictor == 3:
        size = part.dtype.itemsize
        planes = part.astype(part.dtype.newbyteorder(">")).reshape(rows, wide * count, 1)
        shuffled = (
            np.ascontiguousarray(planes).view(np.uint8).swapaxes(1, 2).reshape(rows, wide * size, count)
        )
        first = shuffled[:, :1]
        return np.concatenate([first, shuffled[:, 1:] - shuffled[:, :-1]], axis=1).tobytes()
    return np.ascontiguousarray(part.astype(part.dtype.newbyteorder(order))).tobytes()


def packed(data: bytes, compression: int) -> bytes:
    """Compressed by another program: zlib, or libtiff through Pillow."""
    if compression == 1:
        return data
    if compression == DEFLATE:
        return zlib.compress(data)
    if compression == PACKBITS:
        chunks = [data[at : at + 128] for at in range(0, len(data), 128)]
        return b"".join(bytes([len(chunk) - 1]) + chunk for chunk in chunks)
    grey = Image.frombytes("L", (len(data), 1), data)
    buffer = io.BytesIO()
    grey.save(buffer, "TIFF", compression={LZW: "tiff_lzw", 34925: "lzma", 50000: "zstd"}[compression])
    with Image.open(buffer) as image:
        start, size = image.tag_v2[273][0], image.tag_v2[279][0]
        assert len(image.tag_v2[273]) == 1
    return buffer.getvalue()[start : start + size]
