"""Evaluations through windows: the label maps are the tool's own, small pictures stay whole, reports say it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from emoji_font import needs_font
from eval_trees import make_voc
from program import Ended, San
from recipe import image

from san_cli.datasets.catalogue import Pair
from san_cli.engine.ensemble import Ensemble, Member
from san_cli.engine.mask_blocks import frame_of
from san_cli.engine.segmentation_map import segmentation_scores
from san_cli.engine.segmenter import Segmenter
from san_cli.engine.tiling import Tile, tiling_of
from san_cli.vocabulary.grammar import vocabulary_of_names

WORDS = vocabulary_of_names(["cat", "dog", "grass", "sky"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_voc(tmp_path_factory.mktemp("datasets"))


@pytest.fixture
def evaluate(san: San, tiny_weights: Path, root: Path) -> San:
    """Run `san eval voc` with the small model, to which pictures over 128 pixels are large."""

    def run(*arguments: object) -> Ended:
        model = [] if "--predictions" in arguments else ["--weights", tiny_weights, "--device", "cpu"]
        return san("eval", "voc", "--data-root", root, *arguments, *model)

    return run


@pytest.fixture(scope="module")
def segmenter(tiny_weights: Path) -> Segmenter:
    torch.set_num_threads(1)
    return Segmenter.load(weights=tiny_weights, device="cpu")


class Given(Pair):
    """A pair whose image is an array."""

    pixels: np.ndarray

    def read_image(self) -> np.ndarray:
        return self.pixels


def given(pixels: np.ndarray) -> Given:
    pair = Given(Path("x.png"), Path("x.labels.png"), "x")
    object.__setattr__(pair, "pixels", pixels)
    return pair


def map_of(ensemble: Ensemble, pixels: np.ndarray, laps: list[str]) -> np.ndarray:
    size = pixels.shape[:2]
    return ensemble.label_map(ensemble.load(given(pixels), size), size, laps.append)


@pytest.mark.parametrize("tile", [None, "auto", 64, 100])
@pytest.mark.parametrize("size", [(70, 100), (150, 210)])
def test_label_maps_are_those_of_the_python_api(
    segmenter: Segmenter, tile: Tile | None, size: tuple[int, int]
) -> None:
    pixels, laps = image(5, *size), []
    made = map_of(Ensemble([Member(segmenter)], WORDS, tile), pixels, laps)
    assert np.array_equal(made, segmenter.segment(pixels, WORDS, tile=tile).label_map)
    tiling = tiling_of(*size, tile, segmenter.preset)
    assert laps.count("model") == (1 if tiling is None else len(tiling))


def test_windows_of_an_ensemble_are_the_sum_of_its_maps(tiny_weights: Path, segmenter: Segmenter) -> None:
    """Two models that differ, against the plain formula's sum."""
    other = Segmenter.load(weights=tiny_weights, device="cpu")
    with torch.no_grad():
        for parameter in other.model.mask_decoder.parameters():
            parameter.mul_(0.7)
    members = [Member(segmenter), Member(other, 0.5)]
    pixels, laps = image(5, 150, 210), []
    made = map_of(Ensemble(members, WORDS, 100), pixels, laps)
    tiling = tiling_of(150, 210, 100, segmenter.preset)
    assert tiling is not None and laps.count("model") == len(tiling)
    total = torch.zeros(len(WORDS), 150, 210)
    for row, down in enumerate(tiling.rows.weights):
        for (rows, columns), across in zip(tiling.places(row), tiling.columns.weights, strict=True):
            resized = segmenter.resize(pixels[rows, columns])
            for member in members:
                masks, classes = member.segmenter.map_factors([resized], WORDS)
                scores = segmentation_scores(masks[0], classes[0], frame_of(resized, tiling.size))
                weights = torch.from_numpy(np.outer(down, across))
                total[:, rows, columns] += member.share * scores * weights
    best = total.topk(2, dim=0)
    clear = (best.values[0] - best.values[1] > 1e-5).numpy()
    assert clear.mean() > 0.99
    assert np.array_equal(made[clear], best.indices[0].numpy()[clear])
    assert not np.array_equal(made, map_of(Ensemble(members[:1], WORDS, 100), pixels, laps))


def test_auto_leaves_small_pictures_and_their_numbers_alone(evaluate: San, tmp_path: Path) -> None:
    found = {}
    for tile in ("off", "auto", 64):
        ended = evaluate("--tile", tile, "--json", "--save-predictions", tmp_path / f"{tile}.json")
        assert ended.code == 0, ended.err
        (result,) = json.loads(ended.out)["results"]
        found[tile] = {key: value for key, value in result.items() if key != "seconds"}
        assert result["seconds"]["model"] > 0
    assert found["auto"] == found["off"] != found[64]
    saved = [(tmp_path / f"{tile}.json").read_bytes() for tile in found]
    assert saved[0] == saved[1] != saved[2]


def test_the_report_and_the_state_know_the_windows(
    evaluate: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("san_cli.evaluate.pictures.charts_are_possible", lambda: False)  # they take seconds
    ended = evaluate("--tile", 64, "-o", tmp_path, "--worst", 1)
    assert ended.code == 0, ended.err
    told = "large images were seen through windows (--tile 64), not whole as in the benchmarks"
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["settings"]["tile"] == 64
    assert found["results"][0]["notes"] == [told, *found["results"][0]["notes"][1:]]
    assert told in ended.out.replace("\n", " ")
    assert "--tile 64" in (tmp_path / "results.md").read_text().replace("\\", "")
    for tile in ("off", "auto"):
        other = evaluate("--tile", tile, "-o", tmp_path, "--resume")
        assert other.code == 2
        assert "other settings: tile (then 64, now" in other.err
    assert evaluate("--tile", 64, "-o", tmp_path, "--resume").code == 0
    assert evaluate("-o", tmp_path, "--worst", 1).code == 0
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["settings"]["tile"] == "off"
    assert not any("windows" in note for note in found["results"][0]["notes"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--tile", "640px"], "--tile takes a window's side"),
        (["--tile", "8"], "of at least 64"),
        (["--tile", "auto", "--predictions", "p.json"], "--tile is for models"),
    ],
)
def test_windows_that_make_no_sense_are_refused_before_a_model_is_loaded(
    evaluate: San, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.setattr(Segmenter, "load", None)
    ended = evaluate(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err


@needs_font
def test_mosaics_are_evaluated_through_windows(san: San, tiny_weights: Path) -> None:
    ended = san("eval", "emoji", "--split", "mosaics", "--limit", 1, "--tile", 800, "--weights", tiny_weights,
                "--templates", "name", "--json", "--device", "cpu")  # fmt: skip
    assert ended.code == 0, ended.err
    (result,) = json.loads(ended.out)["results"]
    assert result["images"] == 1
    assert result["classes_present"] > 50


@needs_font
def test_single_scenes_have_the_same_numbers_with_auto(san: San) -> None:
    found = []
    for tile in ("off", "auto"):
        ended = san("eval", "emoji", "--limit", 2, "--tile", tile, "--model", "tiny", "--weights", "random",
                    "--templates", "name", "--json", "--device", "cpu")  # fmt: skip
        assert ended.code == 0, ended.err
        (result,) = json.loads(ended.out)["results"]
        del result["seconds"]
        found.append(result)
    assert found[0] == found[1]
