"""What a training is told: `--set`, recipes, presets of one's own, and options that contradict each other."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import San
from train_data import MICRO, make_labelled, micro_preset, train, write_preset

from san_cli.errors import SanError
from san_cli.models.presets import VIT_B_16, ClipShape, Preset
from san_cli.train.data import augmentation_of, emoji_data
from san_cli.train.losses import normalisers_of
from san_cli.train.matcher import LossWeights
from san_cli.train.overrides import overridden
from san_cli.train.plan import Model
from san_cli.train.recipe import RECIPES, Recipe, differences, get_recipe
from san_cli.train.settings import check_settings, settings_of, write_settings
from san_cli.train.targets import Targets, targets_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_labelled(tmp_path_factory.mktemp("settings"))


def one_set(name: str, value: Any) -> tuple[Preset, Recipe]:
    return overridden(VIT_B_16, RECIPES["official"], [f"{name}={json.dumps(value)}"])


positive = st.floats(1e-9, 1e9)
recipe_values = st.one_of(
    st.tuples(st.sampled_from(["iterations", "batch", "points"]), st.integers(1, 2**20)),
    st.tuples(st.sampled_from(["learning_rate", "clip_norm", "weight_decay", "no_object_weight"]), positive),
    st.tuples(st.just("learning_rate"), st.integers(1, 1000)),  # a whole number will do
    st.tuples(st.sampled_from(["decay_everything", "colour_jitter"]), st.booleans()),
    st.tuples(st.just("short_side_choices"), st.lists(st.integers(1, 4000), min_size=1)),
    st.tuples(
        st.just("short_side_range"), st.lists(st.integers(1, 4000), min_size=2, max_size=2).map(sorted)
    ),
    st.tuples(st.just("short_side_range"), st.none()),
)


@given(recipe_values)
def test_a_recipes_values_come_as_they_were_given(setting: tuple[str, Any]) -> None:
    name, value = setting
    preset, recipe = one_set(name, value)
    expected = tuple(value) if isinstance(value, list) else value
    assert getattr(recipe, name) == expected
    assert preset == VIT_B_16
    assert dataclasses.replace(recipe, **{name: getattr(RECIPES["official"], name)}) == RECIPES["official"]


preset_values = st.one_of(
    st.tuples(st.just("clip_scale"), st.floats(0.1, 2)),
    st.tuples(st.just("recognition_layers"), st.integers(3, 12)),
    st.tuples(st.just("queries"), st.integers(1, 500)),
    st.tuples(st.sampled_from(["decoupled_head", "train_clip_positions"]), st.booleans()),
    st.tuples(
        st.just("fusion"),
        st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9)), unique_by=lambda pair: pair[0]),
    ),
    st.tuples(st.just("clip.layers"), st.just(12)),
    st.tuples(st.just("clip.image_size"), st.integers(16, 512)),
)


@given(preset_values)
def test_a_presets_values_come_as_they_were_given(setting: tuple[str, Any]) -> None:
    name, value = setting
    preset, recipe = one_set(name, value)
    owner = preset.clip if name.startswith("clip.") else preset
    found = getattr(owner, name.removeprefix("clip."))
    assert found == (tuple(value) if isinstance(value, list) else value)
    assert recipe == RECIPES["official"]
    changed = dataclasses.replace(preset, name=VIT_B_16.name) != VIT_B_16
    assert preset.name == ("vit-b-16-custom" if changed else "vit-b-16")


def test_settings_add_up_and_the_last_one_counts() -> None:
    words = ["points=5", "fusion=[]", " queries = 7", "points=6", "clip_scale=1", "flip=0", "poly-power=1"]
    preset, recipe = overridden(VIT_B_16, RECIPES["paper"], words)
    assert (recipe.points, recipe.flip, recipe.poly_power, recipe.decay_everything) == (6, 0.0, 1.0, True)
    assert (preset.fusion, preset.queries, preset.clip_scale) == ((), 7, 1.0)
    assert overridden(preset, recipe, ["queries=8"])[0].name == "vit-b-16-custom"


@pytest.mark.parametrize(
    ("setting", "message", "hint"),
    [
        ("decoupled_haed=false", "no setting 'decoupled_haed'", "decoupled_head"),
        ("clip_scael=1", "no setting 'clip_scael'", "clip_scale"),
        ("name=x", "no setting 'name'", ""),
        ("clip=x", "no setting 'clip'", ""),
        ("points", "expected NAME=VALUE", ""),
        ("", "expected NAME=VALUE", ""),
        ("points=1.5", "expected a whole number, such as 12544", ""),
        ("points=true", "expected a whole number", ""),
        ("points=many", "expected a whole number", ""),
        ("points=", "expected a whole number", ""),
        ("points=0", "must be a finite number above 0", ""),
        ("learning_rate=fast", "expected a number", ""),
        ("learning_rate=NaN", "expected a number", ""),
        ("learning_rate=Infinity", "expected a number", ""),
        ("learning_rate=1e999", "expected a number", ""),
        ("learning_rate=" + "9" * 400, "expected a number", ""),
        ("learning_rate=-1", "must be a finite number above 0", ""),
        ("weight_decay=-0.1", "weight_decay is -0.1, and must be a finite number from 0", ""),
        ("lr=1", "no setting 'lr'", "learning_rate"),
        ("clip_scale=NaN", "expected a number", ""),
        ("decoupled_head=no", "expected true or false, such as true", ""),
        ("decoupled_head=0", "expected true or false", ""),
        ("fusion=0", "expected a list", ""),
        ("fusion=[0,1]", "expected a list", ""),
        ("fusion=[[0]]", "expected a list", ""),
        ("fusion=[[0,1,2]]", "expected a list", ""),
        ('fusion=[["a","b"]]', "expected a list", ""),
        ("fusion=[[0,99]]", "can't fuse CLIP layer 99 into side-adapter layer 0", ""),
        ("fusion=" + "[" * 100_000, "expected a list", ""),
        ('short_side_choices=["a"]', "expected a list", ""),
        ("short_side_choices=[]", "short sides of []", ""),
        ("short_side_choices=[0]", "short sides of [0]", ""),
        ("short_side_range=[640,320]", "expected the shortest and the longest", ""),
        ("short_side_range=[640]", "expected the shortest and the longest", ""),
        ("short_side_range=640", "expected a list", ""),
        ("clip.width=64.0", "expected a whole number", ""),
        ("block_clip_gradient=true", "nothing trains the attention bias", "decoupled_head=false"),
    ],
)
def test_a_setting_that_is_none(setting: str, message: str, hint: str) -> None:
    with pytest.raises(SanError) as caught:
        overridden(VIT_B_16, RECIPES["official"], [setting])
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.code == 2


@given(st.text(max_size=30), st.sampled_from(["", "points=", "fusion=", "clip_scale=", "decoupled_head="]))
def test_any_text_is_a_setting_or_refused(text: str, name: str) -> None:
    try:
        preset, recipe = overridden(VIT_B_16, RECIPES["official"], [name + text])
    except SanError:
        return
    assert isinstance(preset, Preset) and isinstance(recipe, Recipe)


def test_recipes_differ_where_the_paper_and_its_code_do() -> None:
    assert differences(RECIPES["official"]) == []
    assert differences(RECIPES["paper"]) == ["short_side_range = (320, 1024)", "decay_everything = True"]
    with pytest.raises(SanError, match="unknown recipe 'mine'"):
        get_recipe("mine")


def test_sizes_go_with_the_input() -> None:
    official, paper = RECIPES["official"], RECIPES["paper"]
    assert list(augmentation_of(official, VIT_B_16).short_sides) == list(range(320, 961, 64))
    whole = augmentation_of(paper, VIT_B_16)
    assert (min(whole.short_sides), max(whole.short_sides), len(whole.short_sides)) == (320, 1024, 705)
    small = augmentation_of(official, micro_preset())
    assert (min(small.short_sides), max(small.short_sides), small.crop) == (32, 96, 64)
    with pytest.raises(SanError, match="can't train at an input of 80 pixels"):
        augmentation_of(official, micro_preset(input_size=80))
    with pytest.raises(SanError, match="none at an input of 64"):
        augmentation_of(dataclasses.replace(official, short_side_choices=(9,)), micro_preset())


def masks(*counts: int) -> list[Targets]:
    import torch

    return [targets_of(torch.arange(10).clamp(max=count - 1), 10, 255) for count in counts if count]


@given(st.lists(st.integers(1, 10), min_size=1), st.integers(1, 12), st.data())
def test_normalisers_add_up(counts: list[int], queries: int, data: st.DataObject) -> None:
    """However a batch is shared out."""
    cut = data.draw(st.integers(0, len(counts)))
    weights = LossWeights()
    whole, one, other = (
        normalisers_of(masks(*part), queries, weights) for part in (counts, counts[:cut], counts[cut:])
    )
    assert whole.masks == one.masks + other.masks == sum(counts)
    assert whole.class_weight == pytest.approx(one.class_weight + other.class_weight)
    matched = sum(min(queries, count) for count in counts)
    assert whole.class_weight == pytest.approx(matched + 0.1 * (queries * len(counts) - matched))


# The command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "pionts=3"], "Did you mean points?"),
        (["--recipe", "mine"], "Known recipes: official, paper."),
        (["--model", "vit-b-17"], "unknown model 'vit-b-17'"),
        (["--model", "missing.json"], "can't read the preset"),
        (["--recipe", "offical"], "Did you mean official?"),
        (["--lr", "0"], "learning_rate is 0.0, and must be a finite number above 0"),
        (["--lr", "-1"], "learning_rate is -1.0"),
        (["--lr", "nan"], "learning_rate is nan"),
        (["--lr", "inf"], "learning_rate is inf"),
        (["--batch", "6", "--accumulate", "4"], "Take a batch that is a multiple of 4"),
        (["--precision", "fp16"], "fp16 on the CPU"),
        (["--precision", "fp8"], "unknown precision"),
        (["--device", "tpu"], "device"),
        (["--templates", "haiku"], "haiku"),
        (["--adapter-only"], "Leave --adapter-only out."),
        (["--set", "input_size=80"], "can't train at an input of 80 pixels"),
        (["--iterations", "3", "--set", "warm_up=3"], "warm_up is 3, and must be less than iterations (3)"),
        (["--iterations", "1000000000000"], "99,999,999 at most"),
        (["--iterations", "0"], "--iterations"),
        (["--batch", "0"], "--batch"),
        (["--batch", "100000000000"], "batch is 100,000,000,000"),
        (["--workers", "-1"], "--workers"),
        (["--workers", "100000"], "--workers"),
        (["--seed", str(2**63)], "--seed"),
        (["--limit", "0"], "--limit"),
        (["--set", "points=100000000000"], "points is 100,000,000,000"),
        (["--set", "flip=2"], "1 at most"),
        (
            ["--set", "ce_weight=0", "--set", "mask_weight=0", "--set", "dice_weight=0"],
            "nothing would be learned",
        ),
        (["--set", "short_side_choices=[1000000000]"], "short sides of [1000000000]"),
        (["--set", "side_depth=1000000"], "side_depth is 1000000"),
        (["--set", "clip_scale=1e300"], "clip_scale is 1e+300"),
        (["--clip-weights", "missing.pt", "--model", "tiny"], "can't read weights 'missing.pt'"),
        (["--clip-weights", "/dev/null", "--model", "tiny"], "not a file"),
        (["--init-from", "missing.pth"], "can't read weights 'missing.pth'"),
        (["--init-from", "tinny"], "Did you mean tiny?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refused_before_anything_is_done(
    san: San, folder: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    ended = train(san, folder, "-o", tmp_path / "out", *options)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out").exists()
    assert "images read" not in ended.err
    # A folder of another training doesn't hide that slip.
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "metrics.jsonl").write_text("")
    ended = train(san, folder, "-o", tmp_path / "old", *options)
    assert (ended.code, message in ended.err, "holds a training" in ended.err) == (2, True, False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to train on"),
        (["coco", "--images", "a", "--labels", "b", "--classes", "c"], "can't be trained on in one go"),
        (["--images", "a"], "belong together"),
        (["--images", "a", "--labels", "b"], "belong together"),
        (["coco", "--val-images", "a"], "--val-images and --val-labels belong together"),
        (["coco", "--val-images", "a", "--val-labels", "b"], "--val-images goes with --images"),
        (["cocoa"], "cocoa"),
        (["tests"], "'tests' is a folder, and no dataset is called so"),
        (["docs/small-preset.json"], "is a file, and no dataset is called so"),
        (["x" * 5000], "There is no dataset"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_do_not_go_together(
    san: San, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    ended = san("train", *words)
    assert (ended.code, "Traceback" in ended.err) == (2, False)
    assert message in ended.err


BROKEN: dict[str, str] = {
    "nothing": "",
    "no JSON": "{'name': 'micro'}",
    "a list": "[]",
    "no clip": json.dumps({"name": "micro"}),
    "clip is a name": json.dumps({**MICRO, "clip": "vit-b-16"}),
    "unknown field": json.dumps({**MICRO, "quereis": 3}),
    "unknown field of clip": json.dumps({**MICRO, "clip": {**MICRO["clip"], "depth": 3}}),  # type: ignore[dict-item]
    "fusion is no list of pairs": json.dumps({**MICRO, "fusion": [[0, 1, 2]]}),
    "fusion is a number": json.dumps({**MICRO, "fusion": 3}),
    "too few layers": json.dumps({**MICRO, "recognition_layers": 1}),
    "negative": json.dumps({**MICRO, "queries": -1}),
    "width and heads": json.dumps({**MICRO, "side_heads": 5}),
    "zero": json.dumps({**MICRO, "side_heads": 0}),
    "absurd depth": json.dumps({**MICRO, "side_depth": 1_000_000}),
    "absurd depth of CLIP": json.dumps({**MICRO, "clip": {**MICRO["clip"], "text_layers": 10**30}}),  # type: ignore[dict-item]
    "absurd in all": json.dumps({**MICRO, "side_width": 8192, "side_heads": 8, "side_depth": 128}),
    "absurd grid": json.dumps({**MICRO, "input_size": 8192, "side_patch_size": 1}),
    "absurd name": json.dumps({**MICRO, "name": "x" * 1000}),
    "infinite scale": json.dumps({**MICRO, "clip_scale": float("inf")}),
    "no scale": json.dumps({**MICRO, "clip_scale": float("nan")}),
    "a fraction": json.dumps({**MICRO, "queries": 1.5}),
    "a text": json.dumps({**MICRO, "queries": "6"}),
    "true": json.dumps({**MICRO, "queries": True}),
    "a number for a switch": json.dumps({**MICRO, "decoupled_head": 1}),
    "nested deeply": '{"name": ' + "[" * 100_000,
    "nested deeply in clip": '{"name": "x", "clip": ' + '{"width": ' * 100_000,
    "many digits": '{"name": "x", "clip": {"width": ' + "9" * 5000 + "}}",
    "fusion is a text": json.dumps({**MICRO, "fusion": "abc"}),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_preset(san: San, folder: Path, tmp_path: Path, fault: str) -> None:
    (tmp_path / "broken.json").write_text(BROKEN[fault])
    ended = train(san, folder, "-o", tmp_path / "out", "--model", tmp_path / "broken.json")
    assert (ended.code, "Traceback" in ended.err) == (2, False)
    assert "broken.json' is no preset" in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bad", [1e300, -1, 0, float("nan"), float("inf"), 10**400, "1", True, None, [1]])
def test_any_odd_number_in_a_preset_is_refused(bad: Any) -> None:
    """Each number by itself, at once, before anything is built."""
    fields = [field.name for field in dataclasses.fields(Preset) if field.type in (int, float)]
    for name in fields:
        if not (name == "feature_layers" and bad == 0):
            with pytest.raises(SanError):
                dataclasses.replace(VIT_B_16, **{name: bad})
    for field in dataclasses.fields(ClipShape):
        if field.type is int:
            with pytest.raises(SanError):
                dataclasses.replace(VIT_B_16, clip=dataclasses.replace(VIT_B_16.clip, **{field.name: bad}))


def test_a_preset_that_is_no_file(san: San, folder: Path, tmp_path: Path) -> None:
    """A pipe is never opened: nobody would write to it."""
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    for name in ("pipe.json", "folder.json"):
        ended = train(san, folder, "-o", tmp_path / "out", "--model", tmp_path / name)
        assert (ended.code, "it is no file" in ended.err) == (2, True)


def test_a_preset_of_one_s_own(san: San, folder: Path, tmp_path: Path) -> None:
    path = write_preset(tmp_path / "mine.json", name="mine", queries=5)
    ended = train(san, folder, "-o", tmp_path / "out", "--model", path, "--set", "side_depth=4", "--dry-run")
    assert ended.code == 0
    assert "mine-custom, input 64 px" in ended.out


def test_a_random_clip_can_not_be_left_out(san: San, folder: Path, tmp_path: Path) -> None:
    ended = train(san, folder, "-o", tmp_path / "out", "--adapter-only", "--clip-weights", "random")
    assert ended.code == 2
    assert "a random one is in no other file" in ended.err


def test_what_should_be_a_folder(san: San, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    ended = train(san, folder, "-o", tmp_path / "out")
    assert (ended.code, "is not a folder" in ended.err) == (2, True)
    ended = train(san, folder, "-o", tmp_path / "out" / "below")
    assert (ended.code, "is not a folder" in ended.err) == (2, True)
    assert (tmp_path / "out").read_text() == "mine"


def test_scenes_are_resumed_with_scenes_of_the_same_size(tmp_path: Path) -> None:
    def settings(size: int, preset: Preset) -> dict[str, Any]:
        data = emoji_data(None)
        source = dataclasses.replace(data.source, size=size)  # type: ignore[type-var]
        return settings_of(
            preset,
            RECIPES["official"],
            dataclasses.replace(data, source=source),
            Model(),
            seed=0,
            precision="fp32",
        )

    now = settings(64, micro_preset())
    write_settings(tmp_path, now)
    check_settings(tmp_path, now)
    with pytest.raises(SanError, match=r"other settings: data\.scenes\.size \(then 64, now 96\)"):
        check_settings(tmp_path, settings(96, micro_preset()))
