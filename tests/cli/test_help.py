"""Help for whoever asks, or errs: pages that fit, examples that work here and now, mistakes led back."""

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from program import San, subprocess_environment

from san_cli.cli.main import app
from san_cli.cli.usage_errors import first_example
from san_cli.predict.output_names import KINDS
from san_cli.vocabulary.class_lists import DATASET_NAMES

ROOT = Path(__file__).resolve().parents[2]


def _commands(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """`command` and all below it, by the words that call them."""
    found = {path: command}
    for name, other in getattr(command, "commands", {}).items():
        found |= _commands(other, (*path, name))
    return found


COMMANDS = _commands(typer.main.get_command(app))

EACH_COMMAND = pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "san")


@pytest.fixture
def page(san: San, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The lines of a command's --help at a width."""

    def lines(words: tuple[str, ...], width: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", width, raising=False)
        ended = san(*words, "--help")
        assert (ended.code, ended.err) == (0, "")
        return ended.out.splitlines()

    return lines


@EACH_COMMAND
def test_a_page_fits_and_its_paragraphs_fill_it(words: tuple[str, ...], page: Any) -> None:
    for width in (60, 80, 100, 140):
        lines = page(words, width)
        panels = next(number for number, line in enumerate(lines) if line.startswith("╭"))
        examples = next(
            (n for n, line in enumerate(lines) if line.strip() in ("Example:", "Examples:")), len(lines)
        )
        assert all(len(line) <= width for line in lines[:examples]), width
        text = [line.strip() for line in lines[2:panels]]
        for line, following in pairwise(text):
            if line and following:  # a line ends only where the next word has no room
                assert len(line) + 1 + len(following.split()[0]) > width - 2, (width, line)
        told = "\n".join(lines)
        assert "<bool>" not in told and "<list" not in told and "[[" not in told


@EACH_COMMAND
def test_a_page_ends_with_examples_and_exit_codes(words: tuple[str, ...], page: Any) -> None:
    lines = page(words, 80)
    told = "\n".join(lines)
    examples = re.search(r"\n Examples?:", told)
    assert examples is not None
    below = told[examples.start() :]
    assert " ".join(("san", *words)) in below.splitlines()[2]
    assert all(len(line) <= 80 for line in below.splitlines())
    assert re.findall(r"^ {3}(\d+) ", below[below.index(" Exit codes:") :], re.MULTILINE) == [
        "0", "2", "3", "4", "130", "1",
    ]  # fmt: skip


# By hand: train and fps take half a minute each (test_train_runs and test_fps_cli do the same with less); what
# `data prepare` prepares from has to be downloaded first, and status is of a run (test_status).
@pytest.mark.parametrize(
    "words", [w for w in COMMANDS if w not in {("train",), ("fps",), ("data", "prepare"), ("status",)}]
)
def test_the_first_example_works_in_a_checkout_without_a_download(
    words: tuple[str, ...], san: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = first_example(COMMANDS[words].epilog)
    for name in ("examples", "weights"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)
    said, *arguments = shlex.split(re.split(r" [|>] ", example)[0])
    assert said == "san"
    if arguments[0] in ("predict", "eval"):
        arguments += ["--limit", "1", "-o", str(tmp_path / "out")]
    ended = san(*arguments)
    assert ended.code == 0, ended.err


def test_models_and_vocabularies_are_all_named(page: Any) -> None:
    told = " ".join(" ".join(page(("predict",), 140)).replace("│", " ").split())
    assert all(name in told for name in ("vit-b-16", "vit-l-14", "tiny", *DATASET_NAMES))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (
            "san ",
            {"predict", "convert", "status", "eval", "export", "fps", "train", "doctor", "data"}
            | {"vocab", "weights"},
        ),
        ("san predict --model ", {"vit-b-16", "vit-l-14", "tiny"}),
        ("san predict --shard ", {"auto"}),
        ("san train --model t", {"tiny"}),
        ("san fps --model ", {"vit-b-16", "vit-l-14", "tiny"}),
        ("san weights get ", {"vit-b-16", "vit-l-14", "tiny"}),
        ("san predict --device ", {"auto", "cpu", "cuda", "mps"}),
        ("san predict --precision b", {"bf16"}),
        ("san predict --backend ", {"auto", "pytorch", "onnx", "openvino"}),
        ("san predict --save ", {*KINDS, "none"}),
        ("san predict --save labels,", {f"labels,{kind}" for kind in KINDS if kind != "labels"}),
        ("san predict --templates ", {"vild", "imagenet", "photo", "name"}),
        ("san predict --weights ", set()),  # files: the shell's own completion
        ("san predict --weights ra", {"random"}),
        ("san fps --systems san,s", {"san,simseg"}),
        ("san predict --vocab coco+e", {"coco+emoji"}),
        ("san eval c", {"coco", "cityscapes"}),
        ("san data prepare v", {"voc"}),
    ],
)
def test_the_shell_completes(
    typed: str, offered: set[str], san: San, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_SAN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - (not typed.endswith(" "))))
    assert set(san().out.split()) == offered


