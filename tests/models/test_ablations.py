"""What is trained, in the paper's model and in each of its ablations (Tables 4-9), all of them by `--set`."""

import json
from pathlib import Path

import pytest
import torch
from program import San
from torch import Tensor, nn
from train_data import make_labelled, micro_preset, part_of_batch, rows, train, trainer_of

from san_cli.models.clip import clip_features
from san_cli.models.presets import VIT_B_16, VIT_L_14, Preset
from san_cli.models.san import SAN, SanOutput
from san_cli.train.model import trainable
from san_cli.train.optimizer import parameter_groups
from san_cli.train.overrides import overridden
from san_cli.train.recipe import RECIPES

CPU_IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def changed(*settings: str, preset: Preset | None = None) -> Preset:
    return overridden(preset or micro_preset(), RECIPES["official"], settings)[0]


def model_of(preset: Preset) -> SAN:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return SAN(preset)


def count(preset: Preset) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in trainable(SAN(preset)).values())


def gradients(model: nn.Module, loss: Tensor) -> dict[str, float]:
    """The norm of each trainable parameter's gradient, 0 for none."""
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {n: 0.0 if p.grad is None else float(p.grad.norm()) for n, p in trainable(model).items()}


def recognition(outputs: list[SanOutput]) -> Tensor:
    """Something that depends on the regions' embeddings alone."""
    weights = torch.linspace(-1, 1, outputs[0].region_embeddings.numel())
    return sum((out.region_embeddings.flatten() * weights).sum() for out in outputs)  # type: ignore[return-value]


def masks(outputs: list[SanOutput]) -> Tensor:
    """Something that depends on the mask logits alone."""
    return sum(out.mask_logits.pow(2).mean() for out in outputs)  # type: ignore[return-value]


# What is trained


@pytest.mark.parametrize(("preset", "expected"), [(VIT_B_16, 8_370_866), (VIT_L_14, 9_321_650)])
def test_the_papers_models_train_what_the_paper_says(preset: Preset, expected: int) -> None:
    assert count(preset) == expected
    with torch.device("meta"):
        model = SAN(preset)
    names = trainable(model).keys()
    assert {name.split(".")[0] for name in names} == {
        "side_adapter", "mask_decoder", "background_embedding", "visual",
    }  # fmt: skip
    assert [name for name in names if name.startswith("visual")] == ["visual.positional_embedding"]
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert "logit_scale" in frozen and "visual.class_embedding" in frozen and "visual.proj" in frozen
    assert [group["name"] for group in parameter_groups(model, 1e-4, 1e-4)] == list(names)


ABLATIONS: dict[str, tuple[str, ...]] = {
    "the paper's": (),
    "4: no fusion": ("fusion=[]",),
    "4: stem alone": ("fusion=[[0,0]]",),
    "4: deep alone": ("fusion=[[2,2]]",),
    "4: one CLIP layer twice": ("fusion=[[0,2],[1,2]]",),
    "5: 3 + 1": ("feature_layers=3", "recognition_layers=1"),
    "5: 1 + 3": ("feature_layers=1", "recognition_layers=3", "fusion=[[0,0],[1,1]]"),
    "5: all for recognition": ("feature_layers=0", "recognition_layers=4", "fusion=[[0,0]]"),
    "5: all for recognition, unfused": ("feature_layers=0", "recognition_layers=4", "fusion=[]"),
    "5: twice-forward": ("feature_layers=4", "recognition_layers=4", "fusion=[[0,0],[1,2],[2,4]]"),
    "6: two-stage": ("block_clip_gradient=true", "decoupled_head=false"),
    "7: single head": ("decoupled_head=false",),
    "8: CLIP as large": ("clip_scale=1",),
    "8: CLIP small": ("clip_scale=0.3",),
    "9: positions frozen": ("train_clip_positions=false",),
    "deep supervision of all": ("supervised_layers=3",),
    "deep supervision of none": ("supervised_layers=1",),
}


