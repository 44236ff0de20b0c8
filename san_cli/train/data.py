"""The data of a training and of its evaluations, from a catalogue name or the user's own folders."""

from dataclasses import dataclass, replace
from pathlib import Path

from san_cli.datasets.catalogue import EMOJI
from san_cli.datasets.emoji.pairs import SIZE
from san_cli.datasets.emoji.source import IGNORE_LABEL, EmojiSource
from san_cli.datasets.source import PairSource, Source
from san_cli.datasets.task import OwnData, Task, dataset_task, own_task
from san_cli.errors import ExitCode, SanError
from san_cli.models.presets import PAD_TO, Preset
from san_cli.train.augment import Augmentation
from san_cli.train.plan import Data
from san_cli.train.recipe import Recipe
from san_cli.vocabulary.emoji_concepts import concepts, seen_ids
from san_cli.vocabulary.grammar import Vocabulary, vocabulary_of_names

_EMOJI_SCENES = 1_000_000  # an epoch, if anyone gets so far
_TRAINING_SEED, _CHECK_SEED = 1, 2  # evaluation has its own, see `san_cli.datasets.emoji`


@dataclass(frozen=True)
class TrainingData:
    """Labelled images, and the words for their classes."""

    name: str  # the catalogue's, or "own"
    source: Source
    validation: Source
    validation_name: str
    vocabulary: Vocabulary
    ignore_label: int
    notes: tuple[str, ...] = ()  # for the user
    ignored: tuple[int, ...] | None = None  # own labels' values that don't count, see `Task`
    relabelled: tuple[str, ...] = ()  # entries of --label-map
    drawings: str | None = None  # SHA-256 of drawn labels


def training_data(data: Data) -> TrainingData:
    """Find the data that were asked for. SanError where they aren't there, or don't go together."""
    if data.own is not None:
        return own_data(data.own, data.held_out, data.limit)
    assert data.name is not None
    if data.name.casefold() == EMOJI:
        return emoji_data(data.limit)
    return catalogue_data(data.name, data.root, data.limit)


def catalogue_data(name: str, root: Path | None, limit: int | None) -> TrainingData:
    """Find a dataset's training split, checked on its validation split where that is there, too."""
    train = dataset_task(name, root, split="train", limit=limit)
    try:
        return _data(train, dataset_task(name, root))
    except SanError as fault:
        if fault.code != ExitCode.NO_INPUT:
            raise
        note = f"evaluated on the training images, as there is no validation split ({fault.message})"
        return replace(_data(train, train), notes=(note,))


def own_data(own: OwnData, held_out: tuple[Path, Path] | None, limit: int | None) -> TrainingData:
    """Pair the user's files; checked on `held_out` images and labels, otherwise on the training images."""
    notes: list[str] = []
    train = own_task(own, limit=limit, say=notes.append)
    check = train
    if held_out is not None:
        groups = tuple(entry.words for entry in train.vocabulary.entries)
        check = own_task(replace(own, images=held_out[0], labels=held_out[1], groups=groups))
    return replace(_data(train, check), notes=(*notes, *train.notes))


def emoji_data(limit: int | None) -> TrainingData:
    """Scenes of the seen concepts alone, as large as those of the evaluation; checked on others of the same kind."""
    wanted = seen_ids()
    names = [concepts()[index].name for index in wanted]
    return TrainingData(
        EMOJI,
        EmojiSource(_TRAINING_SEED, wanted, SIZE, limit or _EMOJI_SCENES),
        EmojiSource(_CHECK_SEED, wanted, SIZE, 10_000),
        "new scenes of the seen concepts",
        vocabulary_of_names(names),
        IGNORE_LABEL,
    )


def _data(train: Task, check: Task) -> TrainingData:
    classes = len(train.vocabulary)
    name = f"{check.name} {check.split}" if check.name != "own" else "the validation images"
    name = "the training images" if check is train else name
    return TrainingData(
        train.name,
        PairSource(train.pairs, classes, train.ignore_label),
        PairSource(check.pairs, classes, check.ignore_label),
        name,
        train.vocabulary,
        train.ignore_label,
        ignored=train.ignored,
        relabelled=train.relabelled,
        drawings=train.drawings,
    )


def augmentation_of(recipe: Recipe, preset: Preset) -> Augmentation:
    """Return the recipe's augmentation at the preset's input size: crops of that size, short sides in proportion."""
    size = preset.input_size
    if size % PAD_TO:
        raise SanError(f"can't train at an input of {size} pixels", hint=f"Take a multiple of {PAD_TO}.")
    between = recipe.short_side_range
    sides = recipe.short_side_choices if between is None else range(between[0], between[1] + 1)
    scaled = Augmentation(sides, colour=recipe.colour_jitter, flip=recipe.flip).scaled_to(size)
    if min(scaled.short_sides) < 1:
        raise SanError(f"short sides of {min(sides)} pixels at 640 are none at an input of {size}")
    return scaled
