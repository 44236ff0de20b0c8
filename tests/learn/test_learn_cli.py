"""`san vocab learn` from pictures to a prediction, with the bundled model: a texture under a name it can't know."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from program import Ended, San

from san_cli.vocabulary.learned_words import read_words_file

STORED = Path(__file__).parents[1] / "data" / "emoji"
STRANGE, KNOWN = "qzxv blorp", "night sky"
FEW, NEW = ("002", "005", "026"), ("032", "041")  # scenes with a night sky
VOCAB = f"emoji+-{KNOWN}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few scenes with labels, new ones, and their classes: the sky has a name that says nothing."""
    root = tmp_path_factory.mktemp("few")
    for folder, scenes in (("few", FEW), ("new", NEW)):
        for kind, suffix in (("images", "jpg"), ("labels", "png")):
            (root / folder / kind).mkdir(parents=True)
            for scene in scenes:
                shutil.copy(STORED / kind / f"scene-{scene}.{suffix}", root / folder / kind)
    names = (STORED / "classes.txt").read_text(encoding="utf-8").replace(f"{KNOWN}\n", f"{STRANGE}\n")
    (root / "names.txt").write_text(names, encoding="utf-8")
    return root


def arguments(data: Path, output: Path) -> list[object]:
    """Return what teaches the strange word."""
    folders = ["--images", data / "few/images", "--labels", data / "few/labels"]
    of_data = [*folders, "--classes", data / "names.txt"]
    model = ["--model", "tiny", "--device", "cpu", "--vocab", VOCAB]
    return ["vocab", "learn", *of_data, "--teach", STRANGE, *model, "-o", output]


def test_a_word_is_learned_and_found_in_new_pictures(san: San, data: Path, tmp_path: Path) -> None:
    """Its name finds some of it by chance; what three pictures teach nearly all, and other classes keep theirs."""
    mine = tmp_path / "mine.words"
    ended = san(*arguments(data, mine), "--json")
    assert ended.code == 0, ended.err
    (told,) = json.loads(ended.out)
    assert (told["name"], told["learned"], told["pictures"]) == (STRANGE, True, 3)
    assert told["iou_learned"] > told["iou_plain"] + 0.4
    assert "mine.words: 1 of 1 class learned; use it as --vocab TERMS+@" in ended.err
    assert mine.stat().st_size < 10_000

    file = read_words_file(mine)
    assert (file.groups, list(file.rows), file.model) == (((STRANGE,),), [0], "tiny")

    # The same pictures again: the same bytes.
    again = tmp_path / "again.words"
    assert san(*arguments(data, again), "--quiet").code == 0
    assert again.read_bytes() == mine.read_bytes()

    def found(term: str, output: str) -> dict[str, np.ndarray]:
        place = tmp_path / output
        run = san(
            "predict", data / "new/images", "--model", "tiny", "--device", "cpu", "--vocab", f"{VOCAB}+{term}",
            "-o", place, "--save", "labels", "--quiet",
        )  # fmt: skip
        assert run.code == 0, run.err
        return {scene: np.asarray(Image.open(place / f"scene-{scene}.labels.png")) for scene in NEW}

    classes = (STORED / "classes.txt").read_text(encoding="utf-8").splitlines()
    index = len(classes) - 1  # the strange word comes last
    plain, learned = found(STRANGE, "plain"), found(f"@{mine}", "learned")
    for scene in NEW:
        truth = np.asarray(Image.open(data / f"new/labels/scene-{scene}.png")) == classes.index(KNOWN)
        after = learned[scene] == index
        assert (after & truth).sum() > 0.9 * (after | truth).sum()
        # What no learned word took, and was not its own, is as it was.
        assert (plain[scene] == learned[scene])[~truth & ~after & (plain[scene] != index)].mean() > 0.99


def test_the_plan_counts_pixels(san: San, data: Path, tmp_path: Path) -> None:
    """`--dry-run` needs neither a model nor a place, and writes nothing."""
    labels = [np.asarray(Image.open(path)) for path in sorted((data / "few/labels").iterdir())]
    index = (STORED / "classes.txt").read_text(encoding="utf-8").splitlines().index(KNOWN)
    pixels = sum(int((one == index).sum()) for one in labels)
    planned = [*arguments(data, tmp_path / "mine.words")[:10], "--dry-run", "--json"]
    ended = san(*planned)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == [{"name": STRANGE, "pictures": 3, "pixels": pixels}]
    assert not (tmp_path / "mine.words").exists()
    table = san(*planned[:-1])
    assert table.out.splitlines()[1].split() == ["qzxv", "blorp", "3", f"{pixels:,}"]


