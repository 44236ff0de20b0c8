"""`san vocab learn` from what was asked for to the file of words."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from san_cli.datasets.source import PairSource
from san_cli.datasets.task import OwnData, Task, own_task
from san_cli.errors import ExitCode, SanError
from san_cli.models.presets import own_vocabulary
from san_cli.runs.voice import Voice
from san_cli.text import printable, quoted
from san_cli.vocabulary.grammar import Vocabulary, format_vocabulary, parse_vocabulary, select_entries
from san_cli.vocabulary.learned_words import WordsFile, is_words_file, read_words_file, write_words_file
from san_cli.vocabulary.terms import as_term, shown, word_key

if TYPE_CHECKING:
    from san_cli.engine.segmenter import Segmenter
    from san_cli.learn.picture import Picture
    from san_cli.learn.words import Taught

WHOLE = 0.9  # of all pixels: a word with more has little that it can be told from
MOST = 200  # pictures: their masks stay in memory
_IDS = 1 << 16  # that a label can hold


@dataclass(frozen=True)
class Wanted:
    """What to learn, from what, with which model."""

    data: OwnData
    output: Path | None  # None: --dry-run
    teach: Sequence[str] | None = None  # terms; None: all classes of the labels
    vocab: Sequence[str] | None = None  # what else competes; None: the model's own vocabulary
    limit: int | None = None
    model: str | None = None
    weights: str | None = None
    device: str = "auto"
    templates: str = "vild"


@dataclass(frozen=True)
class Shown:
    """How much of a class there is in the pictures."""

    name: str
    pictures: int
    pixels: int


def survey(wanted: Wanted, voice: Voice) -> list[Shown]:
    """Count the pixels of each class to be learned (`--dry-run`). SanError where that can't be, see `_task`."""
    task, taught = _task(wanted, voice)
    source = PairSource(task.pairs, len(task.classes), task.ignore_label)
    pixels = np.zeros((len(source), len(task.classes)), np.int64)
    total = 0
    with voice.progress("pictures", len(source)) as step:
        for index in range(len(source)):
            _, labels, _ = source.read(index)
            counts = np.bincount(labels.ravel(), minlength=_IDS)
            if task.ignore_label < _IDS:
                counts[task.ignore_label] = 0
            pixels[index] = counts[: len(task.classes)]
            total += labels.size
            step(index + 1)
    shown = [
        Shown(task.classes[one], int((pixels[:, one] > 0).sum()), int(pixels[:, one].sum())) for one in taught
    ]
    _tell_rest(1 - pixels.sum() / total, {one.name: one.pixels / total for one in shown}, voice)
    return shown


def learn(wanted: Wanted, voice: Voice) -> "list[Taught]":
    """Learn words and write their file. SanError where that can't be, before anything is written."""
    assert wanted.output is not None
    _check_output(wanted.output)
    task, taught = _task(wanted, voice)
    groups = [task.vocabulary.entries[one].words for one in taught]
    _refuse_loss(wanted.output, groups)

    # Importing torch takes seconds: only now.
    from san_cli.engine.segmenter import Segmenter
    from san_cli.learn.words import teach

    segmenter = Segmenter.load(
        wanted.model, wanted.weights, device=wanted.device, precision="fp32", templates=wanted.templates,
        say=voice.warn,
    )  # fmt: skip
    competing = parse_vocabulary(list(wanted.vocab or [own_vocabulary(segmenter.preset)]))
    for note in competing.notes:
        voice.note(note)
    vocabulary = parse_vocabulary([format_vocabulary(one) for one in (competing, task.vocabulary)])
    place = _places(task.vocabulary, vocabulary)
    # What is taught again begins as the plain word; what was learned before and isn't taught competes as it is.
    again = {word for one in taught for word in vocabulary.entries[place[one]].words}
    vocabulary = replace(vocabulary, learned=tuple(one for one in competing.learned if one.word not in again))
    with voice.progress("embedding words", len(vocabulary.words)) as step:
        start = segmenter.embed(vocabulary, step).double().cpu().mean(dim=0)

    # The network sees each picture once; all words are then learned from what it saw.
    pictures = _pictures(segmenter, vocabulary, task, place, voice)
    cells = sum(picture.labels.size for picture in pictures)
    unlabelled = sum(int((picture.labels < 0).sum()) for picture in pictures)
    temperature = float(segmenter.model.logit_scale.exp())
    found = []
    with voice.progress("learning words", len(taught)) as step:
        for number, one in enumerate(taught, start=1):
            found.append(teach(pictures, int(place[one]), task.classes[one], start, temperature))
            step(number)
    if not any(one.pictures for one in found):
        names = ", ".join(printable(one.name) for one in found[:5])
        raise SanError(
            f"no picture shows {names}", hint="--dry-run lists what they show.", code=ExitCode.NO_INPUT
        )
    _tell_rest(unlabelled / cells, {one.name: one.cells / cells for one in found}, voice)
    _write(wanted.output, segmenter, groups, found)
    return found


