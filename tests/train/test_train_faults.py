"""What goes wrong in a training: said in one sentence, early where that can be, and nothing is lost."""

import ctypes
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from program import San, tree
from train_data import (
    CLASSES,
    before_step,
    checkpoint_names,
    in_processes,
    make_labelled,
    micro_preset,
    part_of_batch,
    rows,
    train,
    trainer_of,
)

from san_cli.train.checkpoints import moments_of, read_state
from san_cli.train.losses import SetLoss
from san_cli.train.model import TrainedModel
from san_cli.weights.checkpoint import Checkpoint, random_checkpoint, write_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_labelled(tmp_path / "data", 4)


def write_label(folder: Path, number: int, labels: np.ndarray) -> None:
    Image.fromarray(labels.astype(np.uint8)).save(folder / f"labels/p{number}.png")


# Losses that are not finite


def test_a_training_that_diverges_ends(san: San, folder: Path, tmp_path: Path) -> None:
    """After twenty iterations without an update; the checkpoint from before them is still there."""
    out = tmp_path / "out"
    options = ("--lr", 1e30, "--iterations", 40, "--batch", 2, "--save-every", 1, "--keep", 2)
    ended = train(san, folder, "-o", out, *options)
    assert (ended.code, "Traceback" in ended.err) == (3, False)
    assert "the loss was not finite in 20 iterations in a row; images of the last one: p" in ended.err
    assert "a lower --lr" in ended.err
    found = rows(out)
    good = sum("total" in row for row in found)
    assert len(found) == good + 19 and good >= 1
    assert [row["skipped"] for row in found] == [0] * good + list(range(1, 20))
    assert all("ce" not in row for row in found[good:])
    assert "loss not finite" in ended.err and "19 skipped" in ended.err
    assert int(checkpoint_names(out)[-1][-2:]) == good
    assert read_state(out / "checkpoints" / checkpoint_names(out)[-1])[1].step == good
    assert not (out / "model.safetensors").exists()


def spoilt(term: Callable[[SetLoss], SetLoss]) -> Callable[..., SetLoss]:
    real = TrainedModel.forward
    return lambda self, *arguments: term(real(self, *arguments))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda loss: replace(loss, total=loss.total * math.nan, per_image=loss.per_image * math.nan),
        lambda loss: replace(loss, total=loss.total + math.inf, per_image=loss.per_image + math.inf),
    ],
    ids=["gradient", "loss alone"],
)
@pytest.mark.parametrize("muon_learning_rate", [0.0, 0.01])
def test_a_step_that_is_not_finite_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[SetLoss], SetLoss], muon_learning_rate: float
) -> None:
    trainer = trainer_of(micro_preset(), muon_learning_rate=muon_learning_rate)
    part = part_of_batch(0, 1)
    assert trainer.step(0, [part]).updated
    before = {name: tensor.clone() for name, tensor in trainer.model.san.state_dict().items()}
    moments = {n: t.clone() for n, t in moments_of(trainer.optimizers, trainer.parameters).items()}
    with monkeypatch.context() as patch:
        patch.setattr(TrainedModel, "forward", spoilt(spoil))
        result = trainer.step(1, [part])
    assert (result.updated, result.offending) == (False, ("p0", "p1"))
    assert all(torch.equal(before[name], t) for name, t in trainer.model.san.state_dict().items())
    after = moments_of(trainer.optimizers, trainer.parameters)
    assert after.keys() == moments.keys() and all(torch.equal(after[n], t) for n, t in moments.items())
    assert trainer.step(2, [part]).updated


