"""Request to `san predict`, and what of it can be checked before the model is loaded, cheap things first."""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from san_cli.datasets.bad_image import MAX_PIXELS
from san_cli.datasets.reading import AS_STORED, Reading, parse_bands, parse_range
from san_cli.engine.map_options import MapOptions, check_background, limits, parse_limit, shown_names
from san_cli.engine.onnx_file import is_onnx, read_description
from san_cli.engine.tiling import Tile, parse_tile
from san_cli.errors import SanError, did_you_mean
from san_cli.models.presets import get_preset, own_vocabulary
from san_cli.outputs.geojson import refuse_without_rasterio
from san_cli.outputs.places import SHARDS
from san_cli.outputs.tables import refuse_without_pyarrow
from san_cli.predict.inputs import Listing, discover
from san_cli.predict.lists import LONGEST_LIST, read_list_file
from san_cli.predict.output_names import KINDS, check_collisions
from san_cli.predict.result_tars import refuse_beside_shards
from san_cli.runs.processes import ALONE, Processes, meet, own_share
from san_cli.runs.schedulers import SAN_SHARD, given_share
from san_cli.runs.shares import Share, parse_shard
from san_cli.runs.voice import Voice
from san_cli.text import nearest, quoted
from san_cli.vocabulary.grammar import Vocabulary, parse_vocabulary, select_entries
from san_cli.vocabulary.terms import as_term, word_key

_KINDS_ELSEWHERE = {  # what people ask for by its format, or by another program's word
    **dict.fromkeys(("png", "label", "map", "labelmap", "seg"), "labels"),
    **dict.fromkeys(("jpg", "jpeg", "image", "images", "vis", "visualization", "color", "colour"), "overlay"),
    **dict.fromkeys(("coco", "rle", "annotations", "predictions"), "json"),
    **dict.fromkeys(("polygon", "polygons", "coco-polygon", "coco_polygons", "roboflow"), "coco-polygons"),
    **dict.fromkeys(("ultralytics", "yolov5", "yolov8", "yolo11", "yolo-seg", "txt"), "yolo"),
    **dict.fromkeys(("x-anylabeling", "xanylabeling", "anylabeling", "json-labelme"), "labelme"),
    **dict.fromkeys(("labelstudio", "label_studio", "ls"), "label-studio"),
    **dict.fromkeys(("mask", "binary", "binary-masks"), "masks"),
    **dict.fromkeys(("cutout", "crop", "crops", "rgba", "sprites"), "cutouts"),
    **dict.fromkeys(("confidence", "score", "uncertainty", "heatmap"), "scores"),
    **dict.fromkeys(("csv", "areas", "tables", "excel", "xlsx"), "table"),
    **dict.fromkeys(("gray", "grey", "labels-grey", "labels_gray", "mono"), "labels-gray"),
    **dict.fromkeys(("page", "gallery", "report", "web"), "html"),
    **dict.fromkeys(("vector", "shapes", "shapefile", "gis", "qgis"), "geojson"),
    **dict.fromkeys(("tar", "shard", "webdataset", "wds", "archive"), SHARDS),
    **dict.fromkeys(("tif", "tiff", "geotiff", "geotif"), "labels"),
    "all": "overlay,labels,json,html,labels-gray,scores,table",  # not what needs more, nor what one tool reads
}
_FILE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".gif"),
    *(".json", ".jsonl", ".geojson", ".html", ".zip"),
)


@dataclass(frozen=True)
class Inputs:
    """The images to segment, and how their files are read."""

    arguments: Sequence[str]
    recursive: bool = True
    exclude: Sequence[str] = ()
    null: bool = False
    limit: int | None = None
    range: str | None = None
    bands: str | None = None
    max_pixels: int = MAX_PIXELS
    max_bytes: int | None = None  # of a file; None: as many as its pixels can account for
    lists: Sequence[str] = ()  # files with paths: FILE or FILE:COLUMN


@dataclass(frozen=True)
class Words:
    """The classes to find, and which pixels stay without one."""

    vocab: Sequence[str] | None = None  # expressions
    show: Sequence[str] | None = None
    background: str | None = None
    min_score: str = "0"
    templates: str | Sequence[str] = "vild"  # their name, or themselves
    min_confidence: str = "0"
    only: Sequence[str] | None = None
    min_area: int = 0
    verbose: bool = False  # say what competes
    taken_over: Vocabulary | None = None  # another run's, in the place of what `vocab` or `only` says


@dataclass(frozen=True)
class Model:
    """The model to segment with, and how it looks at a picture."""

    name: str | None = None
    weights: str | None = None
    device: str = "auto"
    precision: str = "auto"
    compile: bool = False
    tile: str = "off"
    backend: str = "auto"


