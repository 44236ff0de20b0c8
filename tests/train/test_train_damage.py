"""What becomes of a training whose files were damaged, lost or exchanged while it lay still."""

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from program import San, tree
from safetensors import safe_open
from train_data import (
    assert_same_training,
    before_step,
    copy_up_to,
    die_at,
    in_processes,
    make_labelled,
    train,
    write_sharp_model,
)

from san_cli.train.training import Training
from san_cli.weights import checkpoint as models_checkpoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
# Evaluated after every iteration, saved after every other.
OPTIONS = ("--iterations", 6, "--log-every", 1, "--eval-every", 1, "--eval-images", 2, "--save-every", 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_labelled(tmp_path_factory.mktemp("damage"), 4)


@pytest.fixture(scope="module")
def whole(folder: Path, san_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    [ended] = in_processes(folder, *OPTIONS, "-o", out, "--keep", 9, world=1, san_home=san_home)
    assert ended.code == 0, ended.err
    return out


@pytest.fixture
def stopped(whole: Path, tmp_path: Path) -> Path:
    """The same, had it been killed after iteration 4."""
    copy_up_to(whole, tmp_path / "out", 4)
    return tmp_path / "out"


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def _as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _noise(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(300))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "bit flip": _flip,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "noise": _noise,
    "a pipe": _as_pipe,
    "a folder": _as_folder,
    "nested deeply": lambda path: path.write_bytes(b'{"mIoU":' + b"[" * 200_000),
    "a list": lambda path: path.write_bytes(b"[1, 2]\n"),
    "huge": lambda path: path.write_bytes(b'{"mIoU": 1e999, "iteration": 1e999, "recipe": 1, "data": {}}\n'),
    "many digits": lambda path: path.write_bytes(b'{"mIoU": ' + b"9" * 5000 + b"}\n"),
    "NaN": lambda path: path.write_bytes(b'{"mIoU": NaN, "iteration": "x"}\n'),
}


def _resumed(san: San, folder: Path, out: Path) -> tuple[int, str]:
    ended = train(san, folder, *OPTIONS, "-o", out, "--resume")
    assert "Traceback" not in ended.err
    return ended.code, ended.err


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_best_model_outlives_a_damaged_best_json(
    san: San, folder: Path, whole: Path, stopped: Path, damage: str
) -> None:
    """What it reached stands in its own header: nothing is lost, and best.json is mended."""
    DAMAGES[damage](stopped / "best.json")
    code, err = _resumed(san, folder, stopped)
    if damage == "a folder":  # which isn't ours to remove
        assert (code, "best.json" in err) == (2, True)
    else:
        assert code == 0
        assert (stopped / "best.json").read_bytes() == (whole / "best.json").read_bytes()
        assert_same_training(stopped, whole)
    assert (stopped / "best.safetensors").read_bytes() == (whole / "best.safetensors").read_bytes()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_best_model_is_told(san: San, folder: Path, stopped: Path, damage: str) -> None:
    """A file that is damaged is left for its owner; one that is gone isn't named any more."""
    model = stopped / "best.safetensors"
    DAMAGES[damage](model)
    before = model.read_bytes() if model.is_file() else b""
    code, err = _resumed(san, folder, stopped)
    if damage == "gone":
        assert (code, "best.safetensors is gone" in err) == (0, True)
        assert _header(model)["iteration"] in (5, 6)
        assert json.loads((stopped / "best.json").read_text()) == _header(model)
    else:
        assert (code, "best model so far is damaged" in err) == (2, True)
        assert not model.is_file() or model.read_bytes() == before


def _header(model: Path) -> dict[str, float]:
    with safe_open(model, framework="pt") as file:
        return dict(json.loads(file.metadata()["evaluation"]))


def test_a_best_model_that_does_not_say_what_it_reached(san: San, folder: Path, stopped: Path) -> None:
    """No training kept it, whatever best.json says: it is left where it is."""
    write_sharp_model(stopped / "best.safetensors")
    before = (stopped / "best.safetensors").read_bytes()
    code, err = _resumed(san, folder, stopped)
    assert (code, "nothing tells how good" in err) == (2, True)
    assert (stopped / "best.safetensors").read_bytes() == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_settings_are_refused(san: San, folder: Path, stopped: Path, damage: str) -> None:
    DAMAGES[damage](stopped / "settings.json")
    before = tree(stopped) if damage != "a pipe" else {}
    code, err = _resumed(san, folder, stopped)
    assert (code, "settings" in err) == (2, True)
    assert damage == "a pipe" or tree(stopped) == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_log_is_told(san: San, folder: Path, whole: Path, stopped: Path, damage: str) -> None:
    """The training goes on; what the log lost is said."""
    lines = len((stopped / "metrics.jsonl").read_bytes().splitlines())
    DAMAGES[damage](stopped / "metrics.jsonl")
    code, err = _resumed(san, folder, stopped)
    if damage in ("a pipe", "a folder"):
        assert (code, "metrics.jsonl" in err) == (2, True)
        return
    assert code == 0
    found = [json.loads(line) for line in (stopped / "metrics.jsonl").read_text().splitlines()]
    assert found[-1]["iteration"] == 6
    assert ("metrics.jsonl lacks" in err) == (len(found) < lines)
    assert damage == "bit flip" or len(found) < lines
    assert (stopped / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["weights", "state"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_names_the_one_before_it(
    san: San, folder: Path, stopped: Path, name: str, damage: str
) -> None:
    DAMAGES[damage](stopped / "checkpoints" / "step-00000004" / f"{name}.safetensors")
    code, err = _resumed(san, folder, stopped)
    assert (code, f"{name}.safetensors" in err) == (2, True)


@pytest.mark.parametrize("name", ["weights", "state"])
def test_a_checkpoint_with_files_of_two_iterations(san: San, folder: Path, stopped: Path, name: str) -> None:
    last, other = (stopped / "checkpoints" / f"step-0000000{step}" for step in (4, 2))
    shutil.copyfile(other / f"{name}.safetensors", last / f"{name}.safetensors")
    code, err = _resumed(san, folder, stopped)
    assert (code, f"Delete the folder '{last}'" in err) == (2, True)


def test_a_checkpoint_under_another_name(san: San, folder: Path, stopped: Path) -> None:
    (stopped / "checkpoints" / "step-00000002").rename(stopped / "checkpoints" / "step-00000005")
    code, err = _resumed(san, folder, stopped)
    assert (code, "is of step 2" in err) == (2, True)


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_no_folder_of_checkpoints(san: San, folder: Path, stopped: Path, kind: str) -> None:
    """Then there is nothing to go on from, and a trained or best model isn't written over."""
    shutil.rmtree(stopped / "checkpoints")
    if kind == "file":
        (stopped / "checkpoints").write_text("mine")
    else:
        os.mkfifo(stopped / "checkpoints")
    best = (stopped / "best.safetensors").read_bytes()
    code, err = _resumed(san, folder, stopped)
    assert (code, "can't be written" in err) == (3, True)
    assert (stopped / "best.safetensors").read_bytes() == best


def test_the_best_model_of_another_training_is_kept(san: San, folder: Path, stopped: Path) -> None:
    """Where no checkpoint is left, --resume begins anew: as the same training only."""
    shutil.rmtree(stopped / "checkpoints")
    before = tree(stopped)
    ended = train(san, folder, *OPTIONS, "-o", stopped, "--resume", "--seed", 3)
    assert (ended.code, "seed (then" in ended.err) == (2, True)
    assert tree(stopped) == before


# Killed or left without a folder


MOMENTS: dict[str, Callable[[], None]] = {
    "with half of the best model written": lambda: die_at(models_checkpoint, "write_stated_hash", 3),
    "with half of best.json written": lambda: die_at(os, "fsync", 4),
    "between the best model and its line in the log": lambda: die_at(Training, "_draw", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_nothing_is_left_of_a_killed_training(
    san: San, folder: Path, whole: Path, tmp_path: Path, san_home: Path, moment: str
) -> None:
    """Neither temporary files, nor a best model that the log takes for evaluated."""
    out = tmp_path / "out"
    [ended] = in_processes(
        folder, *OPTIONS, "-o", out, world=1, san_home=san_home, prepare=lambda _: MOMENTS[moment]()
    )
    assert ended.code == -signal.SIGKILL
    hidden = [path for path in out.rglob(".*") if path.is_file()]
    assert bool(hidden) == moment.startswith("with half")
    assert _resumed(san, folder, out)[0] == 0
    assert not [path for path in out.rglob(".*") if path.is_file()]
    assert_same_training(out, whole)
    for name in ("best.json", "best.safetensors"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_a_folder_that_is_removed_under_way(
    san: San, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is not made again, and no room is missing."""
    out = tmp_path / "out"
    for log_every in (1, 100):  # noticed when a line of the log is written, or a checkpoint
        with monkeypatch.context() as patch:
            before_step(2, lambda: shutil.rmtree(out), patch)
            ended = train(san, folder, "-o", out, "--log-every", log_every, "--save-every", 3)
        assert (ended.code, "Traceback" in ended.err) == (3, False)
        assert "is gone" in ended.err and "room" not in ended.err
        assert not out.exists()
