"""The Python API: a loaded model that segments images with any vocabulary."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from san_cli.cache_dir import cache_dir
from san_cli.datasets.images import as_rgb_array
from san_cli.datasets.resize import resize_for_network
from san_cli.engine.device import choose_device, choose_precision
from san_cli.engine.heap import keep_heap
from san_cli.engine.segmentation_map import UNLABELLED, Frame, SegmentationMap, segmentation_map
from san_cli.engine.text_cache import TextCache
from san_cli.errors import SanError
from san_cli.models.checkpoint import Checkpoint, check_finite, load_into, random_checkpoint, read_checkpoint
from san_cli.models.presets import Preset, get_preset, preset_to_json
from san_cli.models.san import PAD_TO, SAN, normalise
from san_cli.models.text import TextEncoder
from san_cli.templates import templates as template_set
from san_cli.vocabulary import Vocabulary, vocabulary_of_names
from san_cli.weights import find_weights
from san_cli.weights_sha256 import weights_sha256

Names = Vocabulary | Sequence[str | Sequence[str]]
Progress = Callable[[int, int], None]  # (words embedded, words to embed)


@dataclass(frozen=True)
class MapOptions:
    """What a pixel may be called beyond the plain argmax over the vocabulary."""

    min_score: float = 0.0  # below it a pixel stays unlabelled
    background: str | None = None  # the name under which the learned "no object" competes as a further class
    show: tuple[str, ...] | None = None  # keep only these classes; the rest still compete (Fig. 1)


@dataclass(frozen=True)
class Segmentation:
    """A segmented image."""

    label_map: (
        np.ndarray
    )  # [H, W] int16 at the image's own resolution, index into vocabulary or -1: unlabelled
    vocabulary: tuple[str, ...]
    class_scores: (
        np.ndarray
    )  # [C] float32: mean winning score (sum over queries, Eq. 4) of each class's pixels


@dataclass(frozen=True)
class RawOutput:
    """The network's output for one image, before the label map is made; all float32."""

    mask_logits: np.ndarray  # [N, H/16, W/16]
    class_logits: np.ndarray  # [N, C+1], last column "no object"
    region_embeddings: np.ndarray  # [N, D], normalised
    text_embeddings: np.ndarray  # [words+1, D], normalised, last row the learned background