def test_a_skipped_iteration_is_counted(
    san: San, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no checkpoint is written of it, but of the next one."""
    real, calls = TrainedModel.forward, [0]

    def third_is_not_finite(self: TrainedModel, *arguments: object) -> SetLoss:
        calls[0] += 1
        loss = real(self, *arguments)  # type: ignore[arg-type]
        return replace(loss, total=loss.total * math.nan) if calls[0] == 3 else loss

    monkeypatch.setattr(TrainedModel, "forward", third_is_not_finite)
    options = ("--iterations", 5, "--batch", 2, "--save-every", 1, "--keep", 9, "--eval-every", 5)
    ended = train(san, folder, "-o", tmp_path / "out", *options)
    assert ended.code == 0
    assert [row["skipped"] for row in rows(tmp_path / "out")] == [0, 0, 1, 1, 1]
    assert checkpoint_names(tmp_path / "out") == [f"step-0000000{step}" for step in (1, 2, 4, 5)]


def test_weights_that_are_not_finite_are_refused(san: San, folder: Path, tmp_path: Path) -> None:
    model = random_checkpoint(micro_preset())
    name = "mask_decoder.pixel_mlp.layers.0.weight"
    spoilt = model.state[name].clone()
    spoilt[1, 2] = math.nan
    write_checkpoint(Checkpoint(model.preset, {**model.state, name: spoilt}), tmp_path / "nan.safetensors")
    ended = train(san, folder, "-o", tmp_path / "out", "--init-from", tmp_path / "nan.safetensors")
    assert ended.code == 2
    assert f"tensor {name} has values that are not finite" in ended.err
    assert not (tmp_path / "out").exists()


# Little to learn from


def test_images_with_nothing_one_or_many_masks(san: San, folder: Path, tmp_path: Path) -> None:
    write_label(folder, 0, np.full((96, 128), 255))
    write_label(folder, 1, np.full((96, 128), 3))
    for queries in (1, 12):
        out = tmp_path / f"out-{queries}"
        options = ("--batch", 1, "--iterations", 8, "--set", f"queries={queries}")
        assert train(san, folder, "-o", out, *options).code == 0
        found = rows(out)
        assert len(found) == 8 and all(math.isfinite(row["total"]) for row in found)
        assert found[-1]["skipped"] == 0
        empty = [row for row in found if row["mask"] == 0]
        assert len(empty) == 2 and all(row["dice"] == 0 for row in empty)


@pytest.mark.parametrize("label", [0, 255])
def test_a_batch_of_one_mask_or_none_gives_every_gradient(label: int) -> None:
    trainer = trainer_of(micro_preset())
    part = part_of_batch(0)
    empty = torch.full_like(part.targets[0].label_map, label)
    targets = replace(
        part.targets[0], label_map=empty, classes=torch.tensor([0] if label == 0 else []).long()
    )
    result = trainer.step(0, [replace(part, targets=(targets,))])
    assert result.updated
    assert all(parameter.grad is not None for parameter in trainer.parameters.values())


def test_no_labelled_pixel_at_all(san: San, folder: Path, tmp_path: Path) -> None:
    for number in range(4):
        write_label(folder, number, np.full((96, 128), 255))
    ended = train(san, folder, "-o", tmp_path / "out")
    assert ended.code == 4
    assert "no pixel that counts" in ended.err


# Data at fault: before the first step


def _one_label_too_high(folder: Path) -> None:
    write_label(folder, 2, np.full((96, 128), 9))


def _fewer_classes(folder: Path) -> None:
    (folder / "classes.txt").write_text("sky\nroad\n")


def _another_size(folder: Path) -> None:
    write_label(folder, 2, np.zeros((96, 127)))


def _no_partner(folder: Path) -> None:
    (folder / "labels/p2.png").unlink()


def _no_image(folder: Path) -> None:
    (folder / "images/p2.jpg").write_bytes((folder / "images/p2.jpg").read_bytes()[:300])


def _colours(folder: Path) -> None:
    Image.new("RGB", (128, 96), (1, 2, 3)).save(folder / "labels/p2.png")


def _no_classes(folder: Path) -> None:
    (folder / "classes.txt").write_text("")


def _nothing_there(folder: Path) -> None:
    shutil.rmtree(folder / "images")
    (folder / "images").mkdir()


@pytest.mark.parametrize(
    ("spoil", "code", "message"),
    [
        (_one_label_too_high, 3, "p2.png holds the value 9"),
        (_fewer_classes, 4, "2 classes have ids up to 1"),
        (_another_size, 3, "p2.jpg is 128×96 pixels (upright), its label"),
        (_no_partner, None, "p2"),
        (_no_image, 3, "p2.jpg"),
        (_colours, 3, "p2.png holds 1 colours, such as (1, 2, 3), not class ids"),
        (_no_classes, None, "classes"),
        (_nothing_there, None, "images"),
    ],
)
def test_data_at_fault(
    san: San, folder: Path, tmp_path: Path, spoil: Callable[[Path], None], code: int | None, message: str
) -> None:
    spoil(folder)
    for options in ((), ("--dry-run",)):
        ended = train(san, folder, "-o", tmp_path / "out", *options)
        assert message in ended.err
        assert ended.code == code if code else ended.code in (2, 3, 4)
        assert "Traceback" not in ended.err and "iteration" not in ended.err
        assert not (tmp_path / "out" / "checkpoints").exists()


def test_held_out_data_at_fault(san: San, folder: Path, tmp_path: Path) -> None:
    """Before the first step as well, not after hours at the first evaluation."""
    held = make_labelled(tmp_path / "held", 2)
    _another_size(held)
    shutil.copyfile(folder / "images/p2.jpg", held / "images/p2.jpg")
    words = ("--val-images", held / "images", "--val-labels", held / "labels", "-o", tmp_path / "out")
    ended = train(san, folder, *words, "--eval-every", 4)
    assert ended.code == 3
    assert "p2.png 127×96" in ended.err and "iteration" not in ended.err
    assert train(san, folder, *words, "--eval-every", 0).code == 0


# Later


def test_an_image_that_is_gone_in_the_middle(
    san: San, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, victim = tmp_path / "out", folder / "images/p1.jpg"
    good = victim.read_bytes()
    options = ("-o", out, "--iterations", 6, "--batch", 2, "--save-every", 2)
    with monkeypatch.context() as patch:
        before_step(2, lambda: victim.write_bytes(good[:100]), patch)
        ended = train(san, folder, *options)
    assert (ended.code, "Traceback" in ended.err) == (3, False)
    assert "p1.jpg" in ended.err
    assert checkpoint_names(out)[0] == "step-00000002"
    victim.write_bytes(good)
    assert train(san, folder, *options, "--resume").code == 0
    train(san, folder, *options[2:], "-o", tmp_path / "whole")
    assert rows(out) == rows(tmp_path / "whole")


def test_a_file_where_the_sheets_should_be(san: San, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "sheets").write_text("mine")
    ended = train(san, folder, "-o", out, "--eval-every", 2)
    assert (ended.code, "Traceback" in ended.err) == (0, False)  # pictures are no reason to end a training
    assert "warning: no pictures of iteration 2" in ended.err
    assert (out / "sheets").read_text() == "mine"


def _mount(where: Path, size: str) -> None:
    """A small file system there, for this process alone."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x00020000):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True, capture_output=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", where], check=True)