def _check_output(path: Path) -> None:
    """Raise SanError where the file can't be meant, or its place can't be written."""
    if path.is_dir():
        raise SanError(
            f"{quoted(path)} is a folder", hint=f"Name a file: -o {printable(str(path / 'mine.words'))}"
        )
    if path.exists() and not is_words_file(path):
        raise SanError(
            f"{quoted(path)} is there, and no file of learned words: it is left as it is",
            hint="Name another file with -o.",
        )
    if not path.absolute().parent.is_dir():
        raise SanError(
            f"there is no folder {quoted(path.absolute().parent)}", hint="Make it, or name another file."
        )
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise SanError(f"{quoted(path)} can't be written", hint="Name a file that can, with -o.")


def _refuse_loss(path: Path, groups: Sequence[tuple[str, ...]]) -> None:
    """Raise SanError where the file at `path` has learned words that aren't taught again: they would be gone."""
    if not path.exists():
        return
    try:
        before = read_words_file(path)
    except SanError:
        return  # damaged: nothing of it can be used
    again = {word_key(word) for words in groups for word in words}
    lost = [
        before.groups[index][0]
        for index in before.rows
        if again.isdisjoint(map(word_key, before.groups[index]))
    ]
    if lost:
        some = ", ".join(shown(name) for name in lost[:3]) + (" …" if len(lost) > 3 else "")
        raise SanError(
            f"{quoted(path)} has learned words that are not taught now, and would be lost: {some}",
            hint="Name another file with -o: --vocab takes several, @FILE+@FILE.",
        )


def _tell_rest(unlabelled: float, share: Mapping[str, float], voice: Voice) -> None:
    """Say what pixels of no class are taken for, and which words have nothing beside them; all are shares, 0…1."""
    if unlabelled >= 0.005:
        voice.note(
            f"{100 * unlabelled:.0f} % of the pixels have none of the classes: here they count, as something else"
        )
    whole = [printable(name) for name, part in share.items() if part > WHOLE]
    if whole:
        voice.note(
            f"{', '.join(whole)} covers nearly all of the pictures: they show nothing to tell it from; "
            "are the labels meant like that?"
        )


def _task(wanted: Wanted, voice: Voice) -> tuple[Task, tuple[int, ...]]:
    """Pair the pictures, and find the ids of the classes to learn. SanError where that can't be, or they are many."""
    task = own_task(wanted.data, limit=wanted.limit, say=voice.note)
    for note in task.notes:
        voice.note(note)
    if not task.pairs:
        raise SanError("there are no labelled pictures", code=ExitCode.NO_INPUT)
    if len(task.pairs) > MOST:
        raise SanError(
            f"words are learned from a few pictures, {MOST} at most, and here are {len(task.pairs):,}",
            hint=f"--limit {MOST} takes the first; with so many `san train --init-from` learns more.",
        )
    if not wanted.teach:
        return task, tuple(range(len(task.classes)))
    return task, select_entries(task.vocabulary, wanted.teach)


def _places(classes: Vocabulary, vocabulary: Vocabulary) -> NDArray[np.int32]:
    """Return the vocabulary's class for each label value [65536], -1 for none. SanError where two become one."""
    owner = {word_key(word): index for index, entry in enumerate(vocabulary.entries) for word in entry.words}
    place = np.full(_IDS, -1, np.int32)
    for value, entry in enumerate(classes.entries):
        index = owner[word_key(entry.name)]
        if index in place:
            other = classes.names[int((place == index).argmax())]
            removal = printable(as_term(entry.name))
            raise SanError(
                f"{shown(other)} and {shown(entry.name)} are two classes of your labels, and one of --vocab",
                hint=f"End --vocab with +-{removal}: the classes of the labels are added to it.",
            )
        place[value] = index
    return place


def _pictures(
    segmenter: "Segmenter", vocabulary: Vocabulary, task: Task, place: NDArray[np.int32], voice: Voice
) -> "list[Picture]":
    """Run the network on each picture; values of labels are classes of the vocabulary by `place`."""
    from san_cli.learn.picture import look_at

    source = PairSource(task.pairs, len(task.classes), task.ignore_label)
    if task.ignore_label < len(task.classes):
        place = place.copy()
        place[task.ignore_label] = -1
    pictures = []
    with voice.progress("pictures", len(source)) as step:
        for index in range(len(source)):
            image, labels, name = source.read(index)
            pictures.append(look_at(segmenter, vocabulary, image, labels, place, name))
            step(index + 1)
    return pictures


def _write(
    path: Path, segmenter: "Segmenter", groups: Sequence[tuple[str, ...]], found: "Sequence[Taught]"
) -> None:
    """Write the file of all taught classes; SanError where it can't be."""
    rows = {index: one.row.numpy() for index, one in enumerate(found) if one.row is not None}
    told = {"taught": [facts(one) for one in found]}
    file = WordsFile(segmenter.preset.name, segmenter.hashes[0], tuple(groups), rows, told)
    try:
        write_words_file(file, path)
    except OSError as error:
        raise SanError(
            f"{quoted(path)} can't be written ({error.strerror or error})", code=ExitCode.SOME_FAILED
        ) from error


def facts(one: "Taught") -> dict[str, object]:
    """Return what became of a word as JSON, without its row."""
    return {
        "name": one.name,
        "learned": one.row is not None,
        "pictures": one.pictures,
        "shapes": one.examples,
        "iou_plain": round(one.plain, 4),
        "iou_learned": None if one.learned is None else round(one.learned, 4),
    }
