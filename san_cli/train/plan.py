"""Request to `san train`: the data, the model, and how the training is done; the recipe is in `recipe`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from san_cli.datasets.task import OwnData
from san_cli.runs.voice import Voice
from san_cli.train.watch import Watch, unwatched


@dataclass(frozen=True)
class Data:
    """A dataset to train on, by name, or labels of the user's own."""

    name: str | None = None
    root: Path | None = None
    own: OwnData | None = None
    held_out: tuple[Path, Path] | None = None  # own images and labels to evaluate on
    limit: int | None = None  # images


@dataclass(frozen=True)
class Model:
    """The model to train: a preset's, with a fresh side adapter, or one to be fine-tuned."""

    preset: str | None = None  # a name or a file
    clip_weights: str | None = None  # a file, "random", or None for OpenAI's
    init_from: Path | None = None  # a file, or a model's name
    settings: Sequence[str] = ()  # NAME=VALUE, of the preset or the recipe
    templates: str = "vild"

    @property
    def clip_file(self) -> Path | None:
        """Return the file that `clip_weights` names, if it names one."""
        return None if self.clip_weights in (None, "random") else Path(str(self.clip_weights))


@dataclass(frozen=True)
class Plan:
    """The way a training is done; but for `seed` and `precision` it changes the losses' rounding at most."""

    output: Path
    resume: bool = False
    dry_run: bool = False
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    accumulate: int = 1  # micro-batches of an iteration, in each process
    activation_checkpointing: bool = False
    workers: int | None = None  # processes that read and augment images; None: by the number of cores
    save_every: int | None = None  # iterations; None: 5,000, or a tenth of a shorter training
    evaluate_every: int | None = None  # iterations, 0: never; None: the same
    evaluate_images: int = 100
    log_every: int = 20  # iterations
    keep: int = 2  # checkpoints
    adapter_only: bool = False
    tensorboard: bool = False
    quiet: bool = False
    voice: Voice = Voice()
    # Shows a training of so many iterations that begins after the second number.
    watched: Callable[[int, int], AbstractContextManager[Watch]] = unwatched