def test_a_word_that_was_learned_before_begins_anew(san: San, data: Path, tmp_path: Path) -> None:
    """Its earlier row neither stands for its name nor competes; that of another word does, and is not lost."""
    first, again, other = (tmp_path / f"{name}.words" for name in ("first", "again", "other"))
    whole = arguments(data, first)
    assert san(*whole, "--quiet").code == 0
    terms = whole.index(VOCAB)
    taught = san(*whole[:terms], f"{VOCAB}+@{first}", "-o", again, "--quiet")
    assert taught.code == 0, taught.err
    assert again.read_bytes() == first.read_bytes()

    before = first.read_bytes()
    whole[whole.index("--teach") + 1] = "pizza"
    refused(san(*whole), 2, "would be lost", STRANGE, "Name another file")
    assert first.read_bytes() == before
    beside = san(*whole[:terms], f"{VOCAB}+@{first}", "-o", other)
    assert beside.code == 0, beside.err
    assert "first.words: 1 class, learned with tiny" in beside.err


def test_pictures_that_show_nothing_else_are_told(san: San, data: Path, tmp_path: Path) -> None:
    """Masks of 0 and 255 of which 0 was meant to be something else; and pixels that are ignored, which count here."""
    for folder, value in (("whole", 0), ("half", 255)):
        (tmp_path / folder).mkdir()
        for scene in FEW:
            label = np.zeros_like(np.asarray(Image.open(data / f"few/labels/scene-{scene}.png")))
            label[: len(label) // 2] = value
            Image.fromarray(label).save(tmp_path / folder / f"scene-{scene}.png")
    (tmp_path / "one.txt").write_text("rust\n")
    plan = ["--images", data / "few/images", "--classes", tmp_path / "one.txt", "--dry-run"]
    whole = san("vocab", "learn", *plan, "--labels", tmp_path / "whole", "--ignore", "none")
    assert whole.code == 0, whole.err
    assert "rust covers nearly all of the pictures" in whole.err
    half = san("vocab", "learn", *plan, "--labels", tmp_path / "half", "--ignore", "255")
    assert half.code == 0, half.err
    assert "50 % of the pixels have none of the classes: here they count, as something else" in half.err
    assert "covers nearly all" not in half.err


def refused(ended: Ended, code: int, *parts: str) -> None:
    """Assert that a run ended with a code and one sentence that says all parts."""
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    for part in parts:
        assert part in ended.err


def test_mistakes_are_told_before_anything_runs(san: San, data: Path, tmp_path: Path) -> None:
    """Each with the way out; a file that is there and isn't ours stays as it is."""
    mine = tmp_path / "mine.words"
    whole = arguments(data, mine)
    refused(san(*whole[:-2]), 2, "the words have no place to go", "-o mine.words")
    refused(san("vocab", "learn", "-o", mine), 2, "nothing to learn from", "--images, --labels and --classes")
    (tmp_path / "names.txt").write_text("dog\n")
    refused(san(*whole[:-1], tmp_path / "names.txt"), 2, "no file of learned words: it is left as it is")
    assert (tmp_path / "names.txt").read_text() == "dog\n"
    refused(san(*whole[:-1], tmp_path), 2, "is a folder", "mine.words")
    refused(san(*whole[:-1], tmp_path / "no/mine.words"), 2, "there is no folder")
    absent = [*whole[:8], "--teach", "nonsense", *whole[10:]]
    refused(san(*absent), 2, "There is no class 'nonsense'")
    missing = [*whole[:8], "--teach", "camel", *whole[10:]]
    refused(san(*missing), 4, "no picture shows camel", "--dry-run")
    both = [*whole[:14], "--vocab", f"{KNOWN}|{STRANGE}|dog", "-o", mine]
    refused(san(*both), 2, "are two classes of your labels, and one of --vocab")
    assert not mine.exists()
