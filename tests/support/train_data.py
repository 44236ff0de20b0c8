"""What tests of `san train` share: a small labelled folder, a very small model, and runs with few options."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from program import Ended, San
from recipe import image
from safetensors.torch import load_file

from san_cli.models.presets import Preset, preset_from_json
from san_cli.runs.processes import ProcessGroup
from san_cli.train.model import TrainedModel
from san_cli.train.recipe import RECIPES
from san_cli.train.step import MicroBatch, StepResult, Trainer
from san_cli.train.targets import targets_of
from san_cli.vocabulary.grammar import vocabulary_of_names
from san_cli.weights.checkpoint import Checkpoint, random_checkpoint, write_checkpoint

CLASSES = ("sky", "road", "tree", "car")
COLOURS = {1: (200, 30, 30), 2: (30, 200, 30), 3: (30, 30, 200)}

# A step of four images takes some 20 ms.
MICRO = {
    "name": "micro",
    "clip": {
        "width": 32, "layers": 4, "heads": 2, "patch_size": 16, "image_size": 64, "embed_dim": 32,
        "text_width": 8, "text_layers": 1, "text_heads": 2,
    },
    "input_size": 64, "feature_layers": 2, "recognition_layers": 2, "fusion": [[0, 0], [1, 1], [2, 2]],
    "side_width": 24, "side_depth": 3, "side_heads": 2, "queries": 6, "decoder_width": 16,
}  # fmt: skip

# What a line of the log says of speed and memory; the rest is the same in every run.
OF_THE_MACHINE = {"images_per_s", "seconds_per_iteration", "data_wait", "memory_mb"}


def micro_preset(**changes: Any) -> Preset:
    """The small model's preset, with other values for some fields."""
    return preset_from_json(json.dumps({**MICRO, **changes}))


def write_preset(path: Path, **changes: Any) -> Path:
    """The preset as a file for --model."""
    path.write_text(json.dumps({**MICRO, **changes}))
    return path


def make_labelled(folder: Path, count: int = 8) -> Path:
    """`count` pictures of 96 × 128 with three coloured rectangles each, in `images`, `labels` and `classes.txt`."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    for number in range(count):
        pixels, labels = picture(number)
        Image.fromarray(pixels).save(folder / f"images/p{number}.jpg", quality=90)
        Image.fromarray(labels).save(folder / f"labels/p{number}.png")
    write_preset(folder / "micro.json")
    return folder


def picture(number: int) -> tuple[np.ndarray, np.ndarray]:
    """One of them with its label map: rectangles over class 0, the first four rows ignored."""
    generator = np.random.default_rng(number)
    pixels, labels = image(number, 96, 128), np.zeros((96, 128), np.uint8)
    for class_id, colour in COLOURS.items():
        top, left = generator.integers(0, 60), generator.integers(0, 90)
        labels[top : top + 36, left : left + 38] = class_id
        pixels[top : top + 36, left : left + 38] = colour
    labels[:4] = 255
    return pixels, labels


def arguments(folder: Path, *extra: object) -> list[str]:
    """The words of a short training on that folder; options in `extra` override those before."""
    data = ["--images", folder / "images", "--labels", folder / "labels"]
    data += ["--classes", folder / "classes.txt"]
    named = "--init-from" in extra or "--clip-weights" in extra
    model: list[object] = [] if named else ["--clip-weights", "random"]
    model += [] if "--init-from" in extra else ["--model", folder / "micro.json"]
    short = ["--iterations", 4, "--batch", 4, "--log-every", 1, "--eval-every", 0, "--save-every", 100]
    small = ["--set", "points=64", "--workers", 0, "--device", "cpu"]
    return [str(word) for word in ("train", *data, *model, *short, *small, *extra)]


def train(san: San, folder: Path, *extra: object) -> Ended:
    """Run it in this process."""
    torch.set_num_threads(1)
    return san(*arguments(folder, *extra))


def rows(out: Path) -> list[dict[str, Any]]:
    """The log's lines of iterations, without what the machine does to them."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name not in OF_THE_MACHINE}
        for line in lines
        if "evaluation" not in line
    ]


