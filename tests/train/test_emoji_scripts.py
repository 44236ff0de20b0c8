"""scripts/ablate_tiny.py and scripts/render_emoji.py: the table's signs, and files that are what the seed says."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from emoji_font import needs_font
from PIL import Image
from program import subprocess_environment

ROOT = Path(__file__).resolve().parents[2]
STORED = Path(__file__).parents[1] / "data" / "emoji"


@pytest.fixture(scope="module")
def ablate() -> ModuleType:
    spec = spec_from_file_location("ablate_tiny", ROOT / "scripts" / "ablate_tiny.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["ablate_tiny"] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def figures(unseen: float) -> dict[str, float]:
    return {"mIoU_seen": 50.0, "mIoU_unseen": unseen, "mIoU": 45.0}


def test_ablations_are_compared_with_the_row_that_the_paper_means(ablate: ModuleType) -> None:
    rows = [row for row in ablate.ROWS if row.table in ("", "4", "6", "7")]
    unseen = {"SAN": (40, 42), "no feature fusion": (30, 31), "single head": (41, 38),
              "single head, gradient blocked": (42, 39)}  # fmt: skip
    found = {(name, seed): figures(values[seed]) for name, values in unseen.items() for seed in (0, 1)}
    lines = ablate.table(rows, [0, 1], found).splitlines()[2:]
    cells = {row[0]: row for row in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}
    assert cells["SAN"][2:5] == ["50.0 ± 0.0", "41.0 ± 1.4", "45.0 ± 0.0"]
    assert cells["no feature fusion"][5:] == ["-10.5 ± 0.7", "21.1, 27.8", "-6.7", "yes"]
    assert cells["single head"][5:] == ["-1.5 ± 3.5", "26.1, 27.8", "-1.7", "seeds differ"]
    blocked = cells["single head, gradient blocked"]
    assert blocked[5:] == ["+1.0 ± 0.0 (to single head)", "21.6, 26.1", "-4.5", "no"]
    without = [row for row in rows if row.name != "single head"]
    alone = {key: value for key, value in found.items() if key[0] != "single head"}
    assert ablate.table(without, [0], alone).endswith("| 6 | 50.0 | 42.0 | 45.0 |  | 21.6 |  |  |")


def test_results_made_otherwise_are_not_taken_over(ablate: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "clip").write_bytes(b"weights")

    def asked(iterations: int) -> None:
        args = ablate.argparse.Namespace(clip=tmp_path / "clip", iterations=iterations, scenes=10)
        ablate._refuse_other_settings(tmp_path / "row", args)

    asked(300)
    asked(300)
    with pytest.raises(SystemExit, match="choose another --out"):
        asked(200)
    (tmp_path / "clip").write_bytes(b"others")
    with pytest.raises(SystemExit, match="another preset, recipe, CLIP"):
        asked(300)


@needs_font
def test_the_stored_scenes_are_what_the_script_writes(tmp_path: Path, san_home: Path) -> None:
    words = (
        f"scripts/render_emoji.py {tmp_path} --seed 4000 --first 3 --count 2 --labels --quality 88".split()
    )
    subprocess.run([sys.executable, *words], check=True, cwd=ROOT, env=subprocess_environment(san_home))
    assert (tmp_path / "classes.txt").read_text() == (STORED / "classes.txt").read_text()
    for name in ("scene-003", "scene-004"):
        ours, stored = (np.asarray(Image.open(at / "labels" / f"{name}.png")) for at in (tmp_path, STORED))
        assert np.array_equal(ours, stored)
        pictures = [
            np.asarray(Image.open(at / "images" / f"{name}.jpg")).astype(int) for at in (tmp_path, STORED)
        ]
        assert np.abs(pictures[0] - pictures[1]).mean() < 1  # decoders differ a little
