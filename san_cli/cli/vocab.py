"""`san vocab`: which vocabularies there are, which classes an expression stands for, how near they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from san_cli.cli import console, options
from san_cli.cli.learn import learn
from san_cli.cli.misplaced import refuse_idle
from san_cli.errors import SanError
from san_cli.text import printable
from san_cli.vocabulary.class_lists import DATASET_NAMES, load_dataset_vocabulary
from san_cli.vocabulary.grammar import Vocabulary, complete_vocabulary, format_lines, parse_vocabulary

if TYPE_CHECKING:
    from san_cli.engine.similarity import Similarity

app = typer.Typer(
    help="""List, show and compare vocabularies; teach words.

    \b
    Examples:
      san vocab list
      san vocab show coco+"golden retriever"+-person
    """,
    no_args_is_help=True,
)

app.command("learn")(learn)


@app.command("list")
def list_vocabularies(as_json: Annotated[bool, options.json("Print JSON.")] = False) -> None:
    """List the built-in vocabularies: name, number of classes, title.

    \b
    Examples:
      san vocab list
      san vocab list --json | jq -r '.[].name'
    """
    known = [load_dataset_vocabulary(name) for name in DATASET_NAMES]
    if as_json:
        rows = [{"name": one.name, "classes": len(one.classes), "title": one.title} for one in known]
        console.write([json.dumps(rows, ensure_ascii=False, indent=1)])
        return
    width = max(map(len, DATASET_NAMES))
    console.write(
        [f"{dataset.name:<{width}}  {len(dataset.classes):>3}  {dataset.title}" for dataset in known]
    )


@app.command("show")
def show_vocabulary(
    expression: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="What --vocab takes: dataset names, class names, a|b, @file.txt, joined by + or a comma; "
            "-name removes.",
            autocompletion=complete_vocabulary,
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="What competes, unseen, with `san predict --only NAMES`; needs the model, whose text tower tells "
            "which words mean the same.",
        ),
    ] = None,
    model: options.Model = None,
    weights: options.Weights = None,
    templates: options.Templates = "vild",
    as_json: Annotated[bool, options.json("Print JSON: each class with its words.")] = False,
) -> None:
    """Show the classes of a vocabulary, one per line: saved to a file, a vocabulary again (@file.txt).

    What a file was taken for, and what was merged, is said on stderr.

    \b
    Examples:
      san vocab show emoji
      san vocab show coco+"golden retriever"+-person
      san vocab show 'tv|television,sofa|couch'
      san vocab show @data.yaml > names.txt
      san vocab show --only dog,leash --model tiny
    """
    if bool(expression) == bool(only):
        hint = "Write `san vocab show coco`, or `san vocab show --only dog,leash`: words with commas between."
        raise SanError("one vocabulary is to be shown: NAME or --only", hint=hint)
    vocabulary = parse_vocabulary(expression or only or [])
    for text in vocabulary.notes:
        console.note(text)
    if only:
        vocabulary = _with_contrast(vocabulary, model, weights, templates)
    else:
        of_only = {
            "--model": model,
            "--weights": weights,
            "--templates": templates if templates != "vild" else None,
        }
        refuse_idle(of_only, "--only", idle=True)
    learned = ", ".join(map(printable, vocabulary.learned_names))
    if as_json:
        console.write([json.dumps(_classes(vocabulary), ensure_ascii=False, indent=1)])
        return
    if learned:
        console.note(f"learned, and plain words in a file of this list: {learned}")
    console.write(format_lines(vocabulary))


def _classes(vocabulary: Vocabulary) -> list[dict[str, object]]:
    """List the classes with their words; those with a learned one say so."""
    learned = set(vocabulary.learned_names)
    return [
        {
            "name": entry.name,
            "words": list(entry.words),
            **({"learned": True} if entry.name in learned else {}),
        }
        for entry in vocabulary.entries
    ]


@app.command("similarity")
def show_similarity(
    first: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The vocabulary to compare with, usually the training set's."),
    ],
    others: Annotated[list[str], typer.Argument(metavar="NAME", help="The vocabularies to compare.")],
    model: options.Model = None,
    weights: options.Weights = None,
    templates: options.Templates = "vild",
    device: options.Device = "auto",
    as_json: Annotated[bool, options.json("Print JSON.")] = False,
) -> None:
    """Compare vocabularies by their text embeddings (Table 1 of the paper).

    h(A → B) is the cosine between A's strangest class and what is nearest to it in B, the Hausdorff distance
    among cosines; H is the smaller of both directions; mean is over all classes of A. The paper used ViT-L/14.

    \b
    Examples:
      san vocab similarity coco emoji --model tiny
      san vocab similarity coco voc pc59 ade150 --model vit-l-14
    """
    parsed = [_parsed(expression) for expression in (first, *others)]

    from san_cli.cli.progress import progress
    from san_cli.engine.segmenter import Segmenter
    from san_cli.engine.similarity import first_word_rows, similarity

    segmenter = Segmenter.load(
        model, weights, device=device, precision="fp32", templates=templates, say=console.warn
    )
    embedded = []
    for vocabulary in parsed:
        with progress("embedding words", len(vocabulary.words)) as step:
            rows = segmenter.embed(vocabulary, step)
        embedded.append(rows[first_word_rows(vocabulary.word_indices)])
    found = [similarity(rows, embedded[0]) for rows in embedded[1:]]
    if as_json:
        triples = zip(others, found, parsed[1:], strict=True)
        table = [_as_json(name, first, one, vocabulary, parsed[0]) for name, one, vocabulary in triples]
        console.write([json.dumps(table, ensure_ascii=False, indent=1)])
        return
    width = max(len("vocabulary"), *map(len, others))
    lines = [
        f"{'vocabulary':<{width}}  h(→ {first})  h({first} →)      H   mean  strangest class, nearest in {first}"
    ]
    for name, one, vocabulary in zip(others, found, parsed[1:], strict=True):
        pair = f"{vocabulary.names[one.strangest]}, {parsed[0].names[one.nearest]}"
        lines.append(
            f"{name:<{width}}  {one.forward:>{len(first) + 5}.3f}  {one.backward:>{len(first) + 5}.3f}"
            f"  {one.symmetric:5.3f}  {one.mean:5.3f}  {pair}"
        )
    console.write(lines)


def _with_contrast(asked: Vocabulary, model: str | None, weights: str | None, templates: str) -> Vocabulary:
    """Return what competes for the asked words with `--only`; what is left out as too near is said on stderr."""
    from san_cli.cli.progress import progress
    from san_cli.engine.contrast import told
    from san_cli.engine.segmenter import Segmenter

    segmenter = Segmenter.load(
        model, weights, device="cpu", precision="fp32", templates=templates, say=console.warn
    )
    with progress("embedding words", len(asked)) as step:
        contrast = segmenter.contrast(asked, step)
    for line in told(contrast)[1:]:
        console.note(line)
    return contrast.competing


def _parsed(expression: str) -> Vocabulary:
    """Parse a vocabulary whose texts are to be compared."""
    vocabulary = parse_vocabulary([expression])
    for text in vocabulary.notes:
        console.note(text)
    if vocabulary.learned:
        console.note(
            f"texts are compared here, not learned rows: of {', '.join(map(printable, vocabulary.learned_names))}"
        )
    return vocabulary.as_plain()


def _as_json(
    name: str, first: str, one: Similarity, ours: Vocabulary, theirs: Vocabulary
) -> dict[str, object]:
    return {
        "vocabulary": name,
        "compared_with": first,
        "forward": one.forward,
        "backward": one.backward,
        "symmetric": one.symmetric,
        "mean": one.mean,
        "strangest": ours.names[one.strangest],
        "nearest": theirs.names[one.nearest],
    }