def weights(out: Path, name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    """The tensors that a training has come to."""
    return load_file(out / name)


def assert_same_training(one: Path, other: Path) -> None:
    """Losses and weights equal, bit for bit."""
    assert rows(one) == rows(other)
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def assert_close_training(one: Path, other: Path, tolerance: float = 1e-5) -> None:
    """Losses and weights equal up to rounding."""
    for mine, theirs in zip(rows(one), rows(other), strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            assert abs(value - theirs[name]) <= tolerance * max(1, abs(value)), (name, value, theirs[name])
    found, expected = weights(one), weights(other)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=tolerance, msg=name)


def checkpoint_names(out: Path) -> list[str]:
    """The folders of a training's checkpoints, whatever their state."""
    return sorted(path.name for path in (out / "checkpoints").iterdir())


def copy_up_to(out: Path, target: Path, step: int) -> None:
    """What a training in `out` would have left, had it been killed after the checkpoint of `step`."""
    shutil.copytree(out, target)
    (target / "model.safetensors").unlink(missing_ok=True)
    for path in (target / "checkpoints").iterdir():
        if int(path.name.removeprefix("step-")) > step:
            shutil.rmtree(path)


def in_processes(
    folder: Path,
    *extra: object,
    world: int,
    san_home: Path,
    prepare: Callable[[int], None] = lambda rank: None,
    afterwards: Callable[[], None] = lambda: None,
) -> list[Ended]:
    """The same training in `world` processes that meet as torchrun's would.

    `prepare(rank)` runs in each of them first, `afterwards()` last, if it lives so long.
    They are forks of this one, which saves the seconds that importing torch takes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    fork = multiprocessing.get_context("fork")
    logs = [folder / f"process-{rank}.log" for rank in range(world)]
    team = []
    for rank, log in enumerate(logs):
        variables = {**meeting, "SAN_HOME": str(san_home)}
        if world > 1:
            variables |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
        words = arguments(folder, *extra)
        team.append(fork.Process(target=_be_process, args=(words, variables, log, rank, prepare, afterwards)))
    for process in team:
        process.start()
    for process in team:
        process.join(120)
    assert all(process.exitcode is not None for process in team)
    return [
        Ended(int(process.exitcode or 0), "", log.read_text())
        for process, log in zip(team, logs, strict=True)
    ]


def _be_process(
    words: Sequence[str],
    variables: Mapping[str, str],
    log: Path,
    rank: int,
    prepare: Callable[[int], None],
    afterwards: Callable[[], None],
) -> None:
    from san_cli.cli.main import main

    torch.set_num_threads(1)
    os.environ.update(variables)
    sys.argv = ["san", *words]
    with log.open("w") as file:
        os.dup2(file.fileno(), 2)
        sys.stderr = file
        prepare(rank)
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 1
        afterwards()
        with contextlib.suppress(ValueError):
            file.flush()
        os._exit(int(code or 0))  # type: ignore[call-overload]


def write_sharp_model(path: Path) -> Path:
    """A model whose queries differ, so that rounding decides neither matches nor which points are uncertain."""
    model = random_checkpoint(micro_preset(), 1)
    stronger = {"side_adapter.query_embed": 50, "mask_decoder.query_mlp.layers.2.weight": 4}
    state = {name: stronger.get(name, 1) * tensor for name, tensor in model.state.items()}
    write_checkpoint(Checkpoint(model.preset, state), path)
    return path


def before_step(number: int, act: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Let `act` happen when iteration `number` (from 0) begins."""
    step = Trainer.step

    def patched(self: Trainer, now: int, *parts: object, **more: object) -> StepResult:
        if now == number:
            act()
        return step(self, now, *parts, **more)  # type: ignore[arg-type]

    patch.setattr(Trainer, "step", patched)


def trainer_of(preset: Preset, **recipe: Any) -> Trainer:
    """What makes the steps of a training of that model, untrained, with words of no meaning."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    words = F.normalize(torch.randn(len(CLASSES), preset.clip.embed_dim, generator=generator), dim=-1)
    short = replace(RECIPES["official"], **{"points": 64, "iterations": 10, "batch": 2, **recipe})
    model = TrainedModel(random_checkpoint(preset), words, vocabulary_of_names(CLASSES), short)
    return Trainer(model, short, 0, torch.float32, ProcessGroup(device=torch.device("cpu")))


def part_of_batch(*numbers: int, side: int = 64) -> MicroBatch:
    """These pictures, cut to size."""
    pictures = [picture(number) for number in numbers]
    images = np.stack([pixels[:side, :side].transpose(2, 0, 1) for pixels, _ in pictures])
    targets = [
        targets_of(torch.from_numpy(labels[:side, :side]), len(CLASSES), 255) for _, labels in pictures
    ]
    names = tuple(f"p{number}" for number in numbers)
    return MicroBatch(torch.from_numpy(images), tuple(targets), tuple(range(len(numbers))), names)


def die() -> None:
    """Die as by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(owner: object, name: str, call: int) -> None:
    """Die instead of calling `name` for the `call`-th time."""
    real, left = getattr(owner, name), [call]

    def dying(*arguments: object, **options: object) -> object:
        left[0] -= 1
        if not left[0]:
            die()
        return real(*arguments, **options)

    setattr(owner, name, dying)
