"""`san train` from labelled images to weights that `san predict` takes: every file, and the same ones every time."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from program import San, tree
from train_data import (
    CLASSES,
    assert_close_training,
    assert_same_training,
    checkpoint_names,
    make_labelled,
    micro_preset,
    rows,
    train,
    weights,
    write_sharp_model,
)

from san_cli.models.san import SAN
from san_cli.weights.adapter import trainable_names
from san_cli.weights.checkpoint import random_checkpoint, read_checkpoint

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "training.md"
# Python 3.12 and later, where torch's own threads are running already:
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_labelled(tmp_path / "data")


def test_a_training_leaves_what_is_promised(san: San, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    often = ("--log-every", 2, "--eval-every", 2, "--save-every", 2, "--iterations", 6)
    ended = train(san, folder, "-o", out, *often)
    assert (ended.code, ended.out) == (0, "")
    assert set(tree(out)) == {
        ".san-train/lock",
        "settings.json",
        "metrics.jsonl",
        "best.json",
        "best.safetensors",
        "model.safetensors",
        *(f"sheets/step-0000000{step}.jpg" for step in (2, 4, 6)),
        *(f"checkpoints/step-0000000{s}/{f}.safetensors" for s in (4, 6) for f in ("weights", "state")),
    }
    settings = json.loads((out / "settings.json").read_text())
    assert settings["preset"]["name"] == "micro"
    assert (settings["recipe"]["iterations"], settings["recipe"]["points"], settings["seed"]) == (6, 64, 0)
    assert settings["data"]["images"] == 8

    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [2, 2, 4, 4, 6, 6]
    losses, evaluations = lines[::2], lines[1::2]
    assert [line["epoch"] for line in losses] == [1, 2, 3]
    for line in losses:
        terms = 2 * (line["ce"] + line["ce_0"]) + 5 * sum(
            line[n] for n in ("mask", "dice", "mask_0", "dice_0")
        )
        assert line["total"] == pytest.approx(terms, rel=1e-5)
        assert line["gradient_norm"] > 0 and line["memory_mb"] > 1 and 0 <= line["data_wait"] <= 1
        assert line["skipped"] == 0
    # the last iteration's: the sixth is number 5, counted from 0
    assert losses[-1]["learning_rate"] == pytest.approx(1e-4 * (1 - 5 / 6) ** 0.9)
    documented = set(
        re.findall(r"`(\w+)`", DOCUMENT.read_text().partition("## The log")[2].split("\n## ")[0])
    )
    assert {column for line in lines for column in line} <= documented

    best = json.loads((out / "best.json").read_text())
    assert best["mIoU"] == max(line["mIoU"] for line in evaluations)
    assert {"iteration", "mIoU", "pACC", "mACC", "images"} == best.keys()
    for sheet in (out / "sheets").iterdir():
        with Image.open(sheet) as picture:
            picture.load()
            assert picture.height >= 8 * 300  # eight rows
            assert picture.width > 800
    last = out / "checkpoints" / "step-00000006" / "weights.safetensors"
    assert (out / "model.safetensors").read_bytes() == last.read_bytes()
    assert "done: " in ended.err and "best mIoU" in ended.err


def test_what_was_trained_predicts(san: San, folder: Path, tmp_path: Path) -> None:
    train(san, folder, "-o", tmp_path / "out", "--eval-every", 4)
    for name in ("model", "best"):
        file = tmp_path / "out" / f"{name}.safetensors"
        assert san("weights", "verify", file).code == 0
        ended = san("predict", folder / "images", "--weights", file, "--vocab", "sky,road,tree,car",
                    "-o", tmp_path / f"predicted-{name}", "--device", "cpu")  # fmt: skip
        assert (ended.code, "8 done" in ended.err) == (0, True)
        assert len(list((tmp_path / f"predicted-{name}").glob("*.overlay.jpg"))) == 8
    checkpoint = read_checkpoint(tmp_path / "out" / "model.safetensors")
    assert checkpoint.preset == micro_preset()
    assert dict(checkpoint.metadata) == {"trained_on": "own", "iterations": "4"}


def test_evaluation_is_that_of_san_eval(san: San, folder: Path, tmp_path: Path) -> None:
    train(san, folder, "-o", tmp_path / "out", "--eval-every", 4)
    ended = san("eval", "--images", folder / "images", "--labels", folder / "labels", "--classes",
                folder / "classes.txt", "--weights", tmp_path / "out" / "model.safetensors",
                "--device", "cpu", "-o", tmp_path / "eval", "--json")  # fmt: skip
    assert ended.code == 0
    found, expected = (
        json.loads((tmp_path / "out" / "best.json").read_text()),
        json.loads(ended.out)["results"][0],
    )
    assert {n: found[n] for n in ("mIoU", "pACC", "mACC")} == {
        n: expected[n] for n in ("mIoU", "pACC", "mACC")
    }


def test_the_same_seed_gives_the_same_bytes(san: San, folder: Path, tmp_path: Path) -> None:
    train(san, folder, "-o", tmp_path / "one", "--seed", 5)
    torch.randn(7)  # nobody's generator matters
    train(san, folder, "-o", tmp_path / "two", "--seed", 5, "--eval-every", 2, "--workers", 2)
    assert_same_training(tmp_path / "one", tmp_path / "two")
    train(san, folder, "-o", tmp_path / "other", "--seed", 6)
    pairs = zip(rows(tmp_path / "one"), rows(tmp_path / "other"), strict=True)
    assert all(one["total"] != other["total"] for one, other in pairs)


def test_frozen_tensors_stay_as_they_are(san: San, folder: Path, tmp_path: Path) -> None:
    """Trained are exactly the side adapter, the mask decoder, CLIP's positions and the background."""
    train(san, folder, "-o", tmp_path / "out", "--lr", 1e-3)
    before, after = random_checkpoint(micro_preset(), 0).state, weights(tmp_path / "out")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    expected = trainable_names(micro_preset())
    assert changed == expected
    assert {name.split(".")[0] for name in expected} == {
        "side_adapter", "mask_decoder", "visual", "background_embedding",
    }  # fmt: skip
    assert {name for name in expected if name.startswith("visual.")} == {"visual.positional_embedding"}
    state = weights(tmp_path / "out", "checkpoints/step-00000004/state.safetensors")
    kinds = ("exp_avg", "exp_avg_sq", "step")
    assert set(state) == {f"{name}/{kind}" for name in expected for kind in kinds}


