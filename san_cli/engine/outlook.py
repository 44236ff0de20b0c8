"""What a run with a model will take, told before it (--dry-run): its weights, its words."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from san_cli.engine.backend import PYTORCH, RUNTIMES
from san_cli.engine.learned_rows import refuse_words_of_others
from san_cli.engine.onnx_file import is_onnx
from san_cli.engine.onnx_loading import is_exported
from san_cli.engine.segmenter import Segmenter
from san_cli.engine.text_embeddings import embed_words, new_words
from san_cli.models.presets import get_preset
from san_cli.text import printable
from san_cli.vocabulary.grammar import Vocabulary
from san_cli.weights.file_hash import weights_sha256
from san_cli.weights.find import expanded, weights_or_source
from san_cli.weights.hub import OFFICIAL, OfficialFile, is_offline
from san_cli.weights.hub_name import HubName

_WORDS_TIMED = 4
_NAMED = 10  # classes


@dataclass(frozen=True)
class WeightsAhead:
    """The weights that a run would take: a file that is here, or one that it would download, or none ("random")."""

    file: Path | None = None
    download: OfficialFile | None = None
    model: str | None = None  # the name to load in the place of a download
    exports: bool = False  # into the cache, for a runtime of ONNX files

    @property
    def loadable(self) -> str:
        """What to load in their place for the sake of the time: of an untrained network that is the same."""
        return "random" if self.file is None else str(self.file)

    @property
    def facts(self) -> dict[str, Any]:
        """What a plan says of them."""
        if self.download is None:
            return {"weights": self.loadable, "download_megabytes": None}
        named = self.download.filename
        if self.download not in OFFICIAL.values():
            named = str(HubName(self.download.repo, self.download.revision, named))
        return {"weights": named, "download_megabytes": round(self.download.size / 1e6)}


def weights_ahead(
    model: str | None, weights: str | None, say: Callable[[str], None], *, backend: str = PYTORCH
) -> WeightsAhead:
    """Find the weights of a run without a download; SanError where the run would find none, or damaged ones."""
    if is_onnx(weights):
        return WeightsAhead(expanded(Path(weights or "")))
    if weights == "random":
        found: Path | OfficialFile | None = None
    else:
        found = weights_or_source(get_preset(model or "vit-b-16").name, weights, say=say)
    ahead = WeightsAhead(found) if found is None or isinstance(found, Path) else _to_come(found, model, say)
    if backend == PYTORCH or (ahead.download is None and is_exported(model, ahead.file)):
        return ahead
    say(
        "the weights will be exported as an ONNX file first, once; the plan's times are PyTorch's, without that"
    )
    return replace(ahead, exports=True)


def _to_come(download: OfficialFile, model: str | None, say: Callable[[str], None]) -> WeightsAhead:
    """Tell of weights that would be downloaded, and choose what is loaded in their place."""
    if is_offline():
        say(f"HF_HUB_OFFLINE is set: {download.filename} isn't here, and the run could not download it")
    if download in OFFICIAL.values():
        return WeightsAhead(download=download, model=download.model)
    if model is None:
        say(f"which model {download.model} holds shows once it is here: the times assume vit-b-16")
    return WeightsAhead(download=download, model=model)


def words_on_trial(
    vocabulary: Vocabulary, weights: WeightsAhead, segmenter: Segmenter, say: Callable[[str], None]
) -> Vocabulary:
    """Return the vocabulary for a trial: plain words where an untrained model stands in for a download.

    SanError where they were learned with another model than the run's.
    """
    if weights.download is None or not vocabulary.learned:
        refuse_words_of_others(vocabulary, segmenter.preset.name, segmenter.hashes)
        return vocabulary
    if weights.download in OFFICIAL.values():
        refuse_words_of_others(vocabulary, weights.download.model, (weights.download.sha256,))
    else:
        say("whether the words were learned with these weights shows once they are here")
    return vocabulary.as_plain()


def refuse_words_before_loading(vocabulary: Vocabulary, model: str | None, weights: str | None) -> None:
    """Raise SanError for words that were learned with another model, as far as the weights' hash is known by now.

    That is so of a file, before minutes are spent on others, and of a published one, before it is downloaded.
    """
    if not vocabulary.learned or is_onnx(weights):
        return
    ahead = weights_ahead(model, weights, lambda _: None)
    if ahead.file is not None:
        refuse_words_of_others(vocabulary, model or ahead.file.name, (weights_sha256(ahead.file),))
    elif ahead.download is not None and ahead.download in OFFICIAL.values():
        refuse_words_of_others(vocabulary, ahead.download.model, (ahead.download.sha256,))


@dataclass(frozen=True)
class WordsAhead:
    """The words that a run would embed, and about how long that takes."""

    new: int  # of the words; the others are known from before
    seconds: float


def words_ahead(segmenter: Segmenter, vocabulary: Vocabulary) -> WordsAhead:
    """Time a few of a vocabulary's new words; the segmenter knows all of its words afterwards, for trials of speed.

    What was embedded is kept for the run. Where more words are new than are timed, those of the segmenter are no
    more than directions: nothing that it says means anything.
    """
    tower = segmenter.text_tower
    assert tower is not None, "a loaded model has one"
    new = new_words(tower, vocabulary.words, segmenter.templates, segmenter.device)
    timed, started = new[:_WORDS_TIMED], time.perf_counter()
    if timed:
        embed_words(tower, timed, segmenter.templates, segmenter.device)
    seconds = (time.perf_counter() - started) / max(1, len(timed)) * len(new)
    if len(new) > len(timed):
        shape = (len(vocabulary.words), segmenter.preset.clip.embed_dim)
        rows = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        segmenter.remember(vocabulary, F.normalize(rows, dim=1))
    else:
        segmenter.embed(vocabulary)
    return WordsAhead(len(new), seconds)


def whole_megabytes(size_mb: float) -> int | None:
    """Round a size in MB for a plan; None where the system doesn't tell it (NaN, on Windows)."""
    return None if math.isnan(size_mb) else round(size_mb)


def rows_of_classes(classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the line of a plan that names the classes."""
    more = f" and {len(classes) - _NAMED:,} more" if len(classes) > _NAMED else ""
    yield "classes", f"{len(classes):,}: {', '.join(map(printable, classes[:_NAMED]))}{more}"


def rows_of_model(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the lines of a plan that say which model is used, and where."""
    fetched = facts["download_megabytes"]
    come = "" if fetched is None else f", to be downloaded: {fetched:,} MB"
    yield "model", f"{printable(facts['model'])} ({printable(facts['weights'])}{come})"
    runtime = f", {RUNTIMES[facts['backend']]}" if facts.get("backend") in RUNTIMES else ""
    yield "device", f"{facts['device']}, {facts['precision']}{runtime}"
