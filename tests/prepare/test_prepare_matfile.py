"""Our reader of MAT-files against SciPy's writer, and against damaged bytes."""

import io
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from san_cli.prepare.matfile import read_mat


def mat_bytes(variables: dict, **options: object) -> bytes:
    stream = io.BytesIO()
    savemat(stream, variables, **options)
    return stream.getvalue()


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8", "u8", "i8"])
def test_matrix_of_every_class(dtype: str, compressed: bool) -> None:
    values = np.arange(35).reshape(5, 7).astype(dtype)
    found = read_mat(mat_bytes({"other": values[:1], "LabelMap": values}, do_compression=compressed))
    assert list(found) == ["other", "LabelMap"]
    assert found["LabelMap"].dtype == values.dtype
    np.testing.assert_array_equal(found["LabelMap"], values)


def test_values_in_a_smaller_type_than_the_class() -> None:
    """MATLAB stores a 16-bit LabelMap whose values are below 256 in bytes; SciPy never writes that."""
    data = bytearray(mat_bytes({"m": np.array([[1, 2], [3, 4]], np.uint8)}))
    data[data.index(bytes([9, 0, 0, 0, 0, 0, 0, 0]))] = 11  # array flags: class uint16
    found = read_mat(bytes(data))["m"]
    assert found.dtype == np.uint16
    assert found.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("compressed", [True, False])
def test_struct_text_and_cells(compressed: bool) -> None:
    mask = np.arange(6, dtype=np.uint8).reshape(2, 3)
    variables = {
        "name": "text is passed over",
        "cells": np.array([[1], [2, 3]], dtype=object),
        "GTcls": {"Boundaries": np.zeros((20, 1)), "Segmentation": mask, "inner": {"deep": mask}},
    }
    found = read_mat(mat_bytes(variables, do_compression=compressed))
    assert list(found) == ["GTcls"]
    np.testing.assert_array_equal(found["GTcls"]["Segmentation"], mask)
    np.testing.assert_array_equal(found["GTcls"]["inner"]["deep"], mask)


def test_other_levels_of_the_format() -> None:
    for data in (mat_bytes({"a": np.eye(2)}, format="4"), b"", b"\x89HDF\r\n\x1a\n" + bytes(500), bytes(200)):
        with pytest.raises(ValueError, match="MAT-file"):
            read_mat(data)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), compressed=st.booleans(), cut=st.booleans())
def test_damaged_bytes_raise_nothing_else(seed: int, compressed: bool, cut: bool) -> None:
    rng = random.Random(seed)
    values = np.arange(12, dtype=np.uint16).reshape(3, 4)
    data = bytearray(mat_bytes({"LabelMap": values, "s": {"x": values}}, do_compression=compressed))
    for _ in range(rng.randrange(6)):
        data[rng.randrange(128, len(data))] = rng.randrange(256)
    if cut:
        del data[rng.randrange(len(data)) :]
    message = "a MAT-file"
    try:
        read_mat(bytes(data))
    except ValueError as error:
        message = str(error)
    assert "MAT-file" in message