@pytest.mark.skipif(
    sys.platform != "linux" or os.getuid() != 0 or shutil.which("mount") is None,
    reason="no mounts of our own",
)
def test_a_disk_that_is_full(san: San, folder: Path, tmp_path: Path, san_home: Path) -> None:
    """Room for two checkpoints, but not for a third."""
    train(san, folder, "-o", tmp_path / "whole", "--save-every", 1)
    step = tmp_path / "whole" / "checkpoints" / "step-00000004"
    size = sum(path.stat().st_size for path in step.iterdir())
    small = tmp_path / "small"
    small.mkdir()
    try:
        [ended] = in_processes(
            folder, "-o", small / "out", "--save-every", 1, world=1, san_home=san_home,
            prepare=lambda _: _mount(small, str(int(2.7 * size))),
            afterwards=lambda: shutil.copytree(small / "out", tmp_path / "kept"),
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("mounts are not allowed here")
    if not (tmp_path / "kept").exists():
        pytest.skip("mounts are not allowed here")
    assert (ended.code, "Traceback" in ended.err) == (3, False)
    assert "the checkpoint of step 3 can't be written" in ended.err
    assert "make room and go on with --resume" in ended.err
    assert checkpoint_names(tmp_path / "kept") == ["step-00000001", "step-00000002"]
    assert train(san, folder, "-o", tmp_path / "kept", "--save-every", 1, "--resume").code == 0
    assert rows(tmp_path / "kept") == rows(tmp_path / "whole")


def test_nothing_is_left_of_a_checkpoint_that_failed(
    san: San, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever file it was; what was there before is untouched."""
    out = tmp_path / "out"
    real, left = os.fsync, [4]

    def full(descriptor: int) -> None:
        left[0] -= 1
        if not left[0]:
            raise OSError(28, "No space left on device")
        real(descriptor)

    train(san, folder, "-o", out, "--save-every", 2, "--iterations", 2)
    before = tree(out / "checkpoints")
    shutil.copytree(out, tmp_path / "copy")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        ended = train(san, folder, "-o", tmp_path / "other", "--save-every", 2, "--iterations", 2)
    assert (ended.code, "Traceback" in ended.err) == (3, False)
    assert "No space left on device" in ended.err
    assert not list((tmp_path / "other").glob("checkpoints/*"))
    assert tree(out / "checkpoints") == before
    assert json.loads((tmp_path / "other" / "settings.json").read_text())["data"]["classes"] == len(CLASSES)
