"""`san doctor`: what it says of a sound installation, of broken ones, and what it never says."""

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from program import San

from san_cli.doctor import device, finding, machine, packages, places
from san_cli.doctor.examination import as_json, examine, faults, told
from san_cli.doctor.finding import Finding, anonymous, looked_at, shown_variable
from san_cli.doctor.self_test import self_test
from san_cli.engine import memory


def found_by_key(report: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = report["findings"]
    return found


def test_a_sound_installation_is_healthy(san: San) -> None:
    ended = san("doctor", "--json")
    report = json.loads(ended.out)
    assert (ended.code, report["healthy"], report["faults"]) == (0, True, [])
    assert ended.err == "san works here\n"
    found = found_by_key(report)
    import torch

    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert found["device"]["device"] in ("cpu", "cuda", "mps")
    assert found["cores"]["torch_threads"] == torch.get_num_threads()
    assert found["weights_tiny"]["check"] == "sealed" and len(found["weights_tiny"]["sha256"]) == 64
    assert found["self_test"]["passed"] is True
    assert found["fonts"]["font"] == "Aileron Regular"


def test_every_extra_of_the_package_is_listed_once() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    root = Path(__file__).resolve().parents[2]
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [one.name for one in packages.extras()]
    assert named == [f"extra {name}" for name in declared if name not in ("test", "readers")]


def test_an_extra_that_is_not_there_says_how_to_get_it() -> None:
    one = packages._extra("moon", ["numpy", "surely-not-installed"])
    assert one.facts["there"] is False and "surely-not-installed not here (pip " in one.told
    assert not one.fault  # it is optional


def _break(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    """Let the import of a package end in an error."""

    class Broken:
        def find_spec(self, module: str, path: object = None, target: object = None) -> None:
            if module == name:
                raise error

    for module in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])


@pytest.mark.parametrize(
    ("package", "error", "cure"),
    [
        ("open_clip", RuntimeError("operator torchvision::nms does not exist"), "force-reinstall torch torchvision"),
        ("open_clip", ModuleNotFoundError("No module named 'ftfy'"), "Install san again"),
        ("scipy", ImportError("libcudart.so.12: cannot open shared object file"), "CUDA libraries are incomplete"),
        ("scipy", ImportError("it was compiled using NumPy 1.x"), "built for another NumPy"),
        ("scipy", OSError("broken"), "pip install scipy --force-reinstall"),
    ],
)  # fmt: skip
def test_a_package_that_cant_be_imported_is_a_fault_with_its_cure(
    package: str, error: Exception, cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break(monkeypatch, package, error)
    one = packages.imports()
    assert one.fault.startswith(f"{package} can't be imported: {type(error).__name__}: ")
    assert cure in one.hint


def test_without_torch_all_else_is_still_looked_at(san: San, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str, *arguments: object) -> ModuleType:
        if name in ("torch", "open_clip", "torchvision"):
            raise OSError("libtorch_cpu.so: cannot open shared object file")
        return ModuleType(name)

    monkeypatch.setattr(device, "device", lambda: broken("torch"))
    monkeypatch.setattr(packages.importlib, "import_module", broken)
    ended = san("doctor")
    assert ended.code == 2
    lines = ended.out.splitlines()
    assert any(line.startswith("!! imports") for line in lines)
    assert any(line.startswith("   device") and "can't be told: OSError" in line for line in lines)
    assert any(line.startswith("   self-test") and "not done: see imports" in line for line in lines)
    assert any(line.startswith("   weights tiny") and "sealed" in line for line in lines)
    assert "san: imports: torch can't be imported: OSError: libtorch_cpu.so" in ended.err
    assert "Traceback" not in ended.err


def test_a_model_that_finds_something_else_fails_the_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "san_cli.doctor.self_test._KNOWN", {"sky": 0.5, "stop sign": 0.29, "plain wall": 0.21}
    )
    one = self_test()
    assert one.facts["passed"] is False and "the self-test found sky 4" in one.fault and one.hint


