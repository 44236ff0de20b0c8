"""Evaluation task: images with their labels, the classes of the labels, and the words for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from san_cli.datasets.catalogue import (
    BENCHMARKS,
    EMOJI,
    Pair,
    dataset_name,
    find_root,
    get_dataset,
    list_pairs,
)
from san_cli.errors import ExitCode, SanError
from san_cli.text import counted, printable, quoted
from san_cli.vocabulary.class_files import read_label_classes
from san_cli.vocabulary.class_lists import load_dataset_vocabulary
from san_cli.vocabulary.grammar import Vocabulary, VocabularyEntry, parse_vocabulary, vocabulary_of_names
from san_cli.vocabulary.terms import word_key

if TYPE_CHECKING:
    from san_cli.datasets.relabelling import Relabelling


_IN_PLACE = (
    "Name the labels' classes first, in their order, and the learned words after them: "
    "--vocab @names.txt+@FILE.words"
)


@dataclass(frozen=True)
class Task:
    """A dataset, or some of it."""

    name: str  # key of the catalogue, or "own"
    title: str
    split: str
    pairs: tuple[Pair, ...]
    classes: tuple[str, ...]  # the names of the label ids
    vocabulary: Vocabulary  # the words for each label id
    ignore_label: int
    dataset_ids: tuple[int, ...] | None = None  # by train id: what stands for it in prediction files
    expected: int | None = None  # images that the whole split is known to have
    own_words: bool = False  # the vocabulary is not the dataset's
    limited: bool = False
    notes: tuple[str, ...] = ()  # what a report has to say of the labels
    ignored: tuple[int, ...] | None = None  # values of own labels, all of which `ignore_label` stands for
    groups: tuple[tuple[str, tuple[int, ...]], ...] = ()  # classes whose mIoU is also given apart, by name
    relabelled: tuple[str, ...] = ()  # entries of --label-map
    drawings: str | None = None  # SHA-256 of drawn labels and of their classes

    @property
    def is_benchmark(self) -> bool:
        """Tell whether the numbers may stand beside published ones."""
        whole = not self.limited and (self.expected is None or self.expected == len(self.pairs))
        return self.name in BENCHMARKS and self.split == "val" and whole and not self.own_words


def _emoji_task(split: str, limit: int | None, words: Vocabulary | None) -> Task:
    """Make a task of scenes, or mosaics, of all concepts, the unseen ones among them, with all names competing."""
    from san_cli.datasets.emoji.pairs import MOSAICS, SPLITS, scene_pairs
    from san_cli.datasets.emoji.source import IGNORE_LABEL
    from san_cli.vocabulary.emoji_concepts import concepts, seen_ids, unseen_ids

    if split not in SPLITS:
        raise SanError(f"emoji has no split {quoted(split)}", hint=f"There are: {', '.join(SPLITS)}.")
    pairs = scene_pairs(split)
    names = tuple(concept.name for concept in concepts())
    return Task(
        EMOJI,
        "Mosaics of emoji scenes" if split == MOSAICS else "Emoji scenes",
        split,
        pairs[:limit],
        names,
        _words_for(names, words, EMOJI),
        IGNORE_LABEL,
        own_words=words is not None,
        limited=limit is not None and limit < len(pairs),
        groups=(("seen", seen_ids()), ("unseen", unseen_ids())),
    )


def dataset_task(
    name: str,
    data_root: str | Path | None,
    *,
    split: str | None = None,
    limit: int | None = None,
    words: Vocabulary | None = None,
) -> Task:
    """Make a task of a dataset. SanError where its tree is missing or `words` has another number of classes."""
    if dataset_name(name) == EMOJI:
        return _emoji_task(split or "val", limit, words)
    dataset = get_dataset(name)
    split = split or dataset.default_split
    if split not in dataset.splits:
        raise SanError(
            f"{dataset.name} has no split {quoted(split)}",
            hint=f"There are: {', '.join(dataset.splits)}.",
        )
    pairs = list_pairs(dataset, split, find_root(data_root))
    known = load_dataset_vocabulary(dataset.name).classes
    classes = tuple(one.name for one in known)
    ids = tuple(one.coco_category_id for one in known if one.coco_category_id is not None)
    return Task(
        dataset.name,
        dataset.title,
        split,
        pairs[:limit],
        classes,
        _words_for(classes, words, dataset.name),
        dataset.ignore_label,
        ids if dataset.uses_dataset_ids else None,
        dataset.splits[split].count,
        own_words=words is not None,
        limited=limit is not None and limit < len(pairs),
    )


@dataclass(frozen=True)
class OwnData:
    """A user's own labelled images: two folders, the file of the classes, and how to take them.

    Labels are label maps, or drawn (see `san_cli.datasets.annotations`); these may list their classes themselves.
    `ignored` values of label maps don't count; without them 255 doesn't, or 65535 where 255 is the id of a class.
    """

    images: Path
    labels: Path  # a folder, or a file with the drawn labels of all images
    classes: str | None  # a file, see `san_cli.vocabulary.class_files`
    ignored: tuple[int, ...] | None = None
    image_name: str | None = None  # patterns, see `san_cli.datasets.name_patterns`
    label_name: str | None = None
    relabelling: "Relabelling | None" = None  # of --label-map
    groups: tuple[tuple[str, ...], ...] | None = (
        None  # the classes with their synonyms, in the place of a file
    )


def own_task(
    data: OwnData,
    *,
    keep_going: bool = False,
    limit: int | None = None,
    words: Vocabulary | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Task:
    """Make a task of a user's own data; `keep_going` leaves out what has no partner.

    `say` is told what the file of classes was taken for. SanError where folders or classes are missing, images and
    labels are no pairs (NoPartner), or the labels can't be meant like that, see `own_survey` and `drawn_labels`.
    """
    from san_cli.datasets.annotations.find import drawn_beside, find_annotations

    groups = data.groups
    if groups is None and data.classes is not None:
        classes, class_notes = read_label_classes(data.classes)
        groups = classes.groups
        for note in class_notes:
            say(note)
    drawn = find_annotations(data.labels, data.images, data.label_name)
    if drawn is not None:
        from san_cli.datasets.drawn_labels import drawn_data

        found = drawn_data(drawn, data, groups, keep_going=keep_going, limit=limit, say=say)
        groups, default = found.groups, 255 if len(found.groups) <= 255 else 65535
        values: tuple[int, ...] = (default,)
        drawings: str | None = found.sha256
        pairs: tuple[Pair, ...] = found.pairs
        notes, total = found.notes, found.total
    else:
        if groups is None:
            raise SanError(
                "--images, --labels and --classes belong together",
                hint="Give all three; labels that list their classes (COCO, CVAT, YOLO with a data.yaml, Label "
                "Studio) need no --classes.",
            )
        default = 255 if len(groups) <= 255 else 65535
        values, drawings = ((default,) if data.ignored is None else data.ignored), None
        try:
            pairs, notes, total = _label_maps(data, groups, values, keep_going=keep_going, limit=limit)
        except SanError as fault:
            if fault.code != ExitCode.NO_INPUT:
                raise
            hint = fault.hint + drawn_beside(data.labels, data.images)
            raise type(fault)(fault.message, hint=hint, code=fault.code) from None
    own = Vocabulary(tuple(VocabularyEntry(group[0], group) for group in groups))
    return Task(
        "own",
        str(data.images),
        "own",
        pairs,
        own.names,
        own if words is None else _words_for(own.names, words, data.classes or str(data.labels)),
        values[0] if values else default,
        own_words=words is not None,
        limited=len(pairs) < total,
        notes=notes,
        ignored=values,
        relabelled=() if data.relabelling is None else data.relabelling.told,
        drawings=drawings,
    )


def _label_maps(
    data: OwnData,
    groups: Sequence[Sequence[str]],
    values: tuple[int, ...],
    *,
    keep_going: bool,
    limit: int | None,
) -> tuple[tuple[Pair, ...], tuple[str, ...], int]:
    """Pair images with label maps: the pairs, notes, and how many there are without the limit."""
    from san_cli.datasets.own_pairs import list_own_pairs
    from san_cli.datasets.own_survey import survey_images, survey_labels
    from san_cli.datasets.relabelling import id_change

    change = None if data.relabelling is None else id_change(data.relabelling, groups, values)
    found = list_own_pairs(
        data.images,
        data.labels,
        ignored=values,
        change=change,
        image_name=data.image_name,
        label_name=data.label_name,
        keep_going=keep_going,
    )
    names = [group[0] for group in groups]
    pairs = found.pairs[:limit]
    said = data.ignored is not None or (change is not None and change.says_what_counts)
    surveyed = survey_labels(data.labels, pairs, names, values, said=said)
    uncounted = [
        f"the pixels of {printable(names[value])} do not count, as {value} is ignored"
        for value in values
        if value < len(names)
    ]
    notes = (*found.notes, *uncounted, *surveyed, *survey_images(pairs))
    return pairs, notes, len(found.pairs)


def other_words(vocab: Sequence[str] | None, synonyms: str | None) -> Vocabulary | None:
    """Read the words that `--vocab` or `--synonyms` give instead of a dataset's own; None where neither is given."""
    from san_cli.vocabulary.synonyms import read_synonyms

    if vocab and synonyms:
        raise SanError("--vocab and --synonyms both name the words of the classes", hint="Give one of them.")
    if synonyms:
        return read_synonyms(synonyms)
    return parse_vocabulary(vocab) if vocab else None


def _words_for(classes: Sequence[str], words: Vocabulary | None, what: str) -> Vocabulary:
    """Check that `words` are as many as the classes of the labels; these themselves where there are none."""
    if words is None:
        return vocabulary_of_names(classes)
    if len(words) != len(classes):
        first, last = printable(words.names[0]), printable(words.names[-1])
        raise SanError(
            f"the words given make {counted(len(words), 'class')} ({first} … {last}), the labels of "
            f"{printable(what)} have {len(classes)}",
            hint=_IN_PLACE
            if words.learned
            else "Give one class for each label id, in their order; a class named twice counts once. "
            "`san vocab show` lists what an expression comes to.",
        )
    if words.learned:
        _refuse_other_order(classes, words)
    return words


def _refuse_other_order(classes: Sequence[str], words: Vocabulary) -> None:
    """Raise SanError where a class of the labels has its name in another place: a file has an order of its own."""
    places = {word_key(word): place for place, entry in enumerate(words.entries) for word in entry.words}
    for place, name in enumerate(classes):
        other = places.get(word_key(name), place)
        if other != place:
            raise SanError(
                f"the labels' class {place} is {quoted(name)}, and the words given have that as class {other}",
                hint=_IN_PLACE,
            )
