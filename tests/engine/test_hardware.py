"""What files tell of the machine."""

import sys
from pathlib import Path

import pytest

from san_cli.engine.hardware import bfloat16_hint, cpu_flags, cpu_info, may_have_gpu

CORE = "processor\t: {}\nmodel name\t: Some Xeon\nflags\t\t: fpu avx2 avx512f{}\n\n"


def hint(tmp_path: Path, flags: str) -> str:
    path = tmp_path / "cpuinfo"
    path.write_text("".join(CORE.format(core, flags) for core in range(2)))
    return bfloat16_hint(cpu_flags(cpu_info(path)))


def test_bfloat16_units_are_known_by_the_processors_flags(tmp_path: Path) -> None:
    assert "--precision bf16 is about 2.7× faster" in hint(tmp_path, " avx512_bf16 amx_bf16 amx_tile")
    assert "--precision bf16 is about 1.5× faster" in hint(tmp_path, " avx512_bf16")
    assert hint(tmp_path, "") == ""
    assert hint(tmp_path, " amx_int8 avx512_fp16") == ""


def test_nothing_is_said_of_other_processors(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nFeatures\t: fp asimd sve bf16\n")
    assert "bf16" in cpu_flags(cpu_info(path))
    assert bfloat16_hint(cpu_flags(cpu_info(path))) == ""
    assert cpu_info(tmp_path / "missing") == {}  # no Linux
    assert bfloat16_hint(cpu_flags({})) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at Linux's device nodes")
def test_a_gpu_may_be_there_where_it_has_a_node(tmp_path: Path) -> None:
    (tmp_path / "nvme0").touch()  # a disk
    assert not may_have_gpu(tmp_path)
    for node in ("nvidiactl", "nvidia0", "dxg", "kfd", "nvmap"):
        (tmp_path / node).touch()
        assert may_have_gpu(tmp_path)
        (tmp_path / node).unlink()
    assert may_have_gpu(tmp_path / "missing")  # nothing tells
