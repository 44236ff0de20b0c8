"""The parts of scripts/train_tiny_clip.py: captions, the loss, and weights that open_clip and SAN can hold."""

import itertools
import multiprocessing
import socket
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import tiny_captions
import tiny_crops
import torch
import train_tiny_clip as script
from emoji_font import needs_font
from safetensors.torch import load_file

from san_cli.models.clip import build_image_tower, build_text_tower
from san_cli.models.presets import TINY
from san_cli.models.san import SAN
from san_cli.vocabulary.emoji_concepts import concepts


def name_to_id(name: str) -> int:
    return next(i for i, concept in enumerate(concepts()) if concept.name == name)


DOG, GRASS, SAND = (name_to_id(name) for name in ("dog", "grass", "sand"))


# Captions


def test_captions_say_what_is_there() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        things = rng.choice(tiny_crops.THINGS, rng.integers(0, 5), replace=False).tolist()
        ground = int(rng.integers(tiny_crops.THINGS, len(concepts())))
        text, mentioned = tiny_captions.caption(rng, things, [ground])
        assert set(things) <= set(mentioned) <= {*things, ground}
        assert mentioned == tuple(sorted(mentioned)) and "{}" not in text
        for i in mentioned:
            assert any(word in text for word in concepts()[i].words)


def test_every_concept_has_a_sentence_in_every_step() -> None:
    rng = np.random.default_rng(0)
    drawn = [tiny_captions.single_captions(rng) for _ in range(20)]
    for captions in drawn:
        assert torch.equal(tiny_captions.mentions(captions), torch.eye(len(concepts())))
    words = set(concepts()[DOG].words)
    found = {word for captions in drawn for word in words if word in captions[DOG][0]}
    assert "dog" in found and len({captions[DOG][0] for captions in drawn}) > 10


def test_every_caption_has_tokens_of_its_own() -> None:
    rng = np.random.default_rng(1)
    things, ground = range(0, tiny_crops.THINGS, 3), tiny_crops.THINGS
    crowds = [tiny_captions.caption(rng, list(things[i : i + 1 + i % 4]), [ground]) for i in range(120)]
    assert any(", " in text and " and " in text for text, _ in crowds)
    tokenizer = open_clip.get_tokenizer("ViT-B-16")
    for text, _ in [*tiny_captions.single_captions(rng), *crowds]:
        tokens = tiny_captions.token_ids()[tiny_captions.token_places(text)]
        assert torch.equal(tokens, tokenizer(text)[0])


# Crops


def test_a_crop_holds_what_one_would_say_is_in_it() -> None:
    labels = np.full((96, 96), GRASS, np.uint16)
    labels[:, 80:] = SAND
    labels[32:64, 32:64] = DOG
    everything = slice(None)
    boxes = torch.zeros(6, 6, 6, dtype=torch.bool)
    for box, (rows, columns) in zip(
        boxes,
        (
            (everything, everything),
            (slice(2, 4), slice(2, 4)),
            (slice(0, 2), slice(0, 2)),
            (slice(0, 2), slice(4, 6)),
            (slice(1, 5), slice(1, 5)),
            (everything, slice(0, 5)),
        ),
        strict=True,
    ):
        box[rows, columns] = True
    holds, lacks = tiny_crops.seen_in(labels, boxes)
    maybe = [set((~row).nonzero().flatten().tolist()) for row in lacks]
    assert [set(row.nonzero().flatten().tolist()) for row in holds] == [
        {DOG, GRASS},  # a sixth of the picture is sand: not worth a word
        {DOG},
        {GRASS},
        set(),  # half and half: neither certainly
        {GRASS},  # three quarters are grass, and a dog is there, but it isn't what the crop is about
        {GRASS},
    ]
    assert maybe == [{DOG, GRASS, SAND}, {DOG}, {GRASS}, {GRASS, SAND}, {DOG, GRASS}, {DOG, GRASS}]


def test_crops_are_rectangles_of_whole_patches() -> None:
    rng = np.random.default_rng(0)
    labels = np.full((160, 160), GRASS, np.uint16)
    labels[64:96, 64:96] = DOG
    drawn = [tiny_crops.crops(rng, labels) for _ in range(40)]
    with_dog = 0
    for boxes in drawn:
        assert boxes.shape == (tiny_crops.CROPS + 1, 10, 10) and boxes[0].all()
        for box in boxes:
            rows, columns = box.any(1), box.any(0)
            assert rows.any() and torch.equal(box, rows[:, None] & columns)
        holds, lacks = tiny_crops.seen_in(labels, boxes)
        assert not (holds & lacks).any() and lacks[:, SAND].all() and not lacks[0, DOG]
        with_dog += int(holds[1:, DOG].sum())
    assert with_dog > 0.4 * 40 * tiny_crops.CROPS