@pytest.mark.parametrize("name", ABLATIONS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_each_trains_a_step(name: str, checkpointing: bool) -> None:
    """Every parameter that is trained gets a gradient (DistributedDataParallel waits for it), no other one does."""
    trainer = trainer_of(changed(*ABLATIONS[name]))
    trainer.model.san.activation_checkpointing = checkpointing
    before = {n: p.detach().clone() for n, p in trainer.model.san.named_parameters()}
    result = trainer.step(0, [part_of_batch(0, 1)])
    assert result.updated and all(map(torch.isfinite, map(torch.tensor, result.losses.values())))
    layers = trainer.model.san.preset.supervised_layers
    assert len(result.losses) == 3 * layers + 1
    for name, parameter in trainer.model.san.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert (parameter in trainer.optimizers[0].state) == parameter.requires_grad, name
        assert torch.equal(parameter.detach(), before[name]) != parameter.requires_grad, name


@pytest.mark.parametrize("name", ["4: no fusion", "5: twice-forward", "6: two-stage", "9: positions frozen"])
def test_each_is_a_flag_and_a_checkpoint(san: San, tmp_path: Path, name: str) -> None:
    folder, out = make_labelled(tmp_path / "data", 2), tmp_path / "out"
    flags = [word for setting in ABLATIONS[name] for word in ("--set", setting)]
    assert train(san, folder, "-o", out, "--iterations", 2, "--batch", 2, *flags).code == 0
    assert len(rows(out)) == 2
    preset = json.loads((out / "settings.json").read_text())["preset"]
    assert preset["name"] == "micro-custom"
    assert changed(*ABLATIONS[name]) == changed(f"clip_scale={preset['clip_scale']}", *ABLATIONS[name])
    ended = san("predict", folder / "images", "--weights", out / "model.safetensors", "--vocab", "sky,road",
                "-o", tmp_path / "predicted", "--device", "cpu")  # fmt: skip
    assert ended.code == 0


# What each changes


@pytest.mark.parametrize("fusion", [[], [[0, 0]], [[1, 3]], [[2, 6]], [[3, 9]], [[2, 6], [3, 9]]])
def test_fusion_costs_a_norm_and_a_projection_each(fusion: list[list[int]]) -> None:
    """Table 4."""
    each = 2 * 768 + 768 * 240 + 240
    preset = changed(f"fusion={fusion}", preset=VIT_B_16)
    assert count(preset) == 8_370_866 - (4 - len(fusion)) * each


def test_fusion_brings_clips_features() -> None:
    """Without it the masks don't depend on CLIP at all."""
    for settings, depends in ((("fusion=[]",), False), ((), True)):
        model = model_of(changed(*settings))
        found = gradients(model, masks(model(CPU_IMAGE, all_supervised=True)))
        assert (found["visual.positional_embedding"] > 0) == depends


@pytest.mark.parametrize(
    ("name", "layers", "start"),
    [
        ("the paper's", [0, 1, 2], 2),
        ("4: no fusion", [2], 2),
        ("5: 3 + 1", [0, 1, 2, 3], 3),
        ("5: 1 + 3", [0, 1], 1),
        ("5: all for recognition", [0], 0),
        ("5: twice-forward", [0, 1, 2, 3, 4], 0),
    ],
)
def test_the_split_of_clips_blocks(name: str, layers: list[int], start: int) -> None:
    """Table 5: which features are kept, and how often each block runs: once for the image, once for [SLS] tokens.

    That holds for the twice-forward baseline, too, whose image tokens are the same both times.
    """
    preset = changed(*ABLATIONS[name])
    model = model_of(preset)
    features, _ = clip_features(model.visual, CPU_IMAGE, preset)
    assert sorted(features) == layers
    plain = [0] * 4
    for number, block in enumerate(model.visual.transformer.resblocks):
        block.mlp.register_forward_hook(
            lambda *_, number=number: plain.__setitem__(number, plain[number] + 1)
        )
    model(CPU_IMAGE, all_supervised=True)
    for number, calls in enumerate(plain):
        # Nobody reads the image's tokens after the last block; [SLS] tokens of all decoded layers go at once.
        expected = (1 if number < 3 or 4 in layers else 0) + (1 if number >= start else 0)
        assert calls == expected


def test_recognition_trains_the_masks_only_through_a_shared_head() -> None:
    """Table 6 and 7: where the gradient of the recognition goes."""
    single = model_of(changed("decoupled_head=false"))
    blocked = model_of(changed("decoupled_head=false", "block_clip_gradient=true"))
    blocked.load_state_dict(single.state_dict())
    forward, backward = {}, {}
    for name, model in (("single", single), ("blocked", blocked)):
        outputs = model(CPU_IMAGE, all_supervised=True)
        forward[name] = [tensor for out in outputs for tensor in vars(out).values()]
        backward[name] = gradients(model, recognition(outputs))
    assert all(torch.equal(a, b) for a, b in zip(forward["single"], forward["blocked"], strict=True))

    theirs = [
        n
        for n in backward["single"]
        if n.startswith(("side_adapter.", "mask_decoder.")) and "scaling" not in n
    ]
    last = "side_adapter.blocks.2."  # trained by the last layer alone, whose biases need it
    assert all(
        backward["single"][name] > 0 for name in theirs if name.startswith(last) and "norm" not in name
    )
    assert all(backward["blocked"][name] == 0 for name in theirs)
    for name in ("mask_decoder.bias_scaling.weight", "visual.positional_embedding"):
        assert backward["blocked"][name] > 0
    by_masks = gradients(blocked, masks(blocked(CPU_IMAGE, all_supervised=True)))
    assert all(by_masks[name] > 0 for name in theirs)


def test_a_head_of_its_own_spares_the_masks() -> None:
    """Table 7: the recognition trains the bias's MLP, and the pixels' MLP is the masks' alone."""
    model = model_of(changed())
    found = gradients(model, recognition(model(CPU_IMAGE, all_supervised=True)))
    assert all(found[f"mask_decoder.bias_mlp.layers.{i}.weight"] > 0 for i in range(3))
    assert all(found[f"mask_decoder.pixel_mlp.layers.{i}.weight"] == 0 for i in range(3))
    found = gradients(model, masks(model(CPU_IMAGE, all_supervised=True)))
    assert all(found[f"mask_decoder.bias_mlp.layers.{i}.weight"] == 0 for i in range(3))


def test_a_single_head_has_fewer_parameters() -> None:
    """Table 7."""
    preset = changed("decoupled_head=false", preset=VIT_B_16)
    mlp = (240 * 256 + 256) + (256 * 256 + 256) + (256 * 256 * 12 + 256 * 12)
    assert count(preset) == 8_370_866 - mlp
    bias = model_of(changed("decoupled_head=false"))(CPU_IMAGE)[0].attention_bias
    assert torch.equal(bias[:, 0], bias[:, 1])  # the same for all heads of CLIP
    bias = model_of(changed())(CPU_IMAGE)[0].attention_bias
    assert not torch.equal(bias[:, 0], bias[:, 1])


@pytest.mark.parametrize(("scale", "grid"), [(0.3, 1), (0.5, 2), (0.7, 2), (1.0, 4)])
def test_what_clip_sees(scale: float, grid: int) -> None:
    """Table 8: CLIP's grid of patches; the side adapter's stays, and so do the parameters."""
    preset = changed(f"clip_scale={scale}")
    model, grids = model_of(preset), []
    model.visual.conv1.register_forward_hook(lambda *call: grids.append(tuple(call[2].shape[2:])))
    assert model(CPU_IMAGE)[0].mask_logits.shape == (2, 6, 4, 4)
    assert grids == [(grid, grid)]
    assert count(preset) == count(micro_preset())


def test_clips_positions_may_be_frozen() -> None:
    """Table 9."""
    preset = changed("train_clip_positions=false", preset=VIT_B_16)
    assert count(preset) == 8_370_866 - 197 * 768
    model = model_of(changed("train_clip_positions=false"))
    model(CPU_IMAGE, all_supervised=True)[0].mask_logits.sum().backward()
    assert all(p.grad is None for p in model.visual.parameters())


def test_a_frozen_clip_keeps_nothing_for_the_way_back() -> None:
    """With its positions frozen, too, the graph of the shallow blocks is not even built."""
    for trained in (True, False):
        preset = changed(f"train_clip_positions={str(trained).lower()}")
        features, _ = clip_features(model_of(preset).visual, CPU_IMAGE, preset)
        assert all(tokens.requires_grad == trained for tokens in features.values())
