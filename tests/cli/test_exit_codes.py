"""Exit codes mean one thing in every command: missing data 4, missing weights 2, an unwritable output 2."""

import os
from pathlib import Path

import pytest
from program import San
from raw_datasets import make_voc

SCENES = Path(__file__).parents[1] / "data" / "emoji"
PHOTO = Path(__file__).resolve().parents[2] / "examples" / "scenes" / "scene-018.jpg"
OWN = f"--images {SCENES}/images --labels {SCENES}/labels --classes {SCENES}/classes.txt"
GONE = f"--images nowhere --labels {SCENES}/labels --classes {SCENES}/classes.txt"
TINY = "--model tiny --device cpu"

MISSING_DATA = [
    f"predict nowhere.jpg {TINY}",
    f"predict nowhere/ {TINY}",
    f"predict empty {TINY}",
    "predict nowhere.jpg --weights nowhere.pth",
    f"eval voc --data-root nowhere {TINY}",
    f"eval voc --data-root empty {TINY}",
    f"eval {GONE} {TINY}",
    f"eval {OWN} --predictions nowhere.json",
    "train voc --data-root nowhere --init-from tiny -o new --device cpu",
    "train voc --data-root empty --init-from tiny -o new --device cpu",
    f"train {GONE} --init-from tiny -o new --device cpu",
    f"fps {TINY} --end-to-end nowhere",
    "data check voc --data-root nowhere",
    "data check voc --data-root empty",
    "data prepare voc --from nowhere.tar --to new",
]
MISSING_WEIGHTS = [
    f"predict {PHOTO} --weights nowhere.pth",
    f"predict {PHOTO} --model own.json",
    f"eval {OWN} --weights nowhere.pth --device cpu",
    f"train {OWN} --init-from nowhere.safetensors -o new --device cpu",
    f"train {OWN} --clip-weights nowhere.pt -o new --device cpu",
    "vocab similarity voc coco --weights nowhere.pth",
    "weights path vit-l-14",
    "weights verify nowhere.pth",
    "weights convert nowhere.pth new.safetensors",
]
UNWRITABLE = [
    f"predict {PHOTO} {TINY} -o file",
    f"predict {PHOTO} {TINY} -o file/below",
    f"predict {PHOTO} {TINY} -o file/below --overwrite",
    f"predict {PHOTO} --weights nowhere.pth -o file/below",
    f"eval {OWN} {TINY} -o file/below",
    f"eval {OWN} {TINY} --save-predictions file/below.json",
    f"train {OWN} --init-from tiny --device cpu -o file/below",
    f"fps {TINY} --csv file/below.csv",
    f"fps {TINY} --plot file/below.png",
    "data prepare voc --from raw --to file/below",
    "weights convert tiny.safetensors file/below.safetensors",
]
CASES = [
    *(
        pytest.param(line, 4, id=f"data-{number}-{line.split()[0]}")
        for number, line in enumerate(MISSING_DATA)
    ),
    *(pytest.param(line, 2, id=f"weights-{n}-{line.split()[0]}") for n, line in enumerate(MISSING_WEIGHTS)),
    *(pytest.param(line, 2, id=f"output-{n}-{line.split()[0]}") for n, line in enumerate(UNWRITABLE)),
]


@pytest.mark.parametrize(("line", "code"), CASES)
def test_exit_code(
    san: San, tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, line: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "tiny.safetensors").write_bytes(tiny_weights.read_bytes())
    (tmp_path / "own.json").write_text(
        '{"name": "own", "clip": {"width": 64, "layers": 12, "heads": 4, "patch_size": 16, "image_size": 64, '
        '"embed_dim": 32, "text_width": 32, "text_layers": 2, "text_heads": 2}}'
    )
    if "--from raw" in line:
        make_voc(tmp_path / "raw")
    before = sorted(os.listdir(tmp_path))  # noqa: PTH208
    ended = san(*line.split())
    assert ended.code == code, ended.err
    assert ended.err.count("Traceback") == 0
    assert "san: " in ended.err
    assert sorted(os.listdir(tmp_path)) == before  # noqa: PTH208
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "line",
    [
        "predict nowhere.jpg",
        "eval voc --data-root nowhere",
        "train voc --data-root nowhere",
        "fps --systems none",
        "data prepare voc",
        "data check voc --data-root nowhere",
        "vocab show @nowhere.txt",
        "vocab similarity coco @nowhere.txt",
        "weights get nothing",
        "weights path nothing",
        "weights verify nowhere.pth",
        "weights convert nowhere.pth new.safetensors",
    ],
)
def test_debug_shows_where_an_error_comes_from(
    san: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    without, with_it = san(*line.split()), san(*line.split(), "--debug")
    assert "Traceback" not in without.err
    assert with_it.code == without.code != 0
    assert with_it.err.endswith(without.err)
    assert "Traceback" in with_it.err
