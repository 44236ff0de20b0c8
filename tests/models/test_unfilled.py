"""Networks built without values: the shapes of those with values, and nothing imported for it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from presets import GOLDEN_TINY
from program import subprocess_environment

from san_cli.models.clip import build_text_tower
from san_cli.models.presets import PRESETS, TINY, Preset
from san_cli.models.san import SAN
from san_cli.models.unfilled import unfilled


@pytest.mark.parametrize("preset", [TINY, GOLDEN_TINY], ids=lambda preset: preset.name)
def test_all_but_the_values_is_there(preset: Preset) -> None:
    filled = SAN(preset), build_text_tower(preset.clip)
    with unfilled():
        built = SAN(preset), build_text_tower(preset.clip)
    for ours, theirs in zip(built, filled, strict=True):
        found = {name: (p.shape, p.dtype, p.requires_grad) for name, p in ours.named_parameters()}
        assert found == {name: (p.shape, p.dtype, p.requires_grad) for name, p in theirs.named_parameters()}
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        assert {p.device.type for p in ours.state_dict().values()} == {"meta"}


def test_no_random_number_is_drawn() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with unfilled():
        SAN(TINY)
    assert torch.equal(torch.get_rng_state(), before)


def test_initial_values_are_as_ever_outside() -> None:
    with unfilled():
        SAN(TINY)
    assert torch.randn(3).device.type == "cpu"
    torch.manual_seed(0)
    drawn = torch.nn.init.normal_(torch.empty(3))
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.randn(3))


def test_building_imports_no_compiler(san_home: Path) -> None:
    """Some 900 modules, which take as long as torch itself."""
    code = (
        "import sys\n"
        "import torch\n"
        "from san_cli.models.presets import PRESETS\n"
        "from san_cli.weights.checkpoint import expected_shapes\n"
        "before = set(sys.modules)\n"
        "for preset in PRESETS.values():\n"
        "    expected_shapes(preset)\n"
        "print(len(PRESETS), [m for m in ('torch._dynamo', 'sympy') if m in sys.modules.keys() - before])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=subprocess_environment(san_home),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{len(PRESETS)} []\n"
