"""`san eval --dry-run`: what would be evaluated, before it, and not a file of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from program import San, tree

ROOT = Path(__file__).resolve().parents[2]
OWN = (
    "--images", ROOT / "examples" / "scenes", "--labels", ROOT / "examples" / "labels",
    "--classes", ROOT / "examples" / "classes.txt",
)  # fmt: skip


def plan(san: San, *options: object) -> dict[str, Any]:
    ended = san("eval", *options, "--dry-run", "--json", "--device", "cpu")
    assert ended.code == 0, ended.err
    facts: dict[str, Any] = json.loads(ended.out)
    return facts


def test_the_plan_says_what_there_is_to_do(san: San, tiny_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    facts = plan(san, "emoji", "--limit", 3, "--weights", tiny_weights, "-o", out)
    (one,) = facts["datasets"]
    assert (one["dataset"], one["images"], one["to_do"], len(one["classes"])) == ("emoji", 3, 3, 380)
    assert (facts["model"], facts["device"], facts["precision"]) == ("small", "cpu", "fp32")
    assert facts["seconds"] > one["seconds"] > 0
    assert not out.exists()

    assert san("eval", "emoji", "--limit", 3, "--weights", tiny_weights, "-o", out, "-q").code == 0
    before = tree(out)
    facts = plan(san, "emoji", "--limit", 3, "--weights", tiny_weights, "-o", out, "--resume")
    assert (facts["datasets"][0]["done_before"], facts["datasets"][0]["to_do"]) == (3, 0)
    ended = san("eval", "emoji", "--limit", 3, "--weights", tiny_weights, "-o", out, "--dry-run")
    told = {line[:24].strip(): line[24:] for line in ended.out.splitlines()}
    assert told["dataset"] == "emoji val: 3 images" and told["results"] == str(out)
    assert tree(out) == before

    other = san("eval", "emoji", "--limit", 2, "--weights", tiny_weights, "-o", out, "--resume", "--dry-run")
    assert other.code == 2 and "was begun with other settings" in other.err
    assert tree(out) == before


def test_own_labels_and_predictions_are_planned_too(san: San, tiny_weights: Path, tmp_path: Path) -> None:
    facts = plan(san, *OWN, "--weights", "random", "--model", "tiny", "--limit", 2)
    assert facts["weights"] == "random" and facts["datasets"][0]["images"] == 2
    saved = tmp_path / "saved.json"
    options = (*OWN, "--limit", 2, "--weights", tiny_weights, "-q")
    facts = plan(san, *options, "--save-predictions", saved)
    assert facts["megabytes"] > 0 and not saved.exists()
    assert san("eval", *options, "--save-predictions", saved).code == 0
    facts = plan(san, *OWN, "--predictions", saved, "--limit", 2)
    assert facts["predictions"] == str(saved) and "model" not in facts and facts["seconds"] is not None


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["voc", "--data-root", "nowhere"], 4, "nowhere"),
        (["emoji", "--weights", "nowhere.pth"], 2, "nowhere.pth"),
        (["emoji", "--model", "tiny", "--precision", "fp16", "--device", "cpu"], 2, "fp16 on the CPU"),
        (["emoji", "--predictions", "nowhere.json"], 4, "nowhere.json"),
        (["emoji", "--model", "tiny", "-o", "file"], 2, "file"),
    ],
)
def test_what_would_keep_it_from_starting_ends_the_plan(
    options: list[str], code: int, told: str, san: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    ended = san("eval", *options, "--limit", 1, "--dry-run")
    assert (ended.code, ended.out) == (code, "") and told in ended.err