def test_crops_stay_inside_where_things_touch_the_border() -> None:
    rng = np.random.default_rng(0)
    labels = np.full((80, 80), GRASS, np.uint16)
    labels[-3:, -3:] = DOG
    boxes = torch.cat([tiny_crops.crops(rng, labels) for _ in range(50)])
    assert boxes.any((1, 2)).all() and boxes[:, -1, -1].sum() > 100


def test_no_caption_is_false_of_its_own_picture() -> None:
    """Neither of a small thing, nor of two textures that share the picture."""
    labels = np.full((160, 160), GRASS, np.uint16)
    labels[72:] = SAND
    labels[100:112, 100:112] = DOG
    holds, lacks = tiny_crops.seen_in(labels, torch.ones(1, 10, 10, dtype=torch.bool))
    assert set(holds[0].nonzero().flatten().tolist()) == {GRASS, SAND}
    assert not lacks[0, [GRASS, SAND, DOG]].any() and lacks[0].sum() == len(concepts()) - 3
    (told,) = script.sentences(np.random.default_rng(0), holds)
    assert set(told[1]) <= {GRASS, SAND} and told[1]


@needs_font
def test_crops_have_random_numbers_of_their_own() -> None:
    """Where they came from the scene's, all pictures of a texture alone showed its first variant."""
    pictures = [tiny_crops.Cropped(80)[i] for i in range(400)]
    alone = [p for p in pictures if not p.holds[0, 0, : tiny_crops.THINGS].any()]
    means = {tuple(p.images.float().mean((0, 2, 3)).round().tolist()) for p in alone}
    assert 5 < len(alone) < 60 and len(means) > 0.8 * len(alone)


@needs_font
def test_pictures_are_the_same_whenever_they_are_asked_for() -> None:
    first, again = (tiny_crops.collate([tiny_crops.Cropped(80)[i] for i in (3, 8)]) for _ in range(2))
    assert first.images.shape == (2, 3, 80, 80) and first.boxes.shape[2:] == (5, 5)
    for name in ("images", "boxes", "holds", "lacks"):
        assert torch.equal(getattr(first, name), getattr(again, name))


# Loss, schedule, weights


def test_a_batch_without_a_true_caption_costs_nothing() -> None:
    nothing = torch.zeros(2, 3)
    loss = script.contrastive_loss(torch.zeros(2, 1), nothing, nothing, torch.tensor([[1.0, 0, 0]]))
    assert loss == 0


def test_true_captions_compete_with_false_ones_alone() -> None:
    dog, dog_on_grass, cat = [1.0, 0, 0], [1.0, 0, 1], [0, 1.0, 0]
    mentions = torch.tensor([dog, cat, dog_on_grass])
    holds = torch.tensor([dog, cat])
    lacks = torch.tensor([[0, 1.0, 0], [1.0, 0, 1]])  # the dog's picture may have grass
    good = torch.tensor([[9.0, -9, 0], [-9, 9, -9]])
    assert script.contrastive_loss(good, holds, lacks, mentions) < 1e-3
    assert script.contrastive_loss(good.flip(0), holds, lacks, mentions) > 4
    maybe = good.clone()
    maybe[0, 2] = 50  # neither true nor false: no matter what the network says
    same = [script.contrastive_loss(logits, holds, lacks, mentions) for logits in (good, maybe)]
    assert same[0] == same[1]


def test_learning_rate_rises_and_falls_with_the_pixels_seen() -> None:
    phases = ((80, 60_000), (160, 10_000))
    rates = [script.learning_rate(done, phases) for done in range(0, 80_001, 1_000)]
    peak = rates.index(max(rates))
    assert rates[0] < 0.2 and 5 <= peak <= 15
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)
    assert rates[60] == pytest.approx(0.4) and rates[70] == rates[80] == 0.02
    assert script.learning_rate(60_000, ((80, 60_000), (160, 40_000))) > 0.7


def test_pieces_of_the_field_of_view_have_their_own_positions() -> None:
    torch.manual_seed(0)
    clip = script.TinyClip().eval()
    pixels = torch.randint(0, 256, (1, 3, 80, 80), dtype=torch.uint8)
    boxes = torch.ones(1, 1, 5, 5, dtype=torch.bool)
    with torch.no_grad():
        there = clip.crops(pixels, boxes, corner=(2, 7))
        assert not torch.allclose(there, clip.crops(pixels, boxes, corner=(7, 2)))
        moved = torch.zeros_like(clip.visual.positional_embedding)
        moved[0] = clip.visual.positional_embedding[0]
        for row, column in itertools.product(range(5), range(5)):
            moved[1 + 20 * row + column] = clip.visual.positional_embedding[1 + 20 * (row + 2) + column + 7]
        clip.visual.positional_embedding.copy_(moved)
        torch.testing.assert_close(clip.crops(pixels, boxes), there)


def test_positions_start_alike_where_they_are_near() -> None:
    clip = script.TinyClip()
    near, far = (clip.visual.positional_embedding[1 + place] for place in (1, 19))
    origin = clip.visual.positional_embedding[1]
    assert (origin - near).norm() < (origin - far).norm()