class Segmenter:
    """A SAN with its vocabulary cache. Make one with `Segmenter.load`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        read_text: Callable[[], dict[str, Tensor]],
        *,
        weights_sha256: str,
        device: torch.device,
        precision: torch.dtype,
        templates: str,
        compile: bool = False,
    ) -> None:
        self.preset = checkpoint.preset
        self.weights_sha256 = weights_sha256
        self.device = device
        self.precision = precision
        self.templates = template_set(templates)
        self._read_text = read_text
        self._embedded: dict[Vocabulary, Tensor] = {}
        with torch.device("meta"):
            model = SAN(self.preset)
        load_into(model, {n: t for n, t in checkpoint.state.items() if not n.startswith("text.")})
        self.model = model.requires_grad_(False).eval().to(device=device, dtype=precision)
        self.model.background_embedding.data = checkpoint.state["background_embedding"].float().to(device)
        self.model.logit_scale.data = checkpoint.state["logit_scale"].float().to(device)
        self.network = torch.compile(self.model) if compile else self.model

    @classmethod
    def load(
        cls,
        model: str | Preset | None = None,
        weights: str | Path | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        templates: str = "vild",
        compile: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> "Segmenter":
        """Load a model by preset name, or by a preset of your own; by default the one that `weights` holds.

        `weights` is a checkpoint (official `.pth` or our `.safetensors`), "random" for an untrained network,
        or None to look for the official one (see `san weights`). Raises SanError with a way out where the
        weights are missing, damaged or made for another model.
        """
        keep_heap()
        preset = get_preset(model or "vit-b-16")
        where, dtype = choose_device(device), choose_precision(precision, choose_device(device))
        if weights == "random":
            say("random weights: the output means nothing, only its speed does")
            checkpoint = random_checkpoint(preset)
            sha = "random:" + hashlib.sha256(preset_to_json(preset).encode()).hexdigest()[:16]
            return cls(
                checkpoint,
                lambda: random_checkpoint(preset).part("text"),
                weights_sha256=sha, device=where, precision=dtype, templates=templates, compile=compile,
            )  # fmt: skip
        path = find_weights(preset.name, str(weights) if weights else None, say=say)
        checkpoint = read_checkpoint(path, model if isinstance(model, Preset) else None)
        if model is not None and checkpoint.preset != preset:
            raise SanError(
                f"'{path}' holds a {checkpoint.preset.name} model, not {preset.name}",
                hint=f"Use --model {checkpoint.preset.name}, or other weights.",
            )
        check_finite({n: t for n, t in checkpoint.state.items() if not n.startswith("text.")}, path)

        def read_text() -> dict[str, Tensor]:
            whole = read_checkpoint(path, checkpoint.preset)
            check_finite({n: t for n, t in whole.state.items() if n.startswith("text.")}, path)
            return whole.part("text")

        return cls(
            checkpoint,
            read_text,
            weights_sha256=weights_sha256(path), device=where, precision=dtype, templates=templates, compile=compile,
        )  # fmt: skip

    def segment(self, image: Any, vocabulary: Names, options: MapOptions = MapOptions()) -> Segmentation:
        """Segment one image: a PIL image, a path, or a uint8 RGB array [H, W, 3].

        Preprocessed as in the benchmarks: EXIF orientation applied, short side 640 (at most 2560 long),
        bilinear. Raises BadImage (a SanError) for an image that can't be read.
        """
        return self.segment_batch([image], vocabulary, options)[0]

    def segment_batch(
        self,
        images: Sequence[Any],
        vocabulary: Names,
        options: MapOptions = MapOptions(),
    ) -> list[Segmentation]:
        """Segment several images; those that have equal size after resizing share a forward pass."""
        words = as_vocabulary(vocabulary)
        names = shown_names(words, options)
        pixels = [as_rgb_array(image).pixels for image in images]
        resized = [self.resize(image) for image in pixels]
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, array in enumerate(resized):
            by_size.setdefault(array.shape, []).append(index)
        found: dict[int, Segmentation] = {}
        for indices in by_size.values():
            sizes = [pixels[i].shape[:2] for i in indices]
            maps = self.segment_resized([resized[i] for i in indices], sizes, words, options)
            for index, made in zip(indices, maps, strict=True):
                found[index] = Segmentation(made.label_map, names, made.class_scores)
        return [found[index] for index in range(len(images))]

    def resize(self, pixels: np.ndarray) -> np.ndarray:
        """A uint8 RGB image [H, W, 3] at the network's size, as the benchmark resizes it."""
        return resize_for_network(pixels, self.preset.input_size, self.preset.longest_side)

    @torch.inference_mode()
    def segment_resized(
        self,
        resized: Sequence[np.ndarray],
        sizes: Sequence[tuple[int, int]],
        vocabulary: Vocabulary,
        options: MapOptions = MapOptions(),
        on_network_done: Callable[[], None] | None = None,
    ) -> list[SegmentationMap]:
        """Label maps at `sizes` (height, width) of images of one network size, all in one forward pass.

        `on_network_done` is called between the network and the making of the maps, for those who time them.
        """
        mask_logits, class_logits, _ = self._forward(np.stack(resized), vocabulary)
        if on_network_done is not None:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            on_network_done()
        height, width = resized[0].shape[:2]
        padded = (height + -height % PAD_TO, width + -width % PAD_TO)
        shown = shown_ids(vocabulary, options)
        maps = []
        for masks, classes, size in zip(mask_logits, class_logits, sizes, strict=True):
            probabilities = classes.softmax(dim=-1)
            if options.background is None:
                probabilities = probabilities[:, :-1]
            made = segmentation_map(
                masks, probabilities, Frame(padded, (height, width), size), min_score=options.min_score
            )
            if shown is not None:
                made.label_map[~np.isin(made.label_map, shown)] = UNLABELLED
            maps.append(made)
        return maps

    @torch.inference_mode()
    def raw(self, array: np.ndarray, vocabulary: Names) -> RawOutput:
        """The network's output for a uint8 RGB array [H, W, 3] that already has network size.

        Nothing is resized; the array is padded to a multiple of 32 in both axes.
        """
        mask_logits, class_logits, regions = self._forward(array[None], as_vocabulary(vocabulary))
        return RawOutput(
            mask_logits[0].cpu().numpy(),
            class_logits[0].cpu().numpy(),
            regions[0].cpu().numpy(),
            self.model.with_background(self.embed(as_vocabulary(vocabulary))).cpu().numpy(),
        )

    def _forward(self, images: np.ndarray, vocabulary: Vocabulary) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 [B, H, W, 3] to float32 mask logits, class logits [B, N, C+1], region embeddings."""
        text = self.model.with_background(self.embed(vocabulary))
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self.device).permute(0, 3, 1, 2)
        output = self.network(normalise(pixels).to(self.precision))[0]
        word_logits = self.model.classify(output.region_embeddings, text)  # [B, N, words+1]
        return output.mask_logits.float(), _best_word(word_logits, vocabulary), output.region_embeddings

    def embed(self, vocabulary: Vocabulary, progress: Progress | None = None) -> Tensor:
        """Text embeddings [words, D] of a vocabulary's words, from the cache on disk where they are there.

        The text tower is loaded only for words that are new, and dropped again.
        """
        if vocabulary in self._embedded:
            return self._embedded[vocabulary]
        cache = TextCache(cache_dir(), self.weights_sha256, self.templates, self.device.type)
        cached = {word: cache.get(word) for word in vocabulary.words}
        rows = {
            word: row
            for word, row in cached.items()
            if row is not None and len(row) == self.preset.clip.embed_dim
        }
        new = [word for word in vocabulary.words if word not in rows]
        if new:
            encoder = TextEncoder(self.preset.clip, self._read_text(), self.device)
            for done, word in enumerate(new, start=1):
                rows[word] = encoder.embed(word, self.templates).numpy()
                cache.put(word, rows[word])
                if progress:
                    progress(done, len(new))
        stacked = torch.from_numpy(np.stack([rows[word] for word in vocabulary.words])).to(self.device)
        self._embedded = {vocabulary: stacked}
        return stacked


def as_vocabulary(names: Names) -> Vocabulary:
    """A vocabulary as it is, or one of literal class names (a nested sequence is a set of synonyms)."""
    return names if isinstance(names, Vocabulary) else vocabulary_of_names(names)


def shown_names(vocabulary: Vocabulary, options: MapOptions) -> tuple[str, ...]:
    """The class names that label maps index: the vocabulary's, then the background's where it competes."""
    return vocabulary.names if options.background is None else (*vocabulary.names, options.background)


def shown_ids(vocabulary: Vocabulary, options: MapOptions) -> list[int] | None:
    """The class ids that `options.show` keeps, None for all. Raises SanError for a name that isn't there."""
    if options.show is None:
        return None
    ids = {name.casefold(): index for index, name in enumerate(shown_names(vocabulary, options))}
    missing = [name for name in options.show if name.casefold() not in ids]
    if missing:
        raise SanError(
            f"--show '{missing[0]}' is not in the vocabulary",
            hint=f'Add it: --vocab …+"{missing[0]}". Only classes that compete can be shown.',
        )
    return sorted({ids[name.casefold()] for name in options.show})


def _best_word(word_logits: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Class logits [B, N, C+1] from word logits [B, N, words+1]: a class is as likely as its best synonym."""
    groups = vocabulary.word_indices
    if all(group == (index,) for index, group in enumerate(groups)):
        return word_logits
    best = [word_logits[..., list(group)].amax(dim=-1) for group in groups]
    return torch.stack([*best, word_logits[..., -1]], dim=-1)
