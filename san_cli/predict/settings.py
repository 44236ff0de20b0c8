"""The settings that the results of `san predict` depend on; the keys are the options' names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from san_cli.engine.backend import PYTORCH
from san_cli.engine.map_options import Limit, limits
from san_cli.models.presets import Preset
from san_cli.predict.journal import STATE_FOLDER
from san_cli.predict.request import Job
from san_cli.runs.settings import Settings, read_settings, refuse_other_settings
from san_cli.text import quoted
from san_cli.vocabulary.learned_words import fingerprints

if TYPE_CHECKING:
    from san_cli.engine.segmenter import Segmenter

FORMAT = 6  # of the results; raise it whenever the same settings give other bytes


@dataclass(frozen=True)
class ModelRun:
    """A model as it runs: what of it the results depend on, and where it computes."""

    preset: Preset
    weights_sha256: str
    device: str  # as PyTorch names it: "cuda:0"
    precision: str  # as --precision names it
    compile: bool
    backend: str


def settings_file(output: Path) -> Path:
    """Return where a folder of results keeps the settings of its run."""
    return output / STATE_FOLDER / "run.json"


def asked_settings(job: Job, templates: Sequence[str]) -> Settings:
    """Return what the results depend on, as far as the command line tells it."""
    options, reading = job.options, job.reading
    return {
        "format": FORMAT,
        "vocab": [list(entry.words) for entry in job.vocabulary.entries],
        "learned": fingerprints(job.vocabulary.learned),
        "templates": list(templates),
        "save": list(job.save),
        "show": None if options.show is None else list(options.show),
        "background": options.background,
        "only": options.only,
        "min-score": _limit(job, options.min_score),
        "min-confidence": _limit(job, options.min_confidence),
        "min-area": options.min_area,
        "regions": job.regions,
        "simplify": job.simplify,
        "batch": job.batch,
        "tile": "off" if job.tile is None else job.tile,
        "range": list(reading.range) if isinstance(reading.range, tuple) else reading.range,
        "bands": None if reading.bands is None else list(reading.bands),
    }


def _limit(job: Job, limit: Limit) -> object:
    """Return a limit as JSON that is the same however it was written: by the classes' own names, those above 0."""
    found = limits(job.vocabulary, job.options, limit)
    if isinstance(found, float):
        return found
    values = [round(value, 6) for value in found.tolist()]
    if len(set(values)) == 1:
        return values[0]
    return {name: value for name, value in zip(job.classes, values, strict=True) if value}


def as_loaded(segmenter: "Segmenter", compile: bool) -> ModelRun:
    """Return what there is to say of a model that is loaded."""
    from san_cli.engine.device import PRECISIONS

    precision = next(name for name, dtype in PRECISIONS.items() if dtype == segmenter.precision)
    return ModelRun(
        segmenter.preset,
        segmenter.weights_sha256,
        str(segmenter.device),
        precision,
        compile,
        segmenter.backend,
    )


def with_model(settings: Settings, model: ModelRun) -> Settings:
    """Return the full settings."""
    return {
        "model": model.preset.name,
        "weights": model.weights_sha256,
        "device": model.device.partition(":")[0],  # the kind: another one rounds differently
        "precision": model.precision,
        "compile": model.compile,
        "backend": model.backend,
        **settings,
    }


def as_kept(settings: Settings) -> Settings:
    """Return the settings as a folder keeps them: where no word is learned, as before there were such words."""
    return {key: value for key, value in settings.items() if key != "learned" or value}


def kept_settings(output: Path) -> Settings | None:
    """Return the settings of the run that a folder holds, None if there is none; SanError if unreadable."""
    hint = "Add --overwrite to do everything anew, or choose another folder with -o."
    found = read_settings(settings_file(output), hint=hint)
    if found is not None:  # of a run before there were others; the order counts in the journal's seal
        found = {**found, "backend": found.get("backend", PYTORCH)}
    return found


def refuse_other_run(output: Path, found: Settings, wanted: Settings) -> None:
    """Raise SanError if a run with the `wanted` settings would mix with the results found, naming what differs."""
    refuse_other_settings(
        found,
        wanted,
        holds=f"{quoted(output)} holds a run",
        hint="Choose another folder with -o, or add --overwrite to do everything anew.",
    )
