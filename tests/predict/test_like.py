"""`san predict --like`: another run's settings for other inputs, to the letter, or a sentence why not."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import San, make_photos, tree

from san_cli.predict import like
from san_cli.predict.request import Inputs, Model, Plan, Words, job_of
from san_cli.predict.run import predict as predict_images
from san_cli.predict.settings import asked_settings
from san_cli.runs.voice import Voice
from san_cli.vocabulary.class_lists import DATASET_NAMES
from san_cli.vocabulary.templates import templates

ASKED = like.Request(Inputs(("photos",)), Words(), Model(), Plan(Path("out")))


def settings(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / ".san" / "run.json").read_text())
    return found


def change(folder: Path, **changed: object) -> None:
    file = folder / ".san" / "run.json"
    kept = {key: value for key, value in (settings(folder) | changed).items() if value is not ...}
    file.write_text(json.dumps(kept))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("others") / "others"
    make_photos(folder, 2)
    return folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, others: Path, tiny_weights: Path, san_home: Path) -> Path:
    """A run of few words, to copy."""
    folder = tmp_path_factory.mktemp("kept") / "kept"
    model, plan = Model(weights=str(tiny_weights), device="cpu"), Plan(folder, save="labels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAN_HOME", str(san_home))
        predict_images(Inputs([str(others)], limit=1), Words(["cat,dog"]), model, plan, Voice())
    return folder


@pytest.fixture
def finished(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "finished"))


@pytest.fixture
def run(predict: San, photos: Path, tmp_path: Path) -> Path:
    """A run with hardly a setting left as it is."""
    templates = tmp_path / "templates.txt"
    templates.write_text("a drawing of a {}\nthe {}\n")
    ended = predict(
        photos, "--limit", 1, "-o", tmp_path / "run", "--vocab", 'voc+"red, apple"|"voc"+-cow',
        "--show", "dog", "--show", "nothing at all", "--background", "nothing at all", "--batch", 2, "--min-area", 5,
        "--min-score", '"red, apple=0.25",*=0.125', "--min-confidence", "dog=0.1", "--regions",
        "--templates", f"@{templates}", "--save", "json,labels,labelme,scores", "--simplify", "1.5",
        "--tile", 64, "--range", "0,4000", "--bands", "3,2,1", "--precision", "bf16",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    return tmp_path / "run"


def test_a_run_like_another_has_its_settings_and_bytes(
    san: San, run: Path, photos: Path, others: Path, tmp_path: Path
) -> None:
    (tmp_path / "templates.txt").unlink()  # the run has them itself
    ended = san("predict", others, "--like", run, "-o", tmp_path / "new")
    assert ended.code == 0, ended.err
    assert f"note: settings of the run in '{run}'\n" in ended.err
    assert settings(tmp_path / "new") == settings(run)
    assert len(list((tmp_path / "new").glob("**/*.labels.png"))) == 2
    again = san("predict", photos, "--limit", 1, "--like", run, "-o", tmp_path / "same")
    assert again.code == 0
    assert tree(tmp_path / "same") == tree(run)


def test_options_given_beside_it_stand_in_for_the_runs(
    san: San, run: Path, others: Path, tmp_path: Path
) -> None:
    ended = san("predict", others, "--like", run, "-o", tmp_path / "new", "--min-area", 0, "--save", "labels")
    assert ended.code == 0, ended.err
    assert "but for --min-area, --save as given here" in ended.err
    assert settings(tmp_path / "new") == settings(run) | {"min-area": 0, "save": ["labels"]}

    # Whoever names a vocabulary wants nothing that was said of another one's classes.
    ended = san("predict", others, "--like", run, "-o", tmp_path / "words", "--vocab", "cat,tree")
    assert ended.code == 0, ended.err
    assert (
        "--vocab as given here, which stand in for its background, min-confidence, min-score, show too"
        in (ended.err)
    )
    of_words = {"vocab": [["cat"], ["tree"]], "show": None, "background": None}
    assert settings(tmp_path / "words") == settings(run) | of_words | {
        "min-score": 0.0,
        "min-confidence": 0.0,
    }


def test_only_is_taken_over(predict: San, san: San, photos: Path, others: Path, tmp_path: Path) -> None:
    predict(photos, "--limit", 1, "-o", tmp_path / "run", "--only", "dog,tv|television", "--save", "labels")
    ended = san("predict", others, "--like", tmp_path / "run", "-o", tmp_path / "new")
    assert ended.code == 0, ended.err
    assert settings(tmp_path / "new") == settings(tmp_path / "run")


def test_random_weights_are_taken_over() -> None:
    assert like._weights("tiny", "random:0123") == ("tiny", "random")


def test_every_setting_that_a_run_keeps_is_known(finished: Path) -> None:
    known = {*like._SINCE_ALWAYS, *like._OF_WORDS, *like._OTHERS, *like._SEEN}
    assert set(settings(finished)) == known


@pytest.mark.parametrize(
    ("changed", "told", "way_out"),
    [
        ({"weights": "0" * 64}, "are not on this machine", "--weights FILE"),
        ({"weights": "0" * 64}, "0" * 64, "--weights FILE"),
        ({"format": 99}, "a later san made that run", "Give the options themselves"),
        ({"colour": "red"}, "a later san made that run", "Give the options themselves"),
        ({"format": "x"}, "are damaged", "Give the options themselves"),
        ({"vocab": ...}, "are damaged", "Give the options themselves"),
        ({"vocab": 7}, "are damaged", "Give the options themselves"),
        ({"vocab": [[]]}, "A class is a name", ""),
        ({"save": 7}, "are damaged", "Give the options themselves"),
        ({"batch": 0}, "are damaged", "Give the options themselves"),
        ({"show": [7]}, "are damaged", "Give the options themselves"),
        ({"batch": "2"}, "are damaged", "Give the options themselves"),
        ({"min-score": {"elephant": 1}}, "no class 'elephant'", ""),
        ({"templates": ["without a place"]}, "is no template", ""),
        ({"weights": "random:ff", "model": "odd"}, "a preset of somebody's own", "--model FILE.json"),
    ],
)  # fmt: skip
def test_what_cant_be_taken_over_is_said(
    changed: dict[str, object],
    told: str,
    way_out: str,
    san: San,
    photos: Path,
    finished: Path,
    tmp_path: Path,
) -> None:
    change(finished, **changed)
    ended = san("predict", photos, "--like", finished, "-o", tmp_path / "new")
    assert ended.code == 2
    sentence, *hints = [line for line in ended.err.splitlines() if not line.startswith("note: ")]
    assert sentence.startswith("san: ") and told in sentence
    assert way_out in "\n".join(hints)
    assert not (tmp_path / "new").exists()


def test_an_earlier_format_is_said(san: San, photos: Path, finished: Path, tmp_path: Path) -> None:
    change(finished, format=4, bands=..., tile=..., device="cuda")
    ended = san("predict", photos, "--like", finished, "-o", tmp_path / "new", "--device", "cpu")
    assert ended.code == 0, ended.err
    assert "an earlier san made that run (format 4, now " in ended.err
    assert "that run was made on cuda, this one on cpu, which rounds differently" in ended.err
    assert settings(tmp_path / "new")["tile"] == "off"


def test_a_folder_that_holds_no_run_is_said(
    san: San, photos: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evaluated" / ".san-eval").mkdir(parents=True)
    (tmp_path / "trained" / "checkpoints").mkdir(parents=True)
    for folder, told, way_out in (
        ("nowhere", "there is no such folder", "what a run was given with -o"),
        (finished / "classes.json", "that is a file", f"--like {finished}?"),
        (photos, "no run of san predict is in that folder", "what a run was given with -o"),
        ("evaluated", "a folder of san eval", "what a run was given with -o"),
        ("trained", "--weights 'trained'", "what a run was given with -o"),
    ):
        ended = san("predict", photos, "--like", folder, "-o", "new")
        assert (ended.code, ended.out) == (2, "")
        assert told in ended.err and way_out in ended.err
    ended = san("predict", photos, "--like", finished, "-o", finished)
    assert ended.code == 2 and "names the folder of the results itself" in ended.err
    assert not (tmp_path / "new").exists()


WORDS = st.text(st.characters(blacklist_categories=("C", "Z")), min_size=1, max_size=8)


@given(names=st.lists(WORDS, min_size=1, max_size=5), only=st.booleans())
def test_any_vocabulary_comes_back_as_it_was(names: list[str], only: bool) -> None:
    found = {"vocab": [[name] for name in dict.fromkeys(names)], "only": only, "templates": ["a {}"]}
    words = like._words(found, Words())
    job = job_of(Inputs(()), words, Model(), Plan(Path("out")), Voice())
    now = asked_settings(job, templates(words.templates))
    assert [now[key] for key in found] == list(found.values())


@pytest.mark.parametrize("name", DATASET_NAMES)
def test_the_built_in_vocabularies_come_back(name: str) -> None:
    job = job_of(Inputs(()), Words([name]), Model(), Plan(Path("out")), Voice())
    found = asked_settings(job, templates("vild"))
    words = like._words(found, Words())
    assert words.templates == "vild"
    again = job_of(Inputs(()), words, Model(), Plan(Path("out")), Voice())
    assert asked_settings(again, templates("vild")) == found
