"""`san vocab learn`: its options, one call, and what it prints."""

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from san_cli.cli import console, options
from san_cli.cli.misplaced import own_labels_given
from san_cli.cli.progress import voice_of
from san_cli.errors import SanError
from san_cli.text import counted, printable
from san_cli.vocabulary.terms import as_quoted_word

if TYPE_CHECKING:
    from san_cli.learn.words import Taught

Teach = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        help="Which classes of the labels to learn; the others are only something else. Default: all.",
        rich_help_panel=options.DATA,
    ),
]
Vocab = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TERMS",
        help="What competes: the vocabulary that the words will be used in, as `san predict` takes it. Default: "
        "coco, with the model tiny emoji.",
        rich_help_panel=options.VOCABULARY,
        autocompletion=options.complete_vocabulary,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Where the words go.", rich_help_panel=options.OUTPUT
    ),
]
DryRun = Annotated[
    bool, options.dry_run("Check the pictures and labels, and say how much of each class they show.")
]


def learn(
    images: options.Images = None,
    labels: options.Labels = None,
    classes: options.Classes = None,
    teach: Teach = None,
    ignore: options.Ignore = None,
    label_map: options.LabelMap = None,
    label_name: options.LabelName = None,
    image_name: options.ImageName = None,
    limit: Annotated[int | None, options.limit(options.DATA)] = None,
    vocab: Vocab = None,
    templates: options.Templates = "vild",
    model: options.Model = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    output: Output = None,
    as_json: Annotated[bool, options.json("Print JSON instead of the table.", options.OUTPUT)] = False,
    dry_run: DryRun = False,
    quiet: options.Quiet = False,
) -> None:
    """Teach words with a few labelled pictures: for what CLIP doesn't know by name.

    No network is trained: each word gets a row of its own, which stands for its text wherever the file is given as
    @FILE to --vocab, with the same model. A word that the model knows as well by its name stays a plain word. All
    other words keep their numbers to the bit.

    \b
    Examples:
      san vocab learn --images examples/scenes --labels examples/labels \\
        --classes examples/classes.txt --model tiny --dry-run
      san vocab learn --images few --labels few-labels --classes names.txt \\
        --vocab coco -o mine.words
      san predict photos --vocab coco+@mine.words
      san vocab learn --images few --labels labelme --classes names.txt \\
        --teach 'rust,crack' -o mine.words
    """
    if not own_labels_given(images, labels, classes) or images is None or labels is None:
        raise SanError(
            "nothing to learn from",
            hint="Give --images, --labels and --classes: a few pictures with their labels.",
        )
    if output is None and not dry_run:
        raise SanError("the words have no place to go", hint="Name a file for them: -o mine.words")

    from san_cli.datasets.own_pairs import ignored_values
    from san_cli.datasets.relabelling import read_relabelling
    from san_cli.datasets.task import OwnData
    from san_cli.learn.run import Wanted, facts, survey
    from san_cli.learn.run import learn as learn_words

    data = OwnData(
        images, labels, classes, ignored_values(ignore), image_name, label_name, read_relabelling(label_map)
    )
    wanted = Wanted(data, output, teach, vocab, limit, model, weights, device, templates)
    voice = voice_of(quiet, bars=not quiet and not as_json)
    if dry_run:
        shown = survey(wanted, voice)
        rows = [("class", "pictures", "pixels")]
        rows += [(printable(one.name), f"{one.pictures:,}", f"{one.pixels:,}") for one in shown]
        console.write(
            [json.dumps([vars(one) for one in shown], ensure_ascii=False, indent=1)]
            if as_json
            else console.aligned(rows)
        )
        return
    found = learn_words(wanted, voice)
    from san_cli.learn.words import KNOWN  # torch is there by now

    if as_json:
        console.write([json.dumps([facts(one) for one in found], ensure_ascii=False, indent=1)])
    else:
        table = [("class", "pictures", "shapes", "IoU by its name", "IoU learned", "")]
        console.write(line.rstrip() for line in console.aligned([*table, *map(_row, found)]))
    learned, file = [one for one in found if one.row is not None], printable(str(output))
    untried = [printable(one.name) for one in learned if one.pictures == 1]
    if untried:
        voice.note(f"one picture shows {', '.join(untried)}: how good the word is in others was not tried")
    poor = [printable(one.name) for one in learned if one.learned is not None and one.learned < KNOWN]
    if poor:
        voice.note(f"what the other pictures teach doesn't find {', '.join(poor)}: show it in more pictures")
    if learned:
        voice.tell(
            f"{file}: {len(learned):,} of {counted(len(found), 'class')} learned; use it as --vocab {_term(output)}"
        )
    else:
        voice.warn(f"no word was learned: {file} names plain words")


def _term(path: Path | None) -> str:
    """Write what gives the file to --vocab, for a shell."""
    name = str(path)
    return printable(
        shlex.quote("TERMS+@" + (as_quoted_word(name) if re.search(r"[+,|\"']", name) else name))
    )


def _row(one: "Taught") -> tuple[str, ...]:
    """Return a word's line of the table."""
    if one.row is not None:
        outcome = "learned"
    elif not one.pictures:
        outcome = "in no picture: its name stays"
    elif not one.examples:
        outcome = "no mask of the model fits it: its name stays"
    elif one.others < 2:
        outcome = "nothing else is in the pictures: its name stays"
    elif one.learned is None:
        outcome = "its name stays: it finds it, and one picture can't be tried on another"
    else:
        outcome = "its name stays: as good"
    learned = "" if one.learned is None else f"{one.learned:.2f}"
    plain = f"{one.plain:.2f}" if one.pictures else ""
    return printable(one.name), f"{one.pictures:,}", f"{one.examples:,}", plain, learned, outcome