@dataclass(frozen=True)
class Plan:
    """Place of the results, and the way the work is done; of the latter nothing but `batch` changes the results."""

    output: Path
    save: str = ",".join(KINDS[:3])
    regions: bool = False
    simplify: float = 0.0
    jsonl: bool = False
    overwrite: bool = False
    fail_fast: bool = False
    batch: int = 1
    workers: int | None = None
    shard: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Job:
    """Work to do on every image."""

    vocabulary: Vocabulary
    options: MapOptions
    save: tuple[str, ...]  # of output_names.KINDS
    batch: int = 1
    max_pixels: int = MAX_PIXELS
    max_bytes: int | None = None
    reading: Reading = AS_STORED
    tile: Tile | None = None
    regions: bool = False  # one annotation for each region
    simplify: float = 0.0  # pixels

    @property
    def classes(self) -> tuple[str, ...]:
        """The names that label maps index."""
        return shown_names(self.vocabulary, self.options)


def saved_kinds(save: str) -> tuple[str, ...]:
    """List the kinds of results that `--save` names, in their usual order.

    SanError for what is none, for Parquet without pyarrow, and for GeoJSON without rasterio.
    """
    asked = [kind.strip().lower() for kind in save.split(",")]
    if asked in ([""], ["none"]):
        return ()
    for kind in asked:
        if kind not in KINDS:
            near = _KINDS_ELSEWHERE.get(kind) or nearest(kind, KINDS)
            hint = did_you_mean(near, f"There are {', '.join(KINDS)}, or none.")
            raise SanError(f"--save knows no '{kind}'", hint=hint)
    refuse_beside_shards(asked)
    if "parquet" in asked:
        refuse_without_pyarrow()
    if "geojson" in asked:
        refuse_without_rasterio()
    return tuple(kind for kind in KINDS if kind in asked)


def job_of(inputs: Inputs, words: Words, model: Model, plan: Plan, voice: Voice) -> Job:
    """Return the work that is asked for on every image; SanError for options that can't be meant."""
    save = saved_kinds(plan.save)
    reading, tile = reading_of(inputs), parse_tile(model.tile)
    vocabulary, options = parse_words(words, model, voice, keep_scores="scores" in save, dry_run=plan.dry_run)
    return Job(
        vocabulary, options, save, plan.batch, inputs.max_pixels, inputs.max_bytes, reading, tile,
        plan.regions, plan.simplify,
    )  # fmt: skip


def check_output_name(output: Path) -> None:
    """Raise SanError for a folder of results by the name of a file: somebody expects a file there."""
    if str(output) == "-":
        raise SanError("-o names a folder", hint="What goes to stdout is --jsonl.")
    if output.suffix.lower() in _FILE_SUFFIXES and not output.is_dir():
        raise SanError(
            f"-o names a folder for all results, and {quoted(output)} would be one",
            hint="Name a folder: the overlay of cat.jpg is written there as cat.overlay.jpg, its label map as "
            "cat.labels.png.",
        )


def reading_of(inputs: Inputs) -> Reading:
    """Return what `--range` and `--bands` say; SanError for what can't be meant."""
    return Reading(
        None if inputs.range is None else parse_range(inputs.range),
        None if inputs.bands is None else parse_bands(inputs.bands),
    )


def our_share(plan: Plan, voice: Voice) -> tuple[Share, Processes]:
    """Return our share of the list, and the processes that torchrun started with us, if it did.

    With `--shard auto` it is what the environment gives, told.
    """
    if plan.shard is None:
        processes = meet()
        if processes.world == 1 and SAN_SHARD in os.environ:  # a job array may be over folders, this can't
            voice.note(f"the whole list is done: {SAN_SHARD} counts with --shard auto")
        return processes.share, processes
    auto = plan.shard.strip().lower() == "auto"
    if auto:
        given = given_share()
        if own_share().count > 1:
            processes = meet()
            if processes.leads:
                voice.tell(f"the list is shared out by torchrun, over {processes.world} processes")
            return processes.share, processes
        share = given.share
        voice.tell(f"share {share}, by {given.by}")
    else:
        if own_share().count > 1:
            raise SanError("--shard can't be combined with torchrun, which splits the list itself")
        share = parse_shard(plan.shard)
    if plan.overwrite:
        raise SanError(
            "--overwrite can't be combined with --shard: no shard knows which results of others are old",
            hint="Choose a new folder with -o.",
        )
    return share, ALONE


