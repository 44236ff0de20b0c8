"""A run that has nothing to do: it ends without a model, and says and leaves what it would have with one."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from program import Ended, San, subprocess_environment, tree

from san_cli.engine.segmenter import Segmenter
from san_cli.predict import finished
from san_cli.weights.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

Loaded = Callable[[], int]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """Count the models that have been loaded since it was last asked."""
    real, count = Segmenter.load, [0]

    def load(*arguments: object, **options: object) -> Segmenter:
        count[0] += 1
        return real(*arguments, **options)  # type: ignore[arg-type]

    def since() -> int:
        found, count[0] = count[0], 0
        return found

    monkeypatch.setattr(Segmenter, "load", load)
    return since


def said(ended: Ended) -> tuple[int, str, str]:
    """What a run ended with and said, but for how long it took."""
    stages = r"^time by stage.*\n| in [\d.]+ s\b|, [\d.]+ images a second"
    return ended.code, ended.out, re.sub(stages, "", ended.err, flags=re.MULTILINE)


def both_ways(
    predict: San, monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: object
) -> tuple[Ended, Ended]:
    """Run into a copy of a folder with a model loaded whatever is known, and then into the folder itself."""
    before = out.parent / "before"
    shutil.rmtree(before, ignore_errors=True)
    shutil.copytree(out, before, symlinks=True)
    with monkeypatch.context() as patched:
        patched.setattr(finished, "_known_model", lambda *_: None)
        with_model = predict(*arguments, "-o", out)
    after = tree(out)
    shutil.rmtree(out)
    before.rename(out)
    without = predict(*arguments, "-o", out)
    assert tree(out) == after
    assert said(with_model) == said(without)
    return with_model, without


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--jsonl"],
        ["--jsonl", "--regions", "--save", "json,masks,labelme"],
        ["--save", "overlay,html,table,yolo,cvat", "--batch", "4"],
        ["--save", "none", "--precision", "bf16"],
        ["--vocab", "3d,3 d,cat,dog|Dog"],  # which CLIP can't tell apart, and is told again
        ["--only", "cat"],
        ["--tile", "auto", "--min-score", "0.1"],
    ],
    ids=" ".join,
)
def test_what_is_done_is_told_without_a_model(
    predict: San,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loaded: Loaded,
    options: list[str],
) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out, *options)
    loaded()
    with_model, ended = both_ways(predict, monkeypatch, out, photos, *options)
    assert loaded() == 1  # by the former
    assert ended.code == 0
    assert "nothing new, 6 done before" in ended.err
    assert len(ended.out.splitlines()) == (6 if "--jsonl" in options else 0)
    assert ("CLIP can't tell apart" in with_model.err) == ("3d,3 d,cat,dog|Dog" in options)


def test_torch_is_not_imported(tiny_weights: Path, photos: Path, tmp_path: Path, san_home: Path) -> None:
    command = ["predict", photos, "-o", tmp_path / "out", "--vocab", "voc", "--weights", tiny_weights]
    code = (
        "import sys\n"
        "from san_cli.cli.main import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as ended:\n"
        "    print(ended.code or 0, 'torch' in sys.modules)"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code, *map(str, command), "--device", "cpu"],
            env=subprocess_environment(san_home),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert told == ["0 True\n", "0 False\n"]


def test_results_of_inputs_that_are_gone_are_removed(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: Loaded
) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out)
    (photos / "p00.jpg").unlink()
    loaded()
    _, ended = both_ways(predict, monkeypatch, out, photos)
    assert loaded() == 1
    assert "5 done before" in ended.err
    assert "removed: 2 results of inputs that are gone" in ended.err
    assert not (out / "p00.labels.png").exists()


def test_an_input_that_is_no_image_is_told_as_ever(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: Loaded
) -> None:
    out = tmp_path / "out"
    missing = photos / "missing.jpg"
    predict(photos, missing, "-o", out)
    loaded()
    _, ended = both_ways(predict, monkeypatch, out, photos, missing, "--jsonl")
    assert loaded() == 1
    assert ended.code == 3
    assert "6 done before, 1 failed" in ended.err
    assert "error" in json.loads(ended.out.splitlines()[-1])


def _torn(photos: Path, out: Path) -> None:
    (photos / "p02.jpg").write_bytes((photos / "p02.jpg").read_bytes()[:300])


def _changed(photos: Path, out: Path) -> None:
    shutil.copyfile(photos / "p04.jpg", photos / "p02.jpg")


def _added(photos: Path, out: Path) -> None:
    shutil.copyfile(photos / "p04.jpg", photos / "p06.jpg")


def _edited(photos: Path, out: Path) -> None:
    Image.new("P", (96, 72)).save(out / "p00.labels.png")


def _removed(photos: Path, out: Path) -> None:
    (out / "p00.labels.png").unlink()


def _of_an_older_san(photos: Path, out: Path) -> None:
    (out / ".san" / "notes").unlink()


@pytest.mark.parametrize("change", [_torn, _changed, _added, _edited, _removed, _of_an_older_san])
def test_a_model_is_loaded_where_there_is_something_to_do_or_to_say(
    predict: San,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loaded: Loaded,
    change: Callable[[Path, Path], None],
) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out)
    change(photos, out)
    loaded()
    both_ways(predict, monkeypatch, out, photos)
    assert loaded() == 2


def test_a_failed_image_is_tried_again(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: Loaded
) -> None:
    out = tmp_path / "out"
    _torn(photos, out)
    assert predict(photos, "-o", out).code == 3
    loaded()
    _, ended = both_ways(predict, monkeypatch, out, photos)
    assert loaded() == 2
    assert ended.code == 3
    assert "5 done before, 1 failed" in ended.err


@pytest.mark.parametrize(
    "options",
    [
        ["--overwrite"],
        ["--verbose"],
        ["--shard", "1/1"],
        ["--shard", "1/2"],
        ["--vocab", "voc+cow shed"],
        ["--precision", "bf16"],
        ["--weights", "random"],
        ["--model", "tiny"],
        ["--device", "cuda:7"],
        ["--precision", "half"],
    ],
    ids=" ".join,
)
def test_other_runs_are_what_they_were(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out)
    both_ways(predict, monkeypatch, out, photos, *options)


def test_other_weights_under_the_same_name_are_refused(
    predict: San, tiny_weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, weights = tmp_path / "out", tmp_path / "mine.safetensors"
    shutil.copyfile(tiny_weights, weights)
    predict(photos, "-o", out, "--weights", weights)
    found = read_checkpoint(weights)
    scaled = {name: 2 * tensor for name, tensor in found.state.items()}
    write_checkpoint(Checkpoint(found.preset, scaled), weights)
    _, ended = both_ways(predict, monkeypatch, out, photos, "--weights", weights)
    assert ended.code == 2
    assert "holds a run with other settings: weights" in ended.err


def test_a_note_on_the_words_of_tiny_is_told_again(
    san: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: Loaded
) -> None:
    out = tmp_path / "out"
    options = ["--model", "tiny", "--device", "cpu", "--vocab", "carburettor,red apple", "--limit", 1]
    san("predict", photos, "-o", out, *options)
    loaded()
    _, ended = both_ways(lambda *a, **b: san("predict", *a, *options, **b), monkeypatch, out, photos)
    assert loaded() == 1
    assert "tiny has learned nothing but drawn scenes" in ended.err
    assert "(carburettor)" in ended.err
