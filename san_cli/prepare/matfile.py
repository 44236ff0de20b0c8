"""MATLAB's MAT-file, level 5, as far as label maps need it: matrices of whole numbers, and structs of them.

By MathWorks' "MAT-File Format". SciPy reads the same arrays, but trusts what a file says of itself: a cell array
of 184 bytes takes 2.1 GB and 7 s, cells within cells (5 MB, less when compressed) end the process, and a check that
sees what SciPy would see is as long as this reader.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_BYTES = 2**26  # of all that is compressed in a file; label maps have 0.2 MB, as float64 eight times that
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_STRUCT = 2

Value = NDArray[Any] | dict[str, "Value"]


@dataclass(frozen=True)
class _Element:
    kind: int
    data: memoryview


def read_mat(data: bytes) -> dict[str, Value]:
    """The variables in a file's bytes: arrays [H, W] of their MATLAB class, and 1 × 1 structs as dicts.

    Variables of other classes (text, cells, sparse, complex …) are left out. ValueError for damaged bytes and
    for other levels of the format.
    """
    if data[:8] == b"\x89HDF\r\n\x1a\n" or data[:19] == b"MATLAB 7.3 MAT-file":
        raise ValueError("a MAT-file of version 7.3 (HDF5), not of version 5")
    if len(data) < 128 or data[126:128] not in (b"IM", b"MI"):
        raise ValueError("no MAT-file of version 5")
    order = "<" if data[126:128] == b"IM" else ">"
    variables: dict[str, Value] = {}
    left = _MAX_BYTES
    try:
        for element in _elements(memoryview(data)[128:], order):
            if element.kind == _COMPRESSED:
                element = _uncompressed(element, left)
                left -= len(element.data)
            for inner in _matrices(element, order):
                name, value = _matrix(inner.data, order)
                if value is not None:
                    variables[name] = value
    except (struct.error, zlib.error, IndexError, ValueError, StopIteration, RecursionError) as error:
        raise ValueError(f"a damaged MAT-file ({error or 'it ends too early'})") from None
    return variables


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        if kind >> 16:  # small format: size and kind in one word, up to 4 bytes in the next
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start = at + 8
            end = start + size if kind == _COMPRESSED else start + (size + 7) // 8 * 8
        if start + size > len(data):
            raise IndexError("an element is longer than the file")
        yield _Element(kind, data[start : start + size])
        at = end


def _uncompressed(element: _Element, most: int) -> _Element:
    """Decompress the elements in a compressed one, `most` bytes of them."""
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(element.data, most + 1)
    if not unpacker.eof or len(data) > most:
        raise IndexError("compressed data is cut short, or more than any label map")
    return _Element(_COMPRESSED, memoryview(data))


def _matrices(element: _Element, order: str) -> Iterator[_Element]:
    if element.kind == _COMPRESSED:
        yield from (inner for inner in _elements(element.data, order) if inner.kind == _MATRIX)
    elif element.kind == _MATRIX:
        yield element


def _matrix(data: memoryview, order: str) -> tuple[str, Value | None]:
    """Name and value of a matrix element; the value is None if it is of a class that we don't read."""
    elements = _elements(data, order)
    flags = struct.unpack_from(order + "I", next(elements).data)[0]
    shape = tuple(np.frombuffer(next(elements).data, order + "i4").tolist())
    name = bytes(next(elements).data).decode("ascii")
    kind = flags & 0xFF
    if kind == _STRUCT and shape == (1, 1):
        return name, _struct(elements, order)
    if kind not in _CLASSES or flags & 0x0800 or len(shape) != 2 or min(shape) < 0:  # 0x0800: complex
        return name, None
    stored = next(elements)  # in the smallest type that holds the values, whatever the class
    if stored.kind not in _NUMBERS:
        raise IndexError("numbers of an unknown type")
    values = np.frombuffer(stored.data, order + _NUMBERS[stored.kind])
    if values.size != shape[0] * shape[1]:
        raise IndexError("a matrix does not have the size that it names")
    with np.errstate(invalid="ignore"):  # only damage makes a NaN of a whole number
        return name, values.astype(_CLASSES[kind]).reshape(shape, order="F")


def _struct(elements: Iterator[_Element], order: str) -> dict[str, Value]:
    length = struct.unpack_from(order + "i", next(elements).data)[0]
    names = bytes(next(elements).data)
    if length < 1:
        raise IndexError("a struct without field names")
    fields: dict[str, Value] = {}
    for at in range(0, len(names), length):
        value = _matrix(next(elements).data, order)[1]
        if value is not None:
            fields[names[at : at + length].split(b"\0")[0].decode("ascii")] = value
    return fields
