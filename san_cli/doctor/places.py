"""Places and settings: cache, weights that are found, datasets, variables of the environment, fonts."""

import os
import re
from pathlib import Path
from typing import Any

from san_cli.datasets.catalogue import CATALOGUE, find_root
from san_cli.doctor.finding import Finding, shown_variable
from san_cli.files import free_megabytes
from san_cli.models.presets import PRESETS
from san_cli.weights.cache_dir import cache_dir
from san_cli.weights.hub import megabytes
from san_cli.weights.survey import survey_weights

_OURS = re.compile(
    r"(SAN|HF|HUGGINGFACE|HUGGING_FACE|TRANSFORMERS|OMP|MKL|OPENBLAS|TORCH|PYTORCH|CUDA|SLURM)_\w+"
    r"|DETECTRON2_DATASETS|XDG_CACHE_HOME|RANK|WORLD_SIZE|LOCAL_RANK|MASTER_ADDR|NO_COLOR|SOURCE_DATE_EPOCH"
    r"|(https?|all|no)_proxy",
    re.IGNORECASE,
)


def cache() -> Finding:
    """Tell where the cache is, whether it can be written to, and how large it is."""
    folder = cache_dir()
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    size, count = _held(folder)
    parts = {part: _held(folder / part)[0] for part in ("downloads", "onnx")}
    facts = {
        "folder": str(folder),
        "exists": folder.is_dir(),
        "writable": writable,
        "files": count,
        "bytes": size,
        "download_bytes": parts["downloads"],
        "onnx_bytes": parts["onnx"],
        "free_megabytes": free_megabytes(folder),
    }
    told = f"{folder}: " + (f"{count:,} files, {megabytes(size)}" if folder.is_dir() else "not made yet")
    told += "".join(f", {megabytes(held)} in {part}/" for part, held in parts.items() if held)
    told += "" if facts["free_megabytes"] is None else f", {facts['free_megabytes']:,} MB free"
    # Without a cache all words are embedded in every run, and nothing can be downloaded.
    told += (
        ""
        if writable
        else "; can not be written to: words are embedded anew each time (SAN_HOME names another)"
    )
    return Finding("cache", told, facts)


def _held(folder: Path) -> tuple[int, int]:
    """Count the bytes and the files below a folder."""
    sizes = [
        os.lstat(os.path.join(root, name)).st_size  # noqa: PTH118
        for root, _, names in os.walk(folder)
        for name in names
    ]
    return sum(sizes), len(sizes)


def weights() -> list[Finding]:
    """Tell of each model which weights are found, as `san weights list` does; a fault where they are damaged."""
    found = []
    for name in PRESETS:
        one = survey_weights(name)
        told = f"{one.file}: {one.check}"
        if one.path is not None:
            told = f"{one.path}: {megabytes(one.bytes or 0)}, sha256 {(one.sha256 or '-')[:12]}, {one.check}"
        fault = f"the weights of {name} are {one.check}: {one.path}" if one.check == "damaged" else ""
        hint = (
            f"san weights verify {name} says more; get them again, or name others with --weights."
            if fault
            else ""
        )
        found.append(Finding(f"weights {name}", told, one.facts, fault=fault, hint=hint))
    return found


def datasets() -> Finding:
    """Tell where the benchmarks' data is looked for, and what of it is there."""
    root = find_root(None)
    there = [
        name
        for name, dataset in CATALOGUE.items()
        if any((root / split.labels).is_dir() for split in dataset.splits.values())
    ]
    told = f"{root}: {', '.join(there) or 'none prepared'}"
    return Finding("datasets", told, {"root": str(root), "exists": root.is_dir(), "prepared": there})


def variables() -> list[Finding]:
    """List the environment's variables that change what san does; nothing secret is shown."""
    found = {
        name: "(set)" if "proxy" in name.lower() else shown_variable(name, value)
        for name, value in sorted(os.environ.items())
        if _OURS.fullmatch(name)
    }
    told = "; ".join(f"{name}={value}" for name, value in found.items()) or "none of those that concern san"
    return [Finding("variables", told, found), *_odd_variables()]


def _odd_variables() -> list[Finding]:
    """Find variables that name what isn't there."""
    named = os.environ.get("SAN_WEIGHTS", "").strip()
    if not named or Path(os.path.expanduser(named)).exists():  # noqa: PTH111
        return []
    fault = f"$SAN_WEIGHTS names '{named}', and nothing is there"
    return [Finding("SAN_WEIGHTS", "wrong", {"value": named}, fault=fault, hint="Unset or correct it.")]


def fonts() -> Finding:
    """Tell which letters names have in overlays; a fault where Pillow can't draw any."""
    from PIL import features

    from san_cli.outputs.legend import font

    facts: dict[str, Any] = {"freetype": features.check("freetype2"), "font": None}
    if not facts["freetype"]:
        fault = "Pillow was built without FreeType, and overlays need it for names"
        return Finding(
            "fonts",
            "none",
            facts,
            fault=fault,
            hint="pip install --force-reinstall pillow",
        )
    facts["font"] = " ".join(filter(None, font(12).getname()))
    told = f"{facts['font']}, which comes with Pillow: ASCII; other names are 'class 7' in overlays, whole elsewhere"
    return Finding("fonts", told, facts)


def image_formats() -> Finding:
    """Tell which of the image formats that depend on Pillow's build can be read."""
    from PIL import features

    known = {
        "JPEG": "jpg",
        "PNG": "zlib",
        "WebP": "webp",
        "TIFF": "libtiff",
        "JPEG 2000": "jpg_2000",
        "AVIF": "avif",
    }
    there = {name: bool(features.check(codec)) for name, codec in known.items()}
    missing = [name for name, has in there.items() if not has]
    fault = "Pillow reads no JPEG or no PNG" if {"JPEG", "PNG"} & set(missing) else ""
    told = ", ".join(name for name, has in there.items() if has)
    told += f"; not {', '.join(missing)}" if missing else ""
    hint = "pip install --force-reinstall pillow" if fault else ""
    return Finding("image formats", told, there, fault=fault, hint=hint)
