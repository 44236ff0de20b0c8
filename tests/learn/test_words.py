"""Which words are learned, on pictures made of numbers: two things, one of which the plain words know."""

from dataclasses import replace

import numpy as np
import torch

from san_cli.learn.picture import Picture
from san_cli.learn.words import teach

D, QUERIES, SIDE = 16, 30, 12
KNOWN, STRANGE = 0, 1  # classes; of the second the plain word says nothing
TEMPERATURE = 100.0
_AXES = torch.eye(D)
_LOOK = torch.nn.functional.normalize(
    torch.stack([_AXES[0], _AXES[1], _AXES[2] + _AXES[3]]) + 0.5 * _AXES[4], dim=1
)
_ALIKE = [0.4 * _AXES[1] + 0.1 * _AXES[axis] for axis in range(6, 14)]  # what strange things are taken for
ROWS = torch.stack([_AXES[0], _AXES[5], *_ALIKE, 0.3 * _AXES[4]])  # known, strange, eight more, "no object"
START = ROWS[:-1].mean(dim=0)


def picture(seed: int, *, shows: bool = True) -> Picture:
    """Return a picture: the known thing above, the strange one (or a third) below, masks that fit both halves."""
    rng = torch.Generator().manual_seed(seed)
    labels = np.full((SIDE, SIDE), -1, np.int32)
    labels[: SIDE // 2] = KNOWN
    if shows:
        labels[SIDE // 2 :] = STRANGE
    upper = np.zeros((SIDE, SIDE), bool)
    upper[: SIDE // 2] = True
    masks = torch.full((SIDE * SIDE, QUERIES), 0.01)
    masks[torch.from_numpy(upper.ravel()), :3] = 0.95
    masks[torch.from_numpy(~upper.ravel()), 3:6] = 0.95
    looks = torch.cat(
        [
            _LOOK[0].expand(3, D),
            _LOOK[1 if shows else 2].expand(3, D),
            0.3 * torch.randn(QUERIES - 6, D, generator=rng),
        ]
    )
    regions = torch.nn.functional.normalize(looks + 0.03 * torch.randn(QUERIES, D, generator=rng), dim=1)
    return Picture(str(seed), regions, TEMPERATURE * regions @ ROWS.T, masks.half(), labels)


def test_a_word_that_the_model_does_not_know_is_learned() -> None:
    """Three pictures show it: it is found in each of them by what the two others teach."""
    found = teach(
        [picture(1), picture(2), picture(3), picture(4, shows=False)], STRANGE, "x", START, TEMPERATURE
    )
    assert found.row is not None and found.row.shape == (D,) and found.row.dtype == torch.float32
    assert (found.pictures, found.cells) == (3, 3 * SIDE * SIDE // 2)
    assert found.examples == 3
    assert found.plain < 0.05
    assert found.learned is not None and found.learned > 0.9


def test_a_word_that_the_model_knows_stays_plain() -> None:
    """Pictures can't better it, whatever they teach."""
    found = teach([picture(1), picture(2)], KNOWN, "x", START, TEMPERATURE)
    assert found.plain > 0.9
    assert found.learned is not None
    assert found.row is None


def test_one_picture_teaches_a_word_that_its_name_does_not_find() -> None:
    """There is no other picture to try it on."""
    assert teach([picture(1)], STRANGE, "x", START, TEMPERATURE).row is not None
    assert teach([picture(1)], KNOWN, "x", START, TEMPERATURE).row is None


def test_a_class_without_a_mask_that_fits_is_not_learned() -> None:
    """Where the model proposes no region there, nothing can be said of it; nor of a class that isn't there."""
    one = picture(1)
    no_mask = replace(one, masks=torch.full_like(one.masks, 0.01))
    found = teach([no_mask], STRANGE, "x", START, TEMPERATURE)
    assert (found.examples, found.learned, found.row) == (0, None, None)
    missing = teach([picture(4, shows=False)], STRANGE, "x", START, TEMPERATURE)
    assert (missing.pictures, missing.examples, missing.row) == (0, 0, None)


def test_each_part_of_a_class_is_an_example_of_its_own() -> None:
    """Two things of a class in one picture, with a mask for each and none for both."""
    one = picture(1)
    labels = np.full((SIDE, SIDE), -1, np.int32)
    labels[1:4, 1:4] = labels[7:10, 7:10] = STRANGE
    labels[0, 11] = STRANGE  # a speck, which is none
    masks = torch.full((SIDE, SIDE, QUERIES), 0.0)
    masks[1:4, 1:4, 3] = masks[7:10, 7:10, 4] = 0.95
    split = replace(one, labels=labels, masks=masks.flatten(0, 1).half())
    overlaps = split.overlaps(STRANGE)
    assert overlaps.shape == (3, QUERIES)
    assert sorted(overlaps.amax(dim=1).tolist())[1:] == torch.tensor([0.95, 0.95]).half().tolist()
    assert (
        teach([split], STRANGE, "x", START, TEMPERATURE).examples == 3
    )  # the whole is half covered by either


def test_nothing_depends_on_the_order_of_the_pictures() -> None:
    """But for the last bits of a sum."""
    pictures = [picture(seed) for seed in (1, 2, 3)]
    there, back = (teach(some, STRANGE, "x", START, TEMPERATURE) for some in (pictures, pictures[::-1]))
    assert there.row is not None and back.row is not None
    torch.testing.assert_close(there.row, back.row, rtol=1e-5, atol=1e-6)


def test_where_everything_is_the_class_there_is_nothing_to_tell_it_from() -> None:
    """A background that lies behind all masks."""
    one = picture(1)
    everywhere = replace(one, labels=np.full_like(one.labels, STRANGE), masks=torch.full_like(one.masks, 0.9))
    found = teach([everywhere], STRANGE, "x", START, TEMPERATURE)
    assert found.examples == 1
    assert (found.others, found.row) == (0, None)