def test_parts_of_a_batch_come_to_the_same(san: San, folder: Path, tmp_path: Path) -> None:
    sharp = write_sharp_model(folder / "sharp.safetensors")
    longer = ("--init-from", sharp, "--batch", 8, "--iterations", 5, "-o")
    train(san, folder, *longer, tmp_path / "whole")
    for parts in (2, 4):
        train(san, folder, *longer, tmp_path / f"{parts}", "--accumulate", parts)
        assert_close_training(tmp_path / "whole", tmp_path / f"{parts}")


def test_activations_computed_twice_come_to_the_same(san: San, folder: Path, tmp_path: Path) -> None:
    train(san, folder, "-o", tmp_path / "kept")
    train(san, folder, "-o", tmp_path / "again", "--checkpoint-activations")
    assert_close_training(tmp_path / "kept", tmp_path / "again")


def test_a_dry_run_shows_the_plan_and_writes_nothing(san: San, folder: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    ended = train(san, folder, "-o", tmp_path / "out", "--dry-run", "--recipe", "paper", "--eval-every", 2)
    assert ended.code == 0
    assert tree(tmp_path) == before and not (tmp_path / "out").exists()
    plan = dict(re.findall(r"^ *(\S.*?)  +(\S.*)$", ended.out, re.MULTILINE))
    assert plan["data"] == "own: 8 images, 4 classes"
    assert plan["evaluated on"] == "the training images, every 2 iterations"
    assert plan["model"] == "micro, input 64 px"
    assert "short_side_range = (320, 1024)" in plan["recipe"] and "points = 64" in plan["recipe"]
    assert plan["batch"] == "4 images: 1 process x 1 part"
    parameters = {n: p for n, p in SAN(micro_preset()).named_parameters() if p.requires_grad}
    for part in ("side_adapter.blocks", "mask_decoder.query_mlp", "background_embedding"):
        count = sum(p.numel() for name, p in parameters.items() if name.startswith(part))
        assert plan[part] == f"{count:,}"
    shown = sum(int(value.replace(",", "")) for name, value in plan.items() if re.fullmatch(r"[\d,]+", value))
    assert shown == sum(p.numel() for p in parameters.values())
    assert "AdamW" in plan["optimiser"] and "clip 0.01" in plan["optimiser"]
    assert re.fullmatch(r"[\d,]+ MB peak", plan["memory"])
    assert re.match(r"\d+\.\d\d s an iteration, ", plan["time"])
    assert re.search(r"total \d", plan["first losses"])


def test_a_dry_run_has_the_first_losses_of_the_training(san: San, folder: Path, tmp_path: Path) -> None:
    plan = train(san, folder, "-o", tmp_path / "out", "--dry-run", "--iterations", 1).out
    train(san, folder, "-o", tmp_path / "out", "--iterations", 1)
    assert f"total {rows(tmp_path / 'out')[0]['total']:.4g}" in plan


def test_it_learns(san: San, folder: Path, tmp_path: Path) -> None:
    options = ("--lr", 3e-3, "--set", "clip_norm=1", "--iterations", 40, "--log-every", 10, "--limit", 2)
    train(san, folder, "-o", tmp_path / "out", *options, "--eval-every", 40)
    found = rows(tmp_path / "out")
    assert found[-1]["total"] < 0.85 * found[0]["total"]
    assert found[-1]["dice"] < found[0]["dice"]
    assert json.loads((tmp_path / "out" / "best.json").read_text())["images"] == 2


def test_bf16_trains(san: San, folder: Path, tmp_path: Path) -> None:
    short = ("--iterations", 1, "--batch", 2, "-o")
    train(san, folder, *short, tmp_path / "fp32")
    assert train(san, folder, *short, tmp_path / "bf16", "--precision", "bf16").code == 0
    for exact, coarse in zip(rows(tmp_path / "fp32"), rows(tmp_path / "bf16"), strict=True):
        assert coarse["total"] == pytest.approx(exact["total"], rel=0.02)
        assert coarse["total"] != exact["total"]
    assert all(t.dtype == torch.float32 for t in weights(tmp_path / "bf16").values())


def test_held_out_images_are_evaluated(san: San, folder: Path, tmp_path: Path) -> None:
    held = make_labelled(tmp_path / "held-out", 3)
    other = ("--val-images", held / "images", "--val-labels", held / "labels")
    ended = train(san, folder, "-o", tmp_path / "out", *other, "--eval-every", 4, "--eval-images", 2)
    assert ended.code == 0
    assert json.loads((tmp_path / "out" / "best.json").read_text())["images"] == 2
    assert "on 2 images (the validation images)" in ended.err


def test_progress_and_silence(san: San, folder: Path, tmp_path: Path) -> None:
    loud = train(san, folder, "-o", tmp_path / "loud")
    lines = [line for line in loud.err.splitlines() if line.startswith("iteration ")]
    assert len(lines) == 4
    for wanted in (
        "of 4",
        "loss total",
        "ce ",
        "mask ",
        "dice ",
        "lr 1.00e-04",
        "img/s",
        "data wait",
        " MB",
        "left",
    ):
        assert wanted in lines[0]
    assert "4 of 4 classes occur" in loud.err
    quiet = train(san, folder, "-o", tmp_path / "quiet", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    assert_same_training(tmp_path / "loud", tmp_path / "quiet")


def test_as_many_checkpoints_as_wanted(san: San, folder: Path, tmp_path: Path) -> None:
    train(san, folder, "-o", tmp_path / "out", "--keep", 3, "--iterations", 5, "--save-every", 1)
    assert checkpoint_names(tmp_path / "out") == [f"step-0000000{step}" for step in (3, 4, 5)]


def test_classes_that_never_occur_are_named(san: San, folder: Path, tmp_path: Path) -> None:
    (folder / "classes.txt").write_text("\n".join([*CLASSES, "unicorn|narwhal"]))
    ended = train(san, folder, "-o", tmp_path / "out")
    assert ended.code == 0
    assert "4 of 5 classes occur in them (not: unicorn)" in ended.err


def test_tensorboard_is_an_extra(san: San, folder: Path, tmp_path: Path) -> None:
    ended = train(san, folder, "-o", tmp_path / "out", "--tensorboard")
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        assert (ended.code, "pip install tensorboard" in ended.err) == (2, True)
    else:
        assert ended.code == 0 and list((tmp_path / "out" / "tensorboard").iterdir())


def test_what_tiny_knows_is_told(san: San, folder: Path, tmp_path: Path) -> None:
    """One line where it is to learn other words than its own; none for its own world."""
    (folder / "classes.txt").write_text("\n".join(["asphalt", "kerb", "awning", "bollard"]))
    words = ("--init-from", "tiny", "--batch", 1, "--iterations", 1, "--dry-run")
    ended = train(san, folder, *words)
    assert ended.code == 0, ended.err
    assert ended.err.count("tiny has learned nothing but drawn scenes") == 1
    assert "tiny has learned" not in train(san, folder, "--batch", 1, "--dry-run").err
