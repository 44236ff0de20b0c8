"""Training steps of the official code, replayed: losses, matching, gradients and what the optimiser does."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from presets import GOLDEN_TINY

from san_cli.models.presets import VIT_B_16, VIT_L_14, Preset
from san_cli.models.san import SAN
from san_cli.train.optimizer import parameter_groups, poly_lr
from san_cli.weights.official import official_name

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests" / "goldens"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "check_training_golden", ROOT / "scripts" / "check_training_golden.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_three_steps_are_those_of_the_official_code(script: ModuleType) -> None:
    golden = dict(np.load(GOLDENS / "train_tiny.npz"))
    found = {difference.name: difference for difference in script.differences(golden)}
    assert not [difference for difference in found.values() if difference.fails]
    assert sum(name.startswith("gradient norm:") for name in found) == 139
    assert sum(name.startswith("match:") for name in found) == 4
    assert found["parameters trained by one side only: none"].size == 0
    for name, difference in found.items():  # far within what is required, also after two steps of AdamW
        assert difference.size < 1e-5, name
    assert {f"loss of step {step}: {term}" for step in range(3) for term in ("ce", "mask_0")} < set(found)


def change(golden: dict[str, np.ndarray], key: str) -> None:
    """Spoil what is recorded under that key, just beyond what is tolerated."""
    if golden[key].dtype.kind != "U":
        golden[key] = golden[key][::-1].copy()
        return
    text = json.loads(str(golden[key]))
    row = text[0] if isinstance(text, list) else text
    name = next(iter(row))
    row[name] *= 1.0002
    golden[key] = np.array(json.dumps(text))


@pytest.mark.parametrize("key", ["losses_raw", "grad_norms", "match_0_image1"])
def test_a_recording_that_differs_is_told(
    key: str,
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    golden = dict(np.load(GOLDENS / "train_tiny.npz"))
    golden["losses_raw"] = np.array(
        json.dumps(json.loads(str(golden["losses_raw"]))[:1])
    )  # one step is enough
    change(golden, key)
    np.savez(tmp_path / "other.npz", **golden)
    monkeypatch.setattr(sys, "argv", ["check_training_golden.py", str(tmp_path / "other.npz")])
    assert script.main() == 1
    assert "FAILS" in capsys.readouterr().out


def test_the_script_ends_well_where_all_agrees(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(GOLDENS / "train_tiny.npz", tmp_path / "copy.npz")
    monkeypatch.setattr(sys, "argv", ["check_training_golden.py", str(tmp_path / "copy.npz")])
    assert script.main() == 0
    assert "FAILS" not in capsys.readouterr().out


@pytest.mark.parametrize("preset", [GOLDEN_TINY, VIT_B_16, VIT_L_14], ids=lambda preset: preset.name)
def test_rates_and_decay_of_every_tensor_are_the_official_ones(preset: Preset) -> None:
    recorded = json.loads((GOLDENS / "optimizer_groups.json").read_text())
    column = 1 + recorded["presets"].index(preset.name)
    with torch.device("meta"):
        model = SAN(preset)
    groups = parameter_groups(model, 1e-4, 1e-4)
    ours = {
        official_name(group["name"], preset): (group["lr"], group["weight_decay"], group["params"][0].numel())
        for group in groups
    }
    assert all(len(group["params"]) == 1 for group in groups)
    assert ours == {
        name: (recorded["learning_rate"], row[0], row[column])
        for name, row in recorded["weight_decay_and_sizes"].items()
    }
    if preset is VIT_B_16:
        assert sum(size for _, _, size in ours.values()) == 8_370_866


def test_the_papers_recipe_decays_everything_and_frozen_tensors_are_left_out() -> None:
    with torch.device("meta"):
        model = SAN(GOLDEN_TINY)
    model.visual.positional_embedding.requires_grad_(False)
    groups = parameter_groups(model, 3e-4, 0.05, exempt=False)
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {(3e-4, 0.05)}
    names = [group["name"] for group in groups]
    assert names == [name for name, p in model.named_parameters() if p.requires_grad]
    assert "visual.positional_embedding" not in names


def test_the_learning_rate_falls_to_nothing() -> None:
    rates = [poly_lr(1e-4, step, 10) for step in range(11)]
    assert rates[0] == 1e-4
    assert rates[1] == pytest.approx(9.0953258e-5)
    assert rates[10] == 0
    assert rates == sorted(rates, reverse=True)


def test_the_learning_rate_rises_first_where_asked() -> None:
    falling = [poly_lr(1e-4, step, 10) for step in range(10)]
    rates = [poly_lr(1e-4, step, 10, warm_up=4) for step in range(10)]
    assert rates[:4] == [
        pytest.approx(rate * share) for rate, share in zip(falling, (0.25, 0.5, 0.75, 1), strict=False)
    ]
    assert rates[4:] == falling[4:]
