"""The first line of a run: what runs, and what would be faster."""

from pathlib import Path

import pytest
from program import San

from san_cli.predict import summary

AMX = {"model name": "Some Xeon", "flags": "avx2 avx512_bf16 amx_bf16"}


@pytest.mark.parametrize(
    ("info", "options", "told"),
    [
        (
            AMX,
            (),
            "fp32 (this processor has bfloat16 units: --precision bf16 is about 2.7× faster): 20 classes",
        ),
        (AMX, ("--precision", "fp32"), "fp32 (this processor has bfloat16 units: "),
        (AMX, ("--precision", "bf16"), "on cpu (as asked), bf16: 20 classes"),
        ({"flags": "avx2 avx512f"}, (), "on cpu (as asked), fp32: 20 classes"),
        ({}, (), "on cpu (as asked), fp32: 20 classes"),
    ],
)
def test_bfloat16_units_that_lie_idle_are_told(
    predict: San,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    info: dict[str, str],
    options: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.setattr(summary, "cpu_info", lambda: info)
    arguments = (photos / "p00.jpg", "-o", tmp_path / "out", "--save", "none", *options)
    first = predict(*arguments)
    again = predict(*arguments)  # which loads no model
    assert told in first.err
    assert told in again.err
