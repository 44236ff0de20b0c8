"""Side adapters saved alone, put back on the CLIP they belong to and on no other; and models to be fine-tuned."""

from dataclasses import replace
from pathlib import Path

import pytest
import recipe
import torch
from presets import GOLDEN_TINY
from program import San
from safetensors.torch import load_file, save_file
from train_data import (
    assert_same_training,
    copy_up_to,
    in_processes,
    make_labelled,
    micro_preset,
    rows,
    train,
    weights,
    write_preset,
    write_sharp_model,
)

from san_cli.errors import SanError
from san_cli.models.clip import resized_positions
from san_cli.models.presets import VIT_B_16, VIT_L_14
from san_cli.models.san import SAN, normalise
from san_cli.train.start import model_to_tune
from san_cli.weights.adapter import is_adapter, read_model, read_preset, trainable_names, write_adapter
from san_cli.weights.checkpoint import (
    Checkpoint,
    expected_shapes,
    in_half_precision,
    load_into,
    random_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from san_cli.weights.clip_weights import clip_part

PRESET = micro_preset()
TWICE = ("--iterations", 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled pictures, a CLIP, and another one."""
    made = make_labelled(tmp_path_factory.mktemp("adapter"), 4)
    for seed, name in enumerate(("clip", "other")):
        save_file(clip_part(random_checkpoint(PRESET, seed).state), made / f"{name}.safetensors")
    return made


@pytest.fixture(scope="module")
def trained(folder: Path, san_home: Path) -> Path:
    """A training that saved adapters alone; beside it one that saved whole models."""
    words = ("--clip-weights", folder / "clip.safetensors", *TWICE, "--save-every", 1, "--eval-every", 2)
    for name, more in (("adapter", ["--adapter-only"]), ("whole", [])):
        [ended] = in_processes(folder, "-o", folder / name, *words, *more, world=1, san_home=san_home)
        assert ended.code == 0, ended.err
    return folder / "adapter"


def test_adapters_are_small() -> None:
    """In bytes for the paper's models, 34 MB and 37."""
    for preset, megabytes in ((VIT_B_16, 33.5), (VIT_L_14, 37.3)):
        names, shapes = trainable_names(preset), expected_shapes(preset)
        numbers = sum(shapes[name].numel() for name in names)
        assert 4 * numbers / 1e6 == pytest.approx(megabytes, abs=0.1)


def test_an_adapter_on_its_clip_is_the_whole_model(folder: Path, trained: Path) -> None:
    whole = weights(trained.parent / "whole")
    for name in ("model", "best", "checkpoints/step-00000001/weights"):
        file = trained / f"{name}.safetensors"
        assert is_adapter(file) and read_preset(file) == PRESET
        assert load_file(file).keys() == trainable_names(PRESET)
        assert file.stat().st_size < (trained.parent / "whole" / "model.safetensors").stat().st_size / 10
    found = read_model(trained / "model.safetensors", None, folder / "clip.safetensors")
    assert found.preset == PRESET and dict(found.metadata) == {"trained_on": "own", "iterations": "2"}
    assert found.state.keys() == whole.keys()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in found.state.items())
    assert rows(trained) == rows(trained.parent / "whole")


def test_another_clip_is_refused(folder: Path, trained: Path) -> None:
    with pytest.raises(SanError, match="was trained on another CLIP than .*other.safetensors") as caught:
        read_model(trained / "model.safetensors", None, folder / "other.safetensors")
    assert "--clip-weights" in caught.value.hint


def test_an_adapter_converts_to_a_model(san: San, folder: Path, trained: Path, tmp_path: Path) -> None:
    target = tmp_path / "converted.safetensors"
    words = ("weights", "convert", trained / "model.safetensors", target)
    other = san(*words, "--clip-weights", folder / "other.safetensors")
    assert (other.code, "was trained on another CLIP" in other.err) == (2, True)
    without = san(*words)
    assert (without.code, "this model has no pretrained CLIP" in without.err) == (2, True)
    assert not target.exists()
    ended = san(*words, "--clip-weights", folder / "clip.safetensors")
    assert (ended.code, ended.out.strip()) == (0, str(target))
    assert target.read_bytes() == (trained.parent / "whole" / "model.safetensors").read_bytes()
    predicted = san("predict", folder / "images", "--weights", target, "--vocab", "sky,road",
                    "-o", tmp_path / "predicted", "--device", "cpu")  # fmt: skip
    assert predicted.code == 0

    again = san("weights", "convert", target, tmp_path / "twice.safetensors", "--clip-weights", target)
    assert (again.code, "brings its own CLIP" in again.err) == (2, True)


def test_an_adapter_without_its_clip_does_not_predict(
    san: San, folder: Path, trained: Path, tmp_path: Path
) -> None:
    ended = san("predict", folder / "images", "--weights", trained / "model.safetensors", "--vocab", "sky",
                "-o", tmp_path / "predicted", "--device", "cpu")  # fmt: skip
    assert (ended.code, "Traceback" in ended.err) == (2, False)
    assert "CLIP" in ended.err


def test_training_of_an_adapter_is_resumed(san: San, folder: Path, trained: Path, tmp_path: Path) -> None:
    words = ("--clip-weights", folder / "clip.safetensors", *TWICE, "--adapter-only")
    copy_up_to(trained, tmp_path / "again", 1)
    assert train(san, folder, "-o", tmp_path / "again", *words, "--resume").code == 0
    assert_same_training(tmp_path / "again", trained)


def test_an_adapter_is_tuned(san: San, folder: Path, trained: Path, tmp_path: Path) -> None:
    adapter, clip = trained / "model.safetensors", folder / "clip.safetensors"
    tuned = train(
        san, folder, "-o", tmp_path / "tuned", "--init-from", adapter, "--clip-weights", clip, *TWICE
    )
    assert tuned.code == 0
    whole = ("--init-from", trained.parent / "whole" / "model.safetensors", *TWICE)
    train(san, folder, "-o", tmp_path / "other", *whole)
    assert_same_training(tmp_path / "tuned", tmp_path / "other")

    wrong = ("--init-from", adapter, "--clip-weights", folder / "other.safetensors")
    ended = train(san, folder, "-o", tmp_path / "wrong", *wrong)
    assert (ended.code, "was trained on another CLIP" in ended.err) == (2, True)
    ended = train(san, folder, "-o", tmp_path / "wrong", "--init-from", adapter)
    assert (ended.code, "this model has no pretrained CLIP" in ended.err) == (2, True)
    assert not (tmp_path / "wrong").exists()


def test_the_adapter_of_a_tuned_model_is_resumed(san: San, folder: Path, tmp_path: Path) -> None:
    """On the CLIP of the model that it was tuned from, without being told."""
    start = write_sharp_model(tmp_path / "start.safetensors")
    words = ("--init-from", start, *TWICE, "--adapter-only", "--save-every", 1)
    assert train(san, folder, "-o", tmp_path / "out", *words).code == 0
    copy_up_to(tmp_path / "out", tmp_path / "again", 1)
    assert train(san, folder, "-o", tmp_path / "again", *words, "--resume").code == 0
    assert_same_training(tmp_path / "again", tmp_path / "out")


@pytest.mark.parametrize("clip", ["clip.safetensors", "random"])
def test_a_whole_model_brings_its_clip(san: San, folder: Path, tmp_path: Path, clip: str) -> None:
    start = write_sharp_model(tmp_path / "start.safetensors")
    named = folder / clip if clip != "random" else clip
    ended = train(san, folder, "-o", tmp_path / "out", "--init-from", start, "--clip-weights", named)
    assert (ended.code, "contradict each other" in ended.err) == (2, True)


def test_an_official_model_is_tuned(san: San, folder: Path, tmp_path: Path) -> None:
    """Named with its preset, as it is none of the published ones."""
    official = tmp_path / "san.pth"
    recipe.save_official(str(official), recipe.official_state(GOLDEN_TINY))
    preset = write_preset(tmp_path / "tiny.json", **{**_fields(GOLDEN_TINY), "name": "golden-tiny"})
    words = ("--model", preset, "--iterations", 1, "--batch", 2)
    ended = train(san, folder, "-o", tmp_path / "out", "--init-from", official, *words)
    assert ended.code == 0
    start, end = read_checkpoint(official, GOLDEN_TINY).state, weights(tmp_path / "out")
    changed = {name for name in end if not torch.equal(start[name], end[name])}
    assert changed == trainable_names(GOLDEN_TINY)
    unnamed = train(san, folder, "-o", tmp_path / "unnamed", "--init-from", official)
    assert (unnamed.code, "is not a checkpoint of a known SAN" in unnamed.err) == (2, True)


def _fields(preset: object) -> dict[str, object]:
    import dataclasses

    return dataclasses.asdict(preset)  # type: ignore[call-overload, no-any-return]


def test_tuning_keeps_to_the_models_shape(san: San, folder: Path, tmp_path: Path) -> None:
    start = write_sharp_model(tmp_path / "start.safetensors")
    ended = train(san, folder, "-o", tmp_path / "out", "--init-from", start, "--set", "queries=3")
    assert (ended.code, "does not fit" in ended.err) == (2, True)
    ended = train(san, folder, "-o", tmp_path / "out", "--init-from", start, "--model", "vit-b-16")
    assert (ended.code, "Leave --model out" in ended.err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_tuning_at_another_input_size_starts_where_the_model_is(
    san: San, folder: Path, tmp_path: Path
) -> None:
    """Positions are resized once; before, the network did it at every picture."""
    path = write_sharp_model(tmp_path / "start.safetensors")
    start = read_checkpoint(path)
    wider = replace(start.preset, input_size=2 * start.preset.input_size)
    pixels = torch.from_numpy(recipe.image(3, wider.input_size, wider.input_size)).permute(2, 0, 1)[None]
    found = []
    for checkpoint in (start, model_to_tune(path, wider, None, say=lambda _: None)):
        model = SAN(checkpoint.preset).eval()
        load_into(model, {k: v for k, v in checkpoint.state.items() if not k.startswith("text.")})
        found.append(model(normalise(pixels))[0])
    assert torch.allclose(found[0].mask_logits, found[1].mask_logits, atol=1e-4)
    assert torch.allclose(found[0].region_embeddings, found[1].region_embeddings, atol=1e-5)
    size = f"input_size={wider.input_size}"
    ended = train(san, folder, "-o", tmp_path / "out", "--init-from", path, "--iterations", 1, "--set", size)
    assert ended.code == 0
    assert read_checkpoint(tmp_path / "out" / "model.safetensors").preset.input_size == wider.input_size


def test_tuning_an_official_model_at_another_input_size(tmp_path: Path) -> None:
    """What the official code saved, read at its own size, and float16 positions: resized in float32."""
    official, half = tmp_path / "san.pth", tmp_path / "half.safetensors"
    recipe.save_official(str(official), recipe.official_state(GOLDEN_TINY))
    write_checkpoint(in_half_precision(read_checkpoint(official, GOLDEN_TINY), official), half)
    wider = replace(GOLDEN_TINY, input_size=2 * GOLDEN_TINY.input_size)
    for path in (official, half):
        said: list[str] = []
        positions = model_to_tune(path, wider, None, say=said.append).state["side_adapter.positions"]
        before = read_model(path, GOLDEN_TINY).state["side_adapter.positions"]
        assert torch.equal(positions, resized_positions(before.float(), (16, 16)))
        assert said == ["the side adapter's positions are resized from 8 × 8 to 16 × 16"]
    with pytest.raises(SanError, match=r"has shape \[1, 64, 48\]"):
        read_checkpoint(official, wider)


def test_the_hint_names_what_the_user_said(san: San, folder: Path, trained: Path, tmp_path: Path) -> None:
    start = folder / "whole" / "model.safetensors"
    ended = train(san, folder, "-o", tmp_path / "out", "--init-from", start, "--set", "queries=3")
    assert "--set can change input_size alone" in ended.err and "--model" not in ended.err
    named = write_preset(tmp_path / "other.json", queries=3)
    ended = train(san, folder, "-o", tmp_path / "out", "--init-from", start, "--model", named)
    assert "Leave --model out" in ended.err and "--set" not in ended.err
    larger = write_preset(tmp_path / "larger.json", queries=3, input_size=128)
    ended = train(san, folder, "-o", tmp_path / "out", "--init-from", start, "--model", larger)
    assert "Leave --model out" in ended.err and "resized" not in ended.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "empty"),
        (b"<!doctype html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\x01" * 400, "san"),
    ],
)
def test_what_is_no_model(
    san: San, folder: Path, tmp_path: Path, content: bytes | None, message: str
) -> None:
    for name in ("start.safetensors", "start.pth"):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        ended = train(san, folder, "-o", tmp_path / "out", "--init-from", tmp_path / name)
        assert (ended.code, "Traceback" in ended.err) == (2, False)
        assert message in ended.err and name in ended.err