def test_every_matrix_of_the_towers_blocks_is_muons() -> None:
    clip = script.TinyClip()
    adamw, muon = script.optimizers_of(clip, 0.01, 0.002)
    counts = [sum(len(group["params"]) for group in o.param_groups) for o in (muon, adamw)]
    assert counts == [4 * 9, len(list(clip.parameters())) - 4 * 9]  # 6 + 3 blocks of 4 matrices


@needs_font
def test_a_training_goes_on_where_it_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the pictures that it would have had, and new rates where they are asked for."""
    narrow = replace(TINY.clip, width=32, heads=2, text_width=32, text_heads=2)
    monkeypatch.setattr(script, "TINY", replace(TINY, clip=narrow))
    torch.manual_seed(0)
    clip = script.TinyClip()
    optimizers = script.optimizers_of(clip, 0.01, 0.002)
    (batch, *_) = script.batches(80, range(0, 4), 4)
    loss = script.train_step(clip, optimizers, batch, np.random.default_rng(0), 1.0)
    assert 4 < loss < 10
    script._save(tmp_path / "state.pt", clip, optimizers, 4)
    again = script.TinyClip()
    others = script.optimizers_of(again, 0.01, 0.001)
    assert script._resume(tmp_path / "state.pt", again, others) == 4
    next_batch = next(iter(script.batches(80, range(4, 8), 4)))
    assert torch.equal(next_batch.images, list(script.batches(80, range(0, 8), 4))[1].images)
    losses = [
        script.train_step(model, own, next_batch, np.random.default_rng(1), 0.5)
        for model, own in ((clip, optimizers), (again, others))
    ]
    assert losses[0] == losses[1]
    assert [o.param_groups[0]["lr"] for o in others] == [0.0005, 0.005]


def test_export_is_open_clips_and_fits_into_san(tmp_path: Path) -> None:
    clip = script.TinyClip()
    script.export(clip, tmp_path / "clip.safetensors")
    state = load_file(tmp_path / "clip.safetensors")
    shape = TINY.clip
    theirs = open_clip.CLIP(
        shape.embed_dim,
        {"image_size": 320, "layers": 6, "width": 128, "head_width": 32, "patch_size": 16},
        {"width": 128, "heads": 4, "layers": 3, "context_length": 77, "vocab_size": 49408},
    )
    theirs.load_state_dict(state, strict=True)
    pixels = torch.randint(0, 256, (2, 3, 320, 320), dtype=torch.uint8)
    with torch.no_grad():
        same = theirs.eval().encode_image(script.normalise_unpadded(pixels), normalize=True)
        whole = torch.ones(2, 1, 20, 20, dtype=torch.bool)
        torch.testing.assert_close(clip.eval().crops(pixels, whole)[:, 0], same, atol=1e-5, rtol=1e-4)
        words = ["a photo of a dog.", "Pizza"]
        tokens = open_clip.get_tokenizer("ViT-B-16")(words)
        torch.testing.assert_close(
            clip.texts(words), theirs.encode_text(tokens, normalize=True), atol=1e-5, rtol=1e-4
        )
    visual = {name.removeprefix("visual."): t for name, t in state.items() if name.startswith("visual.")}
    build_image_tower(shape).load_state_dict(visual, strict=True)
    text = {name: t for name, t in state.items() if not name.startswith("visual.") and name != "logit_scale"}
    build_text_tower(shape).load_state_dict(text, strict=True)


def test_the_preset_is_small() -> None:
    with torch.device("meta"):
        parts = [SAN(TINY), build_text_tower(TINY.clip)]
    values = sum(tensor.numel() for part in parts for tensor in part.state_dict().values())
    assert 2 * values <= 24e6  # bytes in half precision


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
# Python 3.12 and later, where torch's own threads are running already:
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_processes_train_on_the_mean_of_their_gradients(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    fork = multiprocessing.get_context("fork")
    team = [fork.Process(target=_average_in_process, args=(rank, place, tmp_path)) for rank in range(2)]
    for process in team:
        process.start()
    for process in team:
        process.join(60)
    assert [process.exitcode for process in team] == [0, 0]
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["[[1.5, 3.0]] [1.0]"] * 2


def _average_in_process(rank: int, place: str, folder: Path) -> None:
    torch.set_num_threads(1)
    script.RANK, script.PROCESSES = rank, 2
    script.dist.init_process_group("gloo", init_method=place, rank=rank, world_size=2)
    layer = torch.nn.Linear(2, 1)
    layer(torch.tensor([1.0, 2.0]) * (rank + 1)).sum().backward()
    script.average_gradients(layer)  # type: ignore[arg-type]
    assert layer.weight.grad is not None and layer.bias.grad is not None
    (folder / str(rank)).write_text(f"{layer.weight.grad.tolist()} {layer.bias.grad.tolist()}")
    script.dist.destroy_process_group()