def test_completion_leaves_torch_alone(san_home: Path) -> None:
    environment = {
        **subprocess_environment(san_home),
        "_SAN_COMPLETE": "complete_bash", "COMP_WORDS": "san predict --model ", "COMP_CWORD": "3",
    }  # fmt: skip
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules]))\n"
        "from san_cli.cli.main import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["vit-b-16", "vit-l-14", "tiny", "[]"]


@pytest.mark.parametrize(
    ("arguments", "named", "way_out"),
    [
        (["segment", "cat.jpg"], "no command 'segment'", "san predict"),
        (["Predict", "cat.jpg"], "no command 'Predict'", "san predict"),
        (["photos"], "no command 'photos'", "san predict photos"),
        (["my photos/cat.jpg"], "no command 'my photos/cat.jpg'", "san predict 'my photos/cat.jpg'"),
        (["diagnose"], "no command 'diagnose'", "san doctor?"),
        (["predict", "photos", "--simulate"], "no option --simulate", "--dry-run?"),
        (["predict", "photos", "--config", "out"], "no option --config", "--like?"),
        (["help"], "no command 'help'", "san --help"),
        (["foobar"], "no command 'foobar'", "There are predict, eval"),
        (["--vocab", "cat"], "no option --vocab", "after the command: san predict"),
        (["-v"], "no option -v", "--version"),
        (["vocab", "coco"], "no command 'coco'", "san vocab show coco"),
        (["weights", "vit-b-16"], "no command 'vit-b-16'", "san weights get vit-b-16"),
        (["weights", "download", "tiny"], "no command 'download'", "san weights get"),
        (["data", "voc"], "no command 'voc'", "san data check voc"),
        (["predict"], "INPUT is missing", "san predict examples/scenes --model tiny"),
        (["predict", "photos", "--vocab"], "--vocab needs a value", "san predict --help"),
        (["predict", "photos", "--vocabulary", "cat"], "no option --vocabulary", "--vocab?"),
        (["predict", "photos", "--classes", "cat"], "no option --classes", "--vocab?"),
        (["predict", "photos", "--out", "x"], "no option --out", "--output?"),
        (["predict", "photos", "--output_dir", "x"], "no option --output_dir", "--output?"),
        (["predict", "photos", "--batch-size", "2"], "no option --batch-size", "--batch?"),
        (["predict", "photos", "--gpu"], "no option --gpu", "--device cuda?"),
        (["predict", "photos", "--fp16"], "no option --fp16", "--precision bf16?"),
        (["predict", "photos", "--threshold", "1"], "no option --threshold", "--min-score?"),
        (["predict", "photos", "--frobnicate"], "no option --frobnicate", "san predict --help"),
        (["predict", "photos", "--batch", "0"], "--batch must be at least 1", "san predict --help"),
        (["predict", "photos", "--workers", "two"], "--workers must be a whole number", "san predict --help"),
        (["predict", "photos", "--min-score", "x"], "--min-score 'x' is no number", "dog=0.4"),
        (["predict", "photos", "--save", "png"], "--save knows no 'png'", "labels?"),
        (["predict", "photos", "--save", "all"], "--save knows no 'all'", "overlay,labels,json,html,"),
        (["predict", "photos", "--model", "ViT-B/16"], "unknown model 'ViT-B/16'", "vit-b-16?"),
        (["predict", "photos", "--model", "vit_large_14"], "unknown model 'vit_large_14'", "vit-l-14"),
        (["predict", "photos", "--model", "san.pth"], "unknown model 'san.pth'", "--weights san.pth"),
        (["predict", "photos", "--weights", "tiny"], "'tiny' is a model's name", "--model tiny"),
        (["predict", "photos", "--device", "gpu"], "unknown device 'gpu'", "cuda?"),
        (["predict", "photos", "--device", "cuda:9"], "device 'cuda:9'", "--device cpu"),
        (["predict", "photos", "--precision", "half"], "unknown precision 'half'", "bf16?"),
        (["predict", "photos", "--precision", "float16"], "unknown precision 'float16'", "fp16?"),
        (["predict", "photos", "--backend", "onnxruntime"], "unknown backend 'onnxruntime'", "onnx?"),
        (["predict", "photos", "--templates", "foo"], "no template set 'foo'", "vild"),
        (["fps", "--systems", "simsegg"], "--systems knows no 'simsegg'", "simseg?"),
        (["fps", "more"], "too many words: more", "san fps --help"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_sentence_and_a_way_out(
    arguments: list[str], named: str, way_out: str, san: San, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    ended = san(*arguments)
    assert (ended.code, ended.out) == (2, "")
    sentence, *hints = ended.err.splitlines()
    assert named in sentence and way_out in "\n".join(hints)
    assert [path.name for path in photos.parent.iterdir()] == ["photos"]  # nothing was started
