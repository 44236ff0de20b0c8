"""Points at which masks are compared: looked up without the masks, chosen near borders, drawn by image."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from san_cli.train.points import (
    draw_uncertain_points,
    sample_logits,
    sample_masks,
    seeded_draw,
    uncertain_points,
)

CPU = torch.device("cpu")
LABELS = (np.uint8, np.int16, np.int32, np.int64)


def by_grid_sample(label_map: Tensor, classes: Tensor, points: Tensor) -> Tensor:
    """[C, P]: the binary masks made in full and sampled like logits."""
    masks = (label_map[None] == classes[:, None, None]).float()
    return F.grid_sample(masks[None], 2 * points[None, None] - 1, align_corners=False)[0, :, 0]


@settings(deadline=None)  # the first call waits for torch
@given(data=st.data())
def test_masks_are_sampled_as_grid_sample_does(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    dtype = data.draw(st.sampled_from(LABELS))
    elements = st.sampled_from((0, 1, 2, 3, 255 if dtype is np.uint8 else 300))
    maps = data.draw(hnp.arrays(dtype, (2, height, width), elements=elements))
    # Float32 in [0, 1] with the ends: a point on the border is half outside, where no mask is.
    numbers = st.floats(0, 1, width=32)
    points = torch.from_numpy(data.draw(hnp.arrays(np.float32, (3, 5, 2), elements=numbers)))
    images, classes = torch.tensor([1, 0, 1]), torch.tensor([[0, 1], [3, 2], [2, 2]])

    label_maps = torch.from_numpy(maps)
    found = sample_masks(label_maps, images, classes, points)
    assert found.shape == (3, 2, 5)
    assert found.dtype == torch.float32
    for m in range(3):
        expected = by_grid_sample(label_maps[images[m]], classes[m], points[m])
        torch.testing.assert_close(found[m], expected, atol=1e-6, rtol=0)


def test_masks_of_the_papers_size_are_sampled_as_grid_sample_does() -> None:
    generator = torch.Generator().manual_seed(1)
    label_map = torch.randint(0, 7, (640, 640), generator=generator, dtype=torch.uint8)
    points = torch.rand((1, 2000, 2), generator=generator)
    classes = torch.arange(7)
    found = sample_masks(label_map[None], torch.tensor([0]), classes[None], points)[0]
    torch.testing.assert_close(found, by_grid_sample(label_map, classes, points[0]), atol=1e-4, rtol=0)
    assert found.sum(dim=0).max() <= 1 + 1e-5


def test_a_pixel_centre_has_the_pixels_value_and_the_border_half_of_it() -> None:
    logits = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    points = torch.tensor([[[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.5, 0.5], [0.0, 0.25]]])
    assert sample_logits(logits, points)[0, 0].tolist() == [1, 2, 3, 2.5, 0.5]


def test_the_least_decided_candidates_are_chosen() -> None:
    logits = torch.tensor([[[-8.0, -1.0, 0.5, 9.0]], [[0.1, 7.0, -3.0, -0.2]]])  # [2, 1, 4]
    centres = torch.tensor([[0.125, 0.5], [0.375, 0.5], [0.625, 0.5], [0.875, 0.5]])
    anywhere = torch.full((2, 1, 2), 0.9)
    chosen = uncertain_points(logits, centres.expand(2, -1, -1), anywhere, 2)
    assert chosen.shape == (2, 3, 2)
    assert chosen[0].tolist() == [centres[2].tolist(), centres[1].tolist(), anywhere[0, 0].tolist()]
    assert chosen[1].tolist() == [centres[0].tolist(), centres[3].tolist(), anywhere[1, 0].tolist()]


@pytest.mark.parametrize("points", [1, 2, 3, 4, 12, 257])
def test_three_quarters_of_the_points_are_uncertain_out_of_three_times_as_many(points: int) -> None:
    asked: dict[str, list[tuple[int, ...]]] = {}

    def draw(layer: int, image: int, purpose: str, shape: tuple[int, ...]) -> Tensor:
        assert layer == 1
        asked.setdefault(purpose, []).append(shape)
        return torch.rand(shape)

    logits = torch.randn(3, 4, 4)
    found = draw_uncertain_points(logits, [1, 0, 2], points, 1, draw)
    assert found.shape == (3, points, 2)
    rest = points - int(0.75 * points)
    assert asked == {
        "candidates": [(1, 3 * points, 2), (0, 3 * points, 2), (2, 3 * points, 2)],
        "anywhere": [(1, rest, 2), (0, rest, 2), (2, rest, 2)],
    }


def test_no_masks_have_no_points() -> None:
    draw = seeded_draw(0, 0, [0, 1], CPU)
    found = draw_uncertain_points(torch.zeros(0, 4, 4), [0, 0], 8, 0, draw)
    assert found.shape == (0, 8, 2)


def test_an_images_points_do_not_depend_on_the_batch_it_is_in() -> None:
    logits = torch.randn(5, 6, 6, generator=torch.Generator().manual_seed(2))
    whole = draw_uncertain_points(logits, [2, 1, 2], 16, 0, seeded_draw(7, 3, [10, 11, 12], CPU))
    alone = draw_uncertain_points(logits[3:], [2], 16, 0, seeded_draw(7, 3, [12], CPU))
    assert torch.equal(whole[3:], alone)


@settings(deadline=None)
@given(
    st.integers(0, 2**40),
    st.integers(0, 10**6),
    st.integers(0, 10**4),
    st.sampled_from(("match", "anywhere")),
)
def test_numbers_are_uniform_and_depend_on_everything_they_are_drawn_for(
    seed: int, step: int, slot: int, purpose: str
) -> None:
    shape = (4, 50, 2)

    def drawn(seed: int, step: int, slot: int, layer: int, purpose: str) -> Tensor:
        return seeded_draw(seed, step, [slot], CPU)(layer, 0, purpose, shape)

    numbers = drawn(seed, step, slot, 0, purpose)
    assert numbers.dtype == torch.float32
    assert numbers.shape == shape
    assert numbers.min() >= 0 and numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.1  # 7 standard deviations
    assert torch.equal(numbers, drawn(seed, step, slot, 0, purpose))
    for other in (
        drawn(seed + 1, step, slot, 0, purpose),
        drawn(seed, step + 1, slot, 0, purpose),
        drawn(seed, step, slot + 1, 0, purpose),
        drawn(seed, step, slot, 1, purpose),
        drawn(seed, step, slot, 0, "candidates"),
    ):
        assert not torch.equal(numbers, other)


def test_drawing_leaves_the_others_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    seeded_draw(0, 0, [0], CPU)(0, 0, "match", (9,))
    assert torch.equal(torch.rand(3), expected)
