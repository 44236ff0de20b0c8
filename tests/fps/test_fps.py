"""`san fps`'s counting and timing: the paper's GFLOPs come out, and the statistics are what they say."""

import dataclasses
import math
import time
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from presets import GOLDEN_TINY
from torch import nn

from san_cli.errors import SanError
from san_cli.fps.clock import StageClock
from san_cli.fps.flops import cost_of, gflops, output_step, san_run
from san_cli.fps.measure import at_clip_size, cases_at
from san_cli.fps.paper_form import paper_form
from san_cli.fps.published import paper_row
from san_cli.fps.systems import build, random_images, setup_for
from san_cli.fps.timing import Call, interleaved, median_interval, peak_growth_mb, summary
from san_cli.models.presets import VIT_B_16, VIT_L_14, Preset
from san_cli.models.san import SAN

CPU, META = torch.device("cpu"), torch.device("meta")


def on_meta(preset: Preset) -> SAN:
    with META:
        return SAN(preset).eval().requires_grad_(False)


# Table 8's CLIP sizes, the multiply-adds by fvcore on the official code (G, 20 classes), and the paper's number.
TABLE_8 = [
    (192, 39.5561, 39.4),
    (224, 44.4226, 44.3),
    (320, 64.4767, 64.3),
    (448, 106.3876, 106.3),
    (640, 213.4967, 213.4),
]


@pytest.fixture(scope="module")
def vit_b_16() -> SAN:
    return on_meta(VIT_B_16)


@pytest.mark.parametrize(("clip_size", "official", "paper"), TABLE_8)
def test_table_8(vit_b_16: SAN, clip_size: int, official: float, paper: float) -> None:
    model = vit_b_16
    model.preset = at_clip_size(VIT_B_16, 640, clip_size)
    run = san_run(model, torch.empty(1, 3, 640, 640, device=META), 20, paper=True)
    counted = gflops(run, extras=True) + gflops(lambda: output_step(100, 640, 20, 2), extras=True)
    assert counted == pytest.approx(official, rel=2e-4)
    assert counted == pytest.approx(paper, rel=0.005)
    assert paper_row("san", "vit-b-16", 640, clip_size).gflops == paper


def test_san_costs() -> None:
    cost = cost_of("san", VIT_B_16, 640, 171)
    # The trainable total printed in the official training log; 512 of it, the learned background embedding, are
    # sometimes left out (8,370,354).
    assert cost.params_trainable == 8_370_866
    assert cost.params_total == 157_840_307
    assert cost.gflops_network == pytest.approx(executed(VIT_B_16, 640, 171), rel=1e-6)
    assert cost.gflops_network == pytest.approx(59.23, rel=1e-4)  # without what nobody reads
    assert cost.gflops_output == pytest.approx(171 * 0.04096, rel=1e-6)
    assert cost.gflops_paper == pytest.approx(64.48, rel=1e-3)  # with 20 classes, whatever is asked for
    assert cost.gflops_paper_network == pytest.approx(63.33, rel=1e-3)


@pytest.mark.parametrize(
    ("system", "params", "executed", "network", "whole"),
    [("ovseg", 147_260_352, 1876.9, 1879.18, 1880.16), ("maskclip", 63_039_936, 310.8, 312.2, 313.2)],
)
def test_costs_of_the_rivals(system: str, params: int, executed: float, network: float, whole: float) -> None:
    cost = cost_of(system, VIT_B_16, 640, 20)
    assert cost.gflops_network == pytest.approx(executed, rel=2e-4)
    assert cost.params_trainable == params
    assert cost.gflops_paper_network == pytest.approx(network, rel=2e-4)
    assert cost.gflops_paper == pytest.approx(whole, rel=2e-4)