def test_nothing_secret_is_said(san: San, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = "hf_abcdefghijklmnop"
    for name, value in (
        ("HF_TOKEN", secret),
        ("HUGGING_FACE_HUB_TOKEN", secret),
        ("HF_ENDPOINT", f"https://somebody:{secret}@mirror.example/hub"),
        ("SAN_NOTE", f"the token is {secret}"),
        ("https_proxy", f"http://somebody:{secret}@proxy:8080"),
        ("HOME", str(tmp_path / "somebody")),
        ("LOGNAME", "somebody"),
        ("SAN_HOME", str(tmp_path / "somebody" / "cache")),
        ("SAN_DATASETS", "/data/somebody/sets"),
    ):
        monkeypatch.setenv(name, value)
    finding._who.cache_clear()
    monkeypatch.setattr("san_cli.doctor.self_test.self_test", lambda: Finding("self-test", "skipped"))
    found = examine()
    finding_text = "\n".join(told(found)) + json.dumps(as_json(found))
    finding._who.cache_clear()
    assert secret not in finding_text and "somebody" not in finding_text
    assert (
        "HF_TOKEN=(set, not shown)" in finding_text
        and "HF_ENDPOINT=https://…mirror.example/hub" in finding_text
    )
    assert "~/cache" in finding_text and "/data/USER/sets" in finding_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/ann/x", "~/x"),
        ("/home/anna/x", "/home/anna/x"),
        ("/data/ann", "/data/USER"),
        ("ann's", "ann's"),
    ],
)
def test_paths_lose_their_owner(text: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "_who", lambda: ("/home/ann", "ann"))
    assert anonymous({"path": [text]}) == {"path": [shown]}


def test_values_that_only_look_secret_stay() -> None:
    assert shown_variable("SAN_HOME", "/data/san") == "/data/san"
    assert shown_variable("SAN_API_KEY", "x") == "(set, not shown)"


def test_what_fails_at_looking_is_said() -> None:
    def look() -> Finding:
        raise ValueError("odd\nmachine")

    one = looked_at("cores", look)
    assert one.told == "can't be told: ValueError: odd" and not one.fault


def test_limits_of_a_container_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in (("cpu.max", "150000 100000"), ("memory.max", "1000000000")):
        (tmp_path / name).write_text(f"{text}\n")
    for module in (machine, memory):
        monkeypatch.setattr(module, "group_files", lambda name: [p for p in [tmp_path / name] if p.is_file()])
    assert sys.platform != "linux" or memory.free_memory() < 1000
    assert "limited to 1.5 by the container" in machine.cores().told
    small = machine.memory()
    assert small.facts["limit_of_the_container_megabytes"] == 1000 and "little" in small.told
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.cores().facts["limit_of_the_container"] is None


def test_weights_that_are_damaged_are_a_fault(
    san: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_weights: Path
) -> None:
    data = bytearray(tiny_weights.read_bytes())
    data[-1] ^= 1
    (tmp_path / "tiny.safetensors").write_bytes(data)
    monkeypatch.setenv("SAN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SAN_WEIGHTS", str(tmp_path))
    (one,) = faults(places.weights())
    assert one.name == "weights tiny" and "damaged" in one.fault and "san weights verify tiny" in one.hint
    monkeypatch.setenv("SAN_WEIGHTS", str(tmp_path / "nowhere"))
    assert [each.name for each in faults(places.variables())] == ["SAN_WEIGHTS"]


def test_the_cache_and_the_device_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAN_HOME", str(tmp_path / "none" / "yet"))
    assert places.cache().facts["exists"] is False and not os.path.lexists(tmp_path / "none")
    assert "built for the CPU alone" in device._why_not_cuda("CPU alone", driver=True)[0]
    assert "sees no GPU" in device._why_not_cuda("CUDA 12.4", driver=True)[0]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "hides" in device._why_not_cuda("CUDA 12.4", driver=True)[0]
    assert device._why_not_cuda("CUDA 12.4", driver=False) == ("no GPU found", "")


def test_bfloat16_units_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_info", lambda: {"model name": "Some Xeon", "flags": "avx2 amx_bf16"})
    assert "--precision bf16 is about 2.7× faster" in machine.processor().told
    monkeypatch.setattr(machine, "cpu_info", lambda: {"model name": "Some Xeon", "flags": "avx2"})
    assert "no bf16, so --precision bf16 need not be faster" in machine.processor().told
