"""Training samples: the same whatever prepares them, and one clear sentence where they can't be prepared."""

import os
import pickle
import signal
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import get_worker_info

from san_cli.datasets.check import check_training_data
from san_cli.datasets.labels import decode_label, write_label
from san_cli.datasets.own_pairs import list_own_pairs
from san_cli.datasets.source import PairSource
from san_cli.errors import ExitCode, SanError
from san_cli.runs.shares import Share
from san_cli.train.augment import Augmentation
from san_cli.train.loader import batches
from san_cli.train.training_set import Sample, TrainingSet, sample_order

CLASSES = ("sky", "road", "tree", "unicorn")
SMALL = Augmentation((24, 32, 40), crop=32, max_size=128)
# Python 3.12 and later, where torch's own threads are running already:
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven photographs of two sizes with labels of the first three classes."""
    generator = np.random.default_rng(0)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for number in range(7):
        size = (36, 50) if number % 2 else (50, 36)
        pixels = generator.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/p{number}.jpg")
        labels = generator.choice(np.array([0, 1, 2, 255], np.uint8), size)
        write_label(tmp_path / f"labels/p{number}.png", labels)
    return tmp_path


def source_of(folder: Path, classes: int = len(CLASSES)) -> PairSource:
    return PairSource(list_own_pairs(folder / "images", folder / "labels").pairs, classes, 255)


def set_of(folder: Path, seed: int = 3) -> TrainingSet:
    return TrainingSet(source_of(folder), SMALL, seed, 255)


def content(sample: Sample) -> tuple[int, str, bytes, bytes]:
    return sample.position, sample.name, sample.image.numpy().tobytes(), sample.label_map.numpy().tobytes()


def flat(steps: list[list[list[Sample]]]) -> list[tuple[int, str, bytes, bytes]]:
    return [content(sample) for sample in chain.from_iterable(chain.from_iterable(steps))]


# The row of samples


@given(st.integers(1, 40), st.integers(0, 2**40), st.integers(0, 50))
def test_every_epoch_holds_every_image_once(length: int, seed: int, epoch: int) -> None:
    order = [sample_order(seed, length, epoch * length + place) for place in range(length)]
    assert sorted(order) == list(range(length))


def test_epochs_and_seeds_differ() -> None:
    orders = {
        tuple(sample_order(seed, 30, epoch * 30 + place) for place in range(30))
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(orders) == 16


def test_a_sample_is_what_training_needs(folder: Path) -> None:
    sample = set_of(folder)[4]
    assert sample.image.shape == (3, 32, 32) and sample.image.dtype == torch.uint8
    assert sample.label_map.shape == (32, 32) and sample.label_map.dtype == torch.uint8
    assert sample.position == 4
    assert sample.name == f"p{sample_order(3, 7, 4)}"
    assert set(sample.label_map.unique().tolist()) <= {0, 1, 2, 255}


def test_a_sample_depends_on_seed_and_position_alone(folder: Path) -> None:
    forwards, backwards = set_of(folder), set_of(folder)
    first = [content(forwards[position]) for position in range(20)]
    last = [content(backwards[position]) for position in reversed(range(20))]
    assert first == last[::-1]
    assert len({image for _, _, image, _ in first}) == 20  # an image is augmented anew in each epoch
    assert [content(set_of(folder, seed=4)[position]) for position in range(20)] != first


def test_labels_of_16_bits_come_as_int32(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "images/a.png")
    write_label(tmp_path / "labels/a.tif", np.full((40, 40), 800, np.uint16))
    pairs = list_own_pairs(tmp_path / "images", tmp_path / "labels").pairs
    sample = TrainingSet(PairSource(pairs, 847, 65535), SMALL, 0, 65535)[0]
    assert sample.label_map.dtype == torch.int32
    assert set(sample.label_map.unique().tolist()) <= {800, 65535}


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "images/a.jpg", exif=exif)
    write_label(tmp_path / "labels/a.png", np.zeros((60, 40), np.uint8))
    image, labels, _ = source_of(tmp_path).read(0)
    assert image.shape == (60, 40, 3) and labels.shape == (60, 40)


def test_a_sample_survives_the_way_between_processes(folder: Path) -> None:
    sample = set_of(folder)[2]
    again = pickle.loads(pickle.dumps(sample))
    assert content(again) == content(sample)
    again.image.add_(1)  # and can be written to


# Batches


def test_workers_change_nothing(folder: Path) -> None:
    runs = [flat(list(batches(set_of(folder), range(5), 3, workers=workers))) for workers in (0, 1, 2)]
    assert runs[0] == runs[1] == runs[2]
    assert [position for position, *_ in runs[0]] == list(range(15))


def test_a_later_start_gives_the_same_batches(folder: Path) -> None:
    whole = list(batches(set_of(folder), range(6), 4))
    rest = list(batches(set_of(folder), range(4, 6), 4))
    assert flat(whole[4:]) == flat(rest)
    assert list(batches(set_of(folder), range(9, 9), 4)) == []


@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (1, 4), (2, 2), (4, 1), (4, 3)])
def test_processes_and_micro_batches_share_a_step(folder: Path, world: int, accumulate: int) -> None:
    training_set, steps = set_of(folder), range(2, 4)
    alone = list(batches(training_set, steps, 12))
    ranks = [
        list(batches(training_set, steps, 12, share=Share(rank, world), accumulate=accumulate))
        for rank in range(world)
    ]
    for step, whole in enumerate(alone):
        parts = [rank[step] for rank in ranks]
        assert {len(micro) for part in parts for micro in part} == {12 // world // accumulate}
        assert {len(part) for part in parts} == {accumulate}
        assert sorted(flat(parts)) == flat([whole])
        for rank, part in enumerate(parts):
            places = [sample.position % 12 for sample in chain.from_iterable(part)]
            assert places == list(range(rank, 12, world))


def test_the_global_generator_is_left_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    list(batches(set_of(folder), range(2), 2, workers=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_ending_early_ends_the_workers(folder: Path) -> None:
    import multiprocessing

    steps = batches(set_of(folder), range(1000), 2, workers=2)
    next(steps)
    assert len(multiprocessing.active_children()) == 2
    steps.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(("world", "accumulate"), [(1, 3), (3, 1), (2, 4)])
def test_a_batch_that_cannot_be_split(folder: Path, world: int, accumulate: int) -> None:
    with pytest.raises(SanError, match="batch of 4 can't be split evenly") as caught:
        batches(set_of(folder), range(1), 4, share=Share(0, world), accumulate=accumulate)
    assert f"multiple of {world * accumulate}" in caught.value.hint


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_named_when_its_step_comes(folder: Path, workers: int) -> None:
    training_set = set_of(folder)
    damaged = folder / f"images/p{sample_order(3, 7, 5)}.jpg"
    damaged.write_bytes(damaged.read_bytes()[:300])
    steps = batches(training_set, range(5), 2, workers=workers)
    assert len(list(zip(range(2), steps, strict=False))) == 2
    with pytest.raises(SanError) as caught:
        next(steps)
    assert caught.value.message.startswith(str(damaged))
    assert "Traceback" not in str(caught.value)


@dataclass(frozen=True)
class Worrying:
    """A source whose worker process meets with something."""

    signals: tuple[int, ...]
    exits: bool = False

    def __len__(self) -> int:
        return 3

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], str]:
        if get_worker_info() is not None:
            for number in self.signals:
                os.kill(os.getpid(), number)
            if self.exits:
                os._exit(7)
        return np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8), "zero"


def test_a_worker_that_dies_is_an_error(folder: Path) -> None:
    steps = batches(TrainingSet(Worrying((), exits=True), SMALL, 0, 255), range(2), 1, workers=1)
    with pytest.raises(SanError, match="a process that prepares training images has died") as caught:
        next(steps)
    assert caught.value.code == ExitCode.SOME_FAILED and "fewer --workers" in caught.value.hint


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="POSIX signals")
def test_workers_outlive_the_signals_that_end_a_training_in_order() -> None:
    source = Worrying((signal.SIGINT, signal.SIGTERM))
    steps = list(batches(TrainingSet(source, SMALL, 0, 255), range(3), 2, workers=1))
    assert [sample.position for step in steps for micro in step for sample in micro] == list(range(6))


# Before the first step


def test_a_check_counts_classes(folder: Path) -> None:
    checked = check_training_data(source_of(folder), CLASSES, 255)
    assert (checked.images, checked.read, checked.absent) == (7, 7, ("unicorn",))
    assert checked.images_with == (7, 7, 7, 0)
    labels = [decode_label(path.read_bytes(), path.name) for path in sorted((folder / "labels").iterdir())]
    assert checked.pixels == tuple(sum(int((one == index).sum()) for one in labels) for index in range(4))
    assert checked.sentence == "7 images read; 3 of 4 classes occur in them (not: unicorn)"


def test_a_check_reads_some_of_many_and_tells_how_far_it_is(folder: Path) -> None:
    steps: list[tuple[int, int]] = []
    checked = check_training_data(
        source_of(folder), CLASSES, 255, most=3, step=lambda *now: steps.append(now)
    )
    assert (checked.images, checked.read) == (7, 3)
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert checked.sentence.startswith("3 of 7 images read; ")


def test_a_check_refuses_an_id_out_of_range(folder: Path) -> None:
    write_label(folder / "labels/p4.png", np.full((50, 36), 9, np.uint8))
    with pytest.raises(SanError) as caught:
        check_training_data(source_of(folder), CLASSES, 255)
    assert str(folder / "labels/p4.png") in caught.value.message
    assert "holds the value 9" in caught.value.message and "4 classes end at 3" in caught.value.message


def test_a_check_refuses_a_class_list_that_is_too_short(folder: Path) -> None:
    with pytest.raises(
        SanError, match="holds the value 2 .*2 classes end at 1.*7 images at fault among the 7"
    ):
        check_training_data(source_of(folder, 2), CLASSES[:2], 255)


def test_a_check_finds_missing_files(folder: Path) -> None:
    source = source_of(folder)
    (folder / "images/p2.jpg").unlink()
    (folder / "labels/p6.png").unlink()
    with pytest.raises(SanError, match=r"there is no file '.*p2\.jpg' \(2 files missing\)") as caught:
        check_training_data(source, CLASSES, 255, most=1)
    assert caught.value.code == ExitCode.NO_INPUT


def test_a_check_refuses_sizes_that_differ(folder: Path) -> None:
    Image.new("RGB", (50, 40)).save(folder / "images/p1.jpg")
    with pytest.raises(SanError, match=r"p1\.jpg is 50×40 pixels \(upright\), its label .*50×36") as caught:
        check_training_data(source_of(folder), CLASSES, 255)
    assert "p1.png" in caught.value.message


def test_a_check_refuses_what_cannot_be_decoded(folder: Path) -> None:
    (folder / "images/p3.jpg").write_bytes(b"not a photograph")
    with pytest.raises(SanError, match=r"p3\.jpg"):
        check_training_data(source_of(folder), CLASSES, 255)


def test_a_check_refuses_labels_that_say_nothing(folder: Path) -> None:
    for path in (folder / "labels").iterdir():
        write_label(path, np.full_like(decode_label(path.read_bytes(), path.name), 255))
    with pytest.raises(SanError, match="no pixel of the 7 labels read belongs to a class: all are 255"):
        check_training_data(source_of(folder), CLASSES, 255)


def test_a_check_refuses_nothing() -> None:
    with pytest.raises(SanError, match="nothing to train on") as caught:
        check_training_data(PairSource((), 4, 255), CLASSES, 255)
    assert caught.value.code == ExitCode.NO_INPUT
