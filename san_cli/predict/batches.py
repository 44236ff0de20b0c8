"""Images that share a forward pass: a function of the whole list alone, whatever was done before.

Only images of equal size at the network's input can share one (zero padding to a common size is attended and
would change results). Sizes are read from the files' headers, one window of the list at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from san_cli.runs.shares import Share

Size = tuple[int, int]
_Item = TypeVar("_Item")


def plan_batches(
    images: int,
    batch: int,
    share: Share,
    is_wanted: Callable[[int], bool],
    size_of: Callable[[int], Size | None],
) -> Iterator[list[int]]:
    """Plan the share's batches, each the positions (ascending) of at most `batch` images of one size.

    Batches without a wanted image are left out; one with any is complete, so that a resumed run computes what
    an uninterrupted one does. `size_of` is asked only where it matters; None puts the image with its like.
    """
    for window in share.windows(images, batch):
        wanted = [position for position in window if is_wanted(position)]
        if batch == 1:
            yield from ([position] for position in wanted)
        elif wanted:
            for group in group_by((position for position in window), size_of, batch):
                if any(position in wanted for position in group):
                    yield group


def group_by(
    items: Sequence[_Item] | Iterator[_Item], key: Callable[[_Item], object], most: int
) -> list[list[_Item]]:
    """Group items, at most `most` items of equal key, in the order of their first items."""
    groups: list[list[_Item]] = []
    open_group: dict[object, list[_Item]] = {}
    for item in items:
        group = open_group.get(key(item))
        if group is None or len(group) == most:
            group = open_group[key(item)] = []
            groups.append(group)
        group.append(item)
    return groups
