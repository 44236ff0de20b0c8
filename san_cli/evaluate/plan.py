"""Request to `san eval`: the data, the models, how it is done, and how it speaks meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from san_cli.datasets.task import OwnData
from san_cli.engine.tiling import Tile
from san_cli.runs.processes import ALONE, Processes
from san_cli.runs.voice import Voice


@dataclass(frozen=True)
class Data:
    """The datasets to evaluate on, by name, or labels of the user's own; and other words for the classes."""

    names: Sequence[str] = ()  # `all` among them stands for the benchmarks
    root: Path | None = None
    split: str | None = None
    own: OwnData | None = None
    limit: int | None = None  # images
    vocab: Sequence[str] | None = None
    synonyms: str | None = None  # a file


@dataclass(frozen=True)
class Models:
    """The models to evaluate, one for each weights file."""

    model: str | None
    weights: Sequence[str | None]
    ensemble: str | None  # a second one, WEIGHTS[:share]
    device: str
    precision: str
    templates: str
    tile: Tile | None = None  # how large images are seen; None: whole, as in the benchmarks
    backend: str = "auto"


@dataclass(frozen=True)
class Plan:
    """Way a run is done; nothing of it changes what is found."""

    output: Path | None = None
    resume: bool = False
    keep_going: bool = False
    workers: int | None = None  # threads that read ahead for models
    save_predictions: Path | None = None  # {dataset} in its name stands for each one's
    worst: int = 0  # images to show in the report
    paper: bool = False
    processes: Processes = ALONE
    voice: Voice = Voice()
