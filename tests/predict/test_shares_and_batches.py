"""Which process does which images, and which images share a forward pass."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from san_cli.errors import SanError
from san_cli.predict.batches import group_by, plan_batches
from san_cli.runs.shares import WHOLE, Share, parse_shard

counts = st.integers(0, 200)
batches = st.integers(1, 5)


@given(counts, batches, st.integers(1, 7))
def test_shares_deal_out_everything_once(images: int, batch: int, count: int) -> None:
    dealt = [list(Share(index, count).positions(images, batch)) for index in range(count)]
    assert all(positions == sorted(positions) for positions in dealt)
    assert sorted(chain.from_iterable(dealt)) == list(range(images))


@given(counts, st.integers(1, 7))
def test_single_images_are_dealt_out_evenly(images: int, count: int) -> None:
    sizes = [len(list(Share(index, count).positions(images, 1))) for index in range(count)]
    assert max(sizes) - min(sizes) <= 1


@given(
    st.lists(st.sampled_from([(64, 80), (80, 64), None]), max_size=120), batches, st.integers(1, 4), st.data()
)
def test_batches_depend_on_the_list_alone(
    sizes: list[tuple[int, int] | None], batch: int, count: int, data: st.DataObject
) -> None:
    whole = list(plan_batches(len(sizes), batch, WHOLE, lambda i: True, sizes.__getitem__))
    assert sorted(chain.from_iterable(whole)) == list(range(len(sizes)))
    for group in whole:
        assert 1 <= len(group) <= batch
        assert group == sorted(group)
        assert len({sizes[i] for i in group}) == 1
    wanted = set(data.draw(st.lists(st.integers(0, max(0, len(sizes) - 1)), max_size=9)))
    rest = [
        group
        for index in range(count)
        for group in plan_batches(
            len(sizes), batch, Share(index, count), wanted.__contains__, sizes.__getitem__
        )
    ]
    assert sorted(rest) == sorted(group for group in whole if wanted.intersection(group))


def test_sizes_are_asked_for_only_where_it_matters() -> None:
    asked: list[int] = []
    assert list(plan_batches(5, 1, WHOLE, lambda i: i == 3, lambda i: asked.append(i))) == [[3]]
    assert asked == []
    list(plan_batches(64, 2, WHOLE, lambda i: i == 20, lambda i: asked.append(i)))
    assert set(asked) == set(range(16, 32))


def test_groups_keep_the_order_of_first_items() -> None:
    assert group_by("abcabcab", str, 2) == [["a", "a"], ["b", "b"], ["c", "c"], ["a"], ["b"]]


def test_shards_are_written_from_one() -> None:
    assert parse_shard("1/1") == WHOLE
    assert parse_shard(" 2/3 ") == Share(1, 3)
    for text in ("0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3", "", "1.5/2"):
        with pytest.raises(SanError):
            parse_shard(text)
    with pytest.raises(SanError):
        Share(2, 2)