def parse_words(
    words: Words, model: Model, voice: Voice, *, keep_scores: bool, dry_run: bool = False
) -> tuple[Vocabulary, MapOptions]:
    """Parse the vocabulary, by default that of the model's world, and what is made of it in a label map.

    SanError for an unknown model, and for words that are none or not in the vocabulary.
    """
    _refuse_other_words(words)
    vocabulary = words.taken_over or parse_vocabulary(
        list(words.only or words.vocab or [_own_words(model, voice, dry_run=dry_run)])
    )
    for text in vocabulary.notes:
        voice.note(text)

    # "No object" competes under a name that no class has.
    options = MapOptions(
        parse_limit("--min-score", words.min_score),
        words.background,
        _shown(words, vocabulary),
        keep_scores=keep_scores,
        min_confidence=parse_limit("--min-confidence", words.min_confidence, 1.0),
        only=bool(words.only),
        min_area=words.min_area,
    )
    check_background(vocabulary, options)
    for limit in (options.min_score, options.min_confidence):
        limits(vocabulary, options, limit)

    # Of few classes one wins everywhere, which surprises.
    limited = options.min_score or options.min_confidence
    if len(vocabulary) <= 3 and not (words.background or words.show or words.only or limited):
        must, them = f"one of {len(vocabulary)} classes", "them"
        if len(vocabulary) == 1:
            must, them = "of the one class", "it"
        terms = ",".join("|".join(map(as_term, entry.words)) for entry in vocabulary.entries)
        if vocabulary.learned:  # which their names alone wouldn't be
            terms = ",".join(words.vocab or [])
        terms = shlex.quote(terms)
        voice.note(
            f"every pixel must be {must}; to find {them} among everything else, instead of --vocab: --only {terms}"
        )
    return vocabulary, options


def _refuse_other_words(words: Words) -> None:
    """Raise SanError for what `--only`, a whole vocabulary, leaves nothing to say."""
    if not words.only:
        return
    if words.vocab:
        raise SanError(
            "--only is a whole vocabulary, and so is --vocab",
            hint="Leave --vocab out; or, to let its classes compete, --vocab … --show … without --only.",
        )
    for option, value in (("--show", words.show), ("--background", words.background)):
        if value:
            raise SanError(
                f"{option} would change nothing: --only shows its own words, and lets no object compete",
                hint=f"Leave {option} out.",
            )


def _own_words(model: Model, voice: Voice, *, dry_run: bool) -> str:
    """Name the vocabulary of the model's world: emoji for tiny and what was trained on from it, coco for others.

    A file on the hub is fetched for that, unless it is a `dry_run`.
    """
    if model.name is not None or model.weights is None:
        preset = get_preset(model.name or "vit-b-16")
    else:
        from san_cli.weights.find import named_file, named_or_source

        is_folder = Path(model.weights).is_dir()  # which file is taken of it is told when that is loaded
        say = (lambda _: None) if is_folder else voice.warn
        path = (named_or_source if dry_run else named_file)(model.weights, say=say)
        if not isinstance(path, Path):
            voice.note(
                "which words are its own shows once it is here: coco is assumed (--vocab names others)"
            )
            return "coco"
        ours = is_onnx(path) or path.suffix == ".safetensors"
        if not ours or not path.is_file():  # the published .pth are of photographs
            return "coco"
        from san_cli.weights.adapter import read_preset

        try:
            preset = read_description(path).preset if is_onnx(path) else read_preset(path)
        except SanError:  # which is told when the weights are looked at
            return "coco"
    return own_vocabulary(preset)


def _shown(words: Words, vocabulary: Vocabulary) -> tuple[str, ...] | None:
    """Return the names of the classes that `--show` keeps, None for all."""
    if not words.show:
        return None
    nothing = [
        word for word in words.show if words.background and word_key(word) == word_key(words.background)
    ]
    named = select_entries(vocabulary, [word for word in words.show if word not in nothing])
    return *(vocabulary.names[index] for index in named), *nothing[:1]


def list_images(inputs: Inputs, output: Path, processes: Processes, voice: Voice) -> Listing:
    """List the images that the arguments stand for; SanError where two would have one result."""
    if inputs.null and "-" not in inputs.arguments and not inputs.lists:
        voice.note("-0 is about a list on stdin, and there is no INPUT - that reads one")
    listing = discover(
        [*inputs.arguments, *(read_list_file(one, inputs.null, voice.note) for one in inputs.lists)],
        recursive=inputs.recursive,
        stdin=_stdin(processes) if "-" in inputs.arguments else None,
        null_separated=inputs.null,
        exclude=inputs.exclude,
        output=output,
        say=voice.note,
    )
    listing = Listing(listing.images[: inputs.limit], listing.failures)
    check_collisions(listing.images, output)
    return listing


def _stdin(processes: Processes) -> BinaryIO | None:
    """Return the list on stdin; of several processes only the leading one reads it and tells the others."""
    stdin = None if sys.stdin is None else sys.stdin.buffer
    if processes.world == 1 or stdin is None:
        return stdin
    return BytesIO(processes.from_leader("stdin", lambda: stdin.read(LONGEST_LIST + 1)))
