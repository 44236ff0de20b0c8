"""The model card of weights that are shared: what a repository on the hub says of them on its front page."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from san_cli.files import read_regular
from san_cli.models.presets import Preset
from san_cli.text import counted, printable

_BASE = {  # CLIP's own pages there, by open_clip's names
    "ViT-B-16-quickgelu": "openai/clip-vit-base-patch16",
    "ViT-L-14-336-quickgelu": "openai/clip-vit-large-patch14-336",
}
_PAPER = "https://arxiv.org/abs/2302.12242"


def model_card(
    repo: str, preset: Preset, metadata: Mapping[str, str], *, adapter: bool, license: str, run: Path | None
) -> str:
    """Write the card as Markdown with a YAML head.

    `metadata` is what the weights' own header says (what it was trained on, how it was scored), `run` the folder of
    the training that they come from, if it is known: its settings tell how many classes there were.
    """
    parts = [
        _head(preset, license),
        f"# {printable(repo.partition('/')[2])}",
        f"Open-vocabulary semantic segmentation: the [Side Adapter Network]({_PAPER}), which gives every pixel of a "
        "picture one of the words that it is asked for. "
        + (
            "This is the side adapter alone, to be loaded on the CLIP that it was trained beside."
            if adapter
            else "The file is a whole model, its CLIP included."
        ),
        _facts(preset, metadata, run),
        _scores(metadata),
        "## Use\n\n"
        "With `san`, which implements the paper for the command line:\n\n"
        "```sh\n"
        f"san predict photos --weights hf:{repo} --vocab 'a dog, grass, sky'\n"
        "```",
        "Written by `san weights push`. What is known of the data, and what the model can't do, belongs here, too.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(preset: Preset, license: str) -> str:
    base = _BASE.get(preset.clip.open_clip_name)
    lines = [
        "---",
        f"license: {json.dumps(license)}",
        "library_name: san-seg",
        "pipeline_tag: image-segmentation",
        *([f"base_model: {base}"] if base else []),
        "tags:",
        *(f"- {tag}" for tag in ("semantic-segmentation", "open-vocabulary", "clip", "side-adapter-network")),
        "---",
    ]
    return "\n".join(lines)


def _facts(preset: Preset, metadata: Mapping[str, str], run: Path | None) -> str:
    settings = _settings(run)
    data = metadata.get("trained_on", "")
    rows = {
        "model": f"{preset.name}, side adapter at {preset.input_size} pixels",
        "trained on": "labels of its owner's" if data == "own" else data,
        "classes in training": counted(classes, "class")
        if isinstance(classes := settings.get("data", {}).get("classes"), int)
        else "",
        "images in training": f"{images:,}"
        if isinstance(images := settings.get("data", {}).get("images"), int)
        else "",
        "iterations": metadata.get("iterations", ""),
        "converted from": metadata.get("source", ""),
    }
    lines = [f"| {name} | {_cell(value)} |" for name, value in rows.items() if value]
    return "\n".join(["| | |", "|---|---|", *lines])


def _scores(metadata: Mapping[str, str]) -> str:
    """Write the evaluation that made it its training's best, which stands in the weights' own header."""
    row: Any = None
    with suppress(KeyError, ValueError, RecursionError):
        row = json.loads(metadata["evaluation"])
    if not isinstance(row, dict) or not isinstance(row.get("mIoU"), int | float):
        return ""
    names = {"mIoU": "mIoU %", "mACC": "mACC %", "pACC": "pixel accuracy %"}
    found = {title: row[name] for name, title in names.items() if isinstance(row.get(name), int | float)}
    images = f" on {counted(row['images'], 'image')}" if isinstance(row.get("images"), int) else ""
    return "\n".join(
        [
            "## Scores in training\n",
            f"The best evaluation in its training, after {row.get('iteration', '?')} iterations{images}:\n",
            f"| {' | '.join(found)} |",
            "|" + "---:|" * len(found),
            f"| {' | '.join(f'{value:.2f}' for value in found.values())} |",
        ]
    )


def _settings(run: Path | None) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(read_regular(run / "settings.json")) if run is not None else {}
        if isinstance(found, dict) and isinstance(found.get("data", {}), dict):
            return found
    return {}


def _cell(text: str) -> str:
    """Keep a file's own words inside their cell of a table."""
    return printable(text)[:200].replace("|", "\\|").replace("<", "&lt;")