def executed(preset: Preset, size: int, classes: int) -> float:
    """SAN's multiply-adds by the shapes alone, in 10⁹."""
    clip, side = preset.clip, preset.side_width
    seen = math.floor(size * preset.clip_scale) // clip.patch_size
    tokens, patches, pixels = seen**2 + 1, seen**2, (size // preset.side_patch_size) ** 2
    queries, inner, start = preset.queries, preset.decoder_width, clip.layers - preset.recognition_layers

    def block(count: int, width: int, reads: int) -> int:
        return 12 * count * width**2 + 2 * count * reads * width

    tower = 3 * clip.patch_size**2 * clip.width * patches + start * block(tokens, clip.width, tokens)
    adapter = 3 * preset.side_patch_size**2 * side * pixels
    adapter += preset.side_depth * block(queries + pixels, side, queries + pixels)
    adapter += len(preset.fusion) * patches * clip.width * side
    mlp = side * inner + inner * inner
    decoder = (queries + pixels) * (mlp + inner * inner) + queries * pixels * inner
    decoder += (
        pixels * mlp + queries * clip.heads * inner * (inner + 1) + clip.heads * queries * pixels * inner
    )
    recognition = preset.recognition_layers * block(queries, clip.width, patches)
    recognition += (preset.recognition_layers - 1) * block(tokens, clip.width, tokens)
    recognition += 2 * tokens * clip.width**2  # the last block's keys and values
    recognition += queries * clip.width * clip.embed_dim + queries * (classes + 1) * clip.embed_dim
    return (tower + adapter + decoder + recognition) / 1e9


@pytest.mark.parametrize("preset", [GOLDEN_TINY, VIT_L_14], ids=lambda preset: preset.name)
def test_the_shapes_say_the_same_as_the_counter(preset: Preset) -> None:
    image = torch.empty(1, 3, preset.input_size, preset.input_size, device=META)
    counted = gflops(san_run(on_meta(preset), image, 5))
    assert counted == pytest.approx(executed(preset, preset.input_size, 5), rel=1e-9)


def test_fused_attention_is_counted_on_a_real_device_too() -> None:
    torch.manual_seed(0)
    model = SAN(GOLDEN_TINY).eval().requires_grad_(False)
    real = gflops(san_run(model, torch.zeros(1, 3, 128, 128), 5))
    assert real == gflops(san_run(on_meta(GOLDEN_TINY), torch.zeros(1, 3, 128, 128, device=META), 5))


@pytest.mark.parametrize("decoupled", [True, False])
def test_the_form_that_the_paper_counted_gives_our_result(decoupled: bool) -> None:
    torch.manual_seed(0)
    model = (
        SAN(dataclasses.replace(GOLDEN_TINY, decoupled_head=decoupled)).eval().double().requires_grad_(False)
    )
    image = torch.randn(2, 3, 96, 160, dtype=torch.float64)
    ours, theirs = model(image)[0], paper_form(model, image)
    assert torch.allclose(ours.mask_logits, theirs.mask_logits, atol=1e-12)
    assert torch.allclose(ours.attention_bias, theirs.attention_bias, atol=1e-12)
    assert torch.allclose(ours.region_embeddings, theirs.region_embeddings, atol=1e-6)  # made float32


def test_extras_are_fvcores() -> None:
    x = torch.empty(2, 8, 4, 4, device=META)
    with META:
        norms = [nn.LayerNorm(4), nn.GroupNorm(2, 8), nn.BatchNorm2d(8).eval()]
    assert [gflops(lambda norm=norm: norm(x), extras=True) for norm in norms] == [
        5 * 256e-9,
        5 * 256e-9,
        2 * 256e-9,
    ]
    assert gflops(lambda: F.interpolate(x, size=(8, 8), mode="bilinear"), extras=True) == 4 * 1024e-9
    assert gflops(lambda: F.interpolate(x, size=(8, 8), mode="bicubic"), extras=True) == 0
    assert gflops(lambda: norms[0](x)) == 0


@given(st.integers(4, 80), st.integers(1, 80))  # a preset has at most 512 tokens on a side
def test_any_clip_size_is_met_exactly(size: int, clip: int) -> None:
    preset = at_clip_size(VIT_B_16, 32 * size, 16 * clip)
    image = torch.empty(1, 1, 32 * size, 32, device=META)
    shown = F.interpolate(image, scale_factor=preset.clip_scale, mode="bilinear") if clip < 40 else None
    assert math.floor(32 * size * preset.clip_scale) == 16 * clip
    assert shown is None or preset.clip_scale * 32 < 1 or shown.shape[2] == 16 * clip


def test_cases_and_refusals() -> None:
    both = cases_at(640, ["san", "simseg"], VIT_B_16, [192, 320])
    assert [(case.system, case.clip_size) for case in both] == [("san", 192), ("san", 320), ("simseg", None)]
    assert cases_at(640, ["san"], VIT_L_14, [])[0].clip_size == 448
    for size, clip in ((650, []), (0, []), (640, [100]), (640, [0])):
        with pytest.raises(SanError):
            cases_at(size, ["san"], VIT_B_16, clip)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_calls_are_spread_evenly(calls: list[int]) -> None:
    order = interleaved(calls)
    assert [order.count(index) for index in range(len(calls))] == calls
    for index, count in enumerate(calls):
        places = [0, *(place + 1 for place, other in enumerate(order) if other == index), len(order)]
        gaps = [after - before for before, after in pairwise(places)]
        assert max(gaps) <= len(order) / count + len(calls)


@pytest.mark.parametrize(
    ("count", "ranks"), [(5, None), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (20, (6, 15)), (100, (40, 61))]
)
def test_median_interval_is_the_textbooks(count: int, ranks: tuple[int, int] | None) -> None:
    values = list(range(count, 0, -1))
    assert median_interval(values) == ranks


def test_summary() -> None:
    calls = [Call(3.0, {"a": 1.0}), Call(1.0, {"a": 5.0}), Call(2.0, {"a": 2.0})]
    made = summary(calls, 7.0, warmed_up=True)
    assert (made.median, made.calls, made.stages, made.interval, made.peak_memory_mb) == (
        2,
        3,
        {"a": 2},
        None,
        7,
    )
    assert made.p10 == pytest.approx(1.2) and made.p90 == pytest.approx(2.8)


def test_clock_gives_every_moment_to_one_stage() -> None:
    clock, module = StageClock(CPU), nn.Identity()
    clock.mark_before(module, "before")
    clock.mark_after(module, "in it")
    clock.start()
    for _ in range(2):
        time.sleep(0.002)
        module(torch.zeros(1))
    clock.mark("after")
    found = clock.milliseconds()
    assert list(found) == ["before", "in it", "after"]
    assert found["before"] >= 4


@pytest.mark.skipif(peak_growth_mb(lambda: None, CPU) is None, reason="the system doesn't tell")
def test_peak_memory_is_that_of_the_call_alone() -> None:
    held = torch.ones(30_000_000)

    def call(millions: int) -> float:
        return peak_growth_mb(lambda: torch.ones(millions * 1_000_000).sum(), CPU) or 0

    assert 190 < call(50) < 230
    assert 75 < call(20) < 110  # though more was in use before
    assert call(0) < 20
    assert held.sum() == 30_000_000


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_san_is_timed_from_pixels_to_label_maps(precision: str) -> None:
    setup = setup_for("cpu", precision, classes=4, batch=2, compile=False)
    system = build("san", GOLDEN_TINY, setup)
    system.clock.start()
    maps = system.run(random_images(64, setup))
    assert [made.label_map.shape for made in maps] == [(64, 64), (64, 64)]
    assert all(made.label_map.min() >= 0 and made.label_map.max() < 4 for made in maps)
    assert list(system.clock.milliseconds()) == [
        "clip",
        "side adapter",
        "mask decoder",
        "recognition",
        "output",
    ]
    assert system.weights_mb > (0.3 if precision == "bf16" else 0.6)
