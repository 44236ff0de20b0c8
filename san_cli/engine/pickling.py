"""Segmenters on their way to another process: not their tensors travel, but where these come from.

What is sent are some kB: the path of the weights and their sha256, how they were loaded, and the embeddings of the
words used last. The other side loads the file, once a process, and is told where it is another one.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import torch

from san_cli.engine.contrast import Contrast
from san_cli.errors import SanError
from san_cli.models.presets import Preset
from san_cli.vocabulary.grammar import Vocabulary
from san_cli.weights.find import locate_weights

if TYPE_CHECKING:
    from san_cli.engine.segmenter import Segmenter


@dataclass(frozen=True)
class Origin:
    """What a Segmenter was loaded from; `device` and `precision` as they were asked for, "auto" among them."""

    preset: Preset
    is_own: bool  # the preset was given by the caller, or there is no file to say it
    weights: Path | None  # absolute; None: untrained
    sha256: str
    device: str
    precision: str
    compile: bool
    backend: str
    token: str = field(
        default_factory=lambda: uuid4().hex
    )  # it may arrive many times, with each of many tasks


@dataclass(frozen=True)
class Sent:
    """A Segmenter as it is pickled."""

    origin: Origin
    templates: tuple[str, ...]
    embedded: dict[Vocabulary, np.ndarray]  # [words, D]
    contrast: Contrast | None


_arrived: dict[str, "Segmenter"] = {}  # the last one, by token, for its network alone


def sent(segmenter: "Segmenter", origin: Origin | None) -> tuple[Any, tuple[Sent]]:
    """Return what pickle makes of a Segmenter; SanError for one that no file tells of."""
    if origin is None:
        raise SanError(
            "this Segmenter can't be pickled: its weights are in no file",
            hint="Only those from Segmenter.load can: load it in each process.",
        )
    embedded = {words: rows.cpu().numpy() for words, rows in segmenter._embedded.items()}
    return arrive, (Sent(origin, segmenter.templates, embedded, segmenter._contrast),)


def arrive(parcel: Sent) -> "Segmenter":
    """Load a Segmenter that was sent here, unless it has come before.

    A device of "auto" is chosen here. SanError where the weights are missing on this machine, or are other ones.
    """
    from san_cli.engine.segmenter import Segmenter

    if parcel.origin.token not in _arrived:
        loaded = _loaded(parcel.origin)
        _arrived.clear()
        _arrived[parcel.origin.token] = loaded
    # Each has its own templates and words: whoever gets one may change it.
    made = object.__new__(Segmenter)
    made.__dict__.update(_arrived[parcel.origin.token].__dict__)
    made.templates = parcel.templates
    made._contrast = parcel.contrast
    made._embedded = {}
    made.pictures = made.strange_pictures = 0
    for words, rows in parcel.embedded.items():
        made.remember(words, torch.from_numpy(rows))
    return made


def _loaded(origin: Origin) -> "Segmenter":
    """Load a Segmenter as it was loaded where it comes from. SanError for other weights."""
    from san_cli.engine.segmenter import Segmenter

    weights = None if origin.weights is None else _here(origin)
    made = Segmenter.load(
        origin.preset if origin.is_own else None,
        "random" if weights is None else weights,
        device=origin.device,
        precision=origin.precision,
        compile=origin.compile,
        backend=origin.backend,
    )
    if made.weights_sha256 != origin.sha256:
        raise SanError(
            f"the weights in '{weights}' aren't those of the Segmenter that was sent: their sha256 is "
            f"{made.weights_sha256}, and was {origin.sha256}",
            hint="All processes need the same file.",
        )
    return made


def _here(origin: Origin) -> Path:
    """Return the path of the weights on this machine: the same as there, or where those of that model are."""
    assert origin.weights is not None
    found = origin.weights if origin.weights.exists() else locate_weights(origin.preset.name)
    if found is None:
        raise SanError(
            f"a Segmenter was sent here, and its weights '{origin.weights}' are not on this machine",
            hint="Put them on a disk that all machines see, or load the Segmenter in each process.",
        )
    return found