def test_damaged_weights_are_not_tuned(san: San, folder: Path, trained: Path, tmp_path: Path) -> None:
    for source, words in (
        (trained.parent / "whole" / "model.safetensors", ()),
        (trained / "model.safetensors", ("--clip-weights", folder / "clip.safetensors")),
    ):
        content = bytearray(source.read_bytes())
        content[-100] ^= 4
        (tmp_path / "damaged.safetensors").write_bytes(content)
        start = ("--init-from", tmp_path / "damaged.safetensors", *words)
        ended = train(san, folder, "-o", tmp_path / "out", *start)
        assert (ended.code, "is damaged" in ended.err) == (2, True)


def test_adapters_that_are_not_whole(folder: Path, tmp_path: Path) -> None:
    model = random_checkpoint(PRESET)
    path = tmp_path / "adapter.safetensors"
    one = "mask_decoder.bias_scaling.weight"
    for state, message in (
        ({name: t for name, t in model.state.items() if name != one}, f"see tensor {one}"),
        ({**model.state, one: torch.ones(2, 1)}, r"has shape \[2, 1\], micro needs \[1, 1\]"),
    ):
        write_adapter(Checkpoint(PRESET, state, {}), path)
        with pytest.raises(SanError, match=message):
            read_model(path, None, folder / "clip.safetensors")


def test_what_is_an_adapter(tmp_path: Path) -> None:
    model = random_checkpoint(PRESET)
    write_checkpoint(model, tmp_path / "whole.safetensors")
    write_adapter(model, tmp_path / "adapter.safetensors")
    write_adapter(model, tmp_path / "again.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    names = ("adapter", "whole", "text", "missing")
    found = [is_adapter(tmp_path / f"{name}.safetensors") for name in names]
    assert found == [True, False, False, False]
    assert not is_adapter(tmp_path / "adapter.pth")
    assert (tmp_path / "adapter.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()
