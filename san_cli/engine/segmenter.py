"""The Python API: a loaded model that segments images with any vocabulary."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from san_cli.datasets.images import as_rgb_array
from san_cli.datasets.reading import AS_STORED, Reading
from san_cli.datasets.resize import benchmark_size, resize_for_network
from san_cli.engine.contrast import NO_OBJECT, Contrast, contrast_of
from san_cli.engine.device import choose_device, choose_precision, reuse_freed_memory
from san_cli.engine.given import (
    ImageLike,
    Names,
    check_kind,
    check_pixels,
    given_image,
    given_images,
    given_vocabulary,
)
from san_cli.engine.loading import load_weights
from san_cli.engine.map_options import (
    PLAIN_ARGMAX,
    MapOptions,
    check_background,
    limits,
    shown_ids,
    shown_names,
)
from san_cli.engine.results import NotFinite, RawOutput, Segmentation
from san_cli.engine.segmentation_map import UNLABELLED, Least, SegmentationMap, frame_of, segmentation_map
from san_cli.engine.text_embeddings import Progress, TextTower, embed_words
from san_cli.engine.tiny_world import is_tiny, strange_pictures
from san_cli.errors import SanError, WrongType
from san_cli.models.presets import Preset
from san_cli.models.san import SAN, normalise
from san_cli.vocabulary.contrast import contrast_to
from san_cli.vocabulary.grammar import Vocabulary
from san_cli.vocabulary.templates import templates as template_set
from san_cli.weights.checkpoint import Checkpoint, load_into


class Segmenter:
    """A SAN with its vocabulary cache. Make one with `Segmenter.load`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        text_tower: TextTower | None,
        *,
        weights_sha256: str,
        device: torch.device,
        precision: torch.dtype,
        templates: str,
        compile: bool = False,
    ) -> None:
        """Build the network on a checkpoint's tensors; without a text tower it knows what `remember` is given."""
        self.preset = checkpoint.preset
        self.weights_sha256 = weights_sha256
        self.device = device
        self.precision = precision
        self.templates = template_set(templates)
        self._text_tower = text_tower
        self._embedded: dict[Vocabulary, Tensor] = {}
        self._contrast: Contrast | None = None
        self.pictures = self.strange_pictures = 0  # counted for tiny alone, see `tiny_world`
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
        weights: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device = "auto",
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
        check_kind("model", model, str, Preset, type(None))
        check_kind("weights", weights, str, os.PathLike, type(None))
        check_kind("device", device, str, torch.device)
        check_kind("precision", precision, str)
        check_kind("templates", templates, str)
        where = choose_device(str(device))
        dtype = choose_precision(precision, where)
        if where.type == "cpu":
            reuse_freed_memory()
        loaded = load_weights(model, weights, say=say)
        return cls(
            loaded.checkpoint,
            loaded.text_tower,
            weights_sha256=loaded.sha256, device=where, precision=dtype, templates=templates, compile=compile,
        )  # fmt: skip

    def segment(
        self,
        image: ImageLike,
        vocabulary: Names,
        options: MapOptions = PLAIN_ARGMAX,
        *,
        reading: Reading = AS_STORED,
    ) -> Segmentation:
        """Segment one image: a PIL image, a path, or a uint8 RGB array [H, W, 3].

        Preprocessed as in the benchmarks: EXIF orientation applied, short side 640 (at most 2560 long),
        bilinear. `reading` says which range of values and which bands are shown of an image that has more than
        8 bits or more than three bands. Raises BadImage (a SanError) for an image that can't be read, WrongType
        (a SanError and a TypeError) for what is none. OpenCV's arrays are BGR: give array[..., ::-1].
        """
        return self.segment_batch([given_image(image)], vocabulary, options, reading=reading)[0]

    def segment_batch(
        self,
        images: Iterable[ImageLike],
        vocabulary: Names,
        options: MapOptions = PLAIN_ARGMAX,
        *,
        batch: int = 8,
        reading: Reading = AS_STORED,
        progress: bool = False,
    ) -> list[Segmentation]:
        """Segment the images of any iterable; up to `batch` of equal size after resizing share a forward pass.

        `progress` shows a bar of tqdm's: in a notebook, or on stderr. Raises as `segment` does.
        """
        images = given_images(images)
        if not isinstance(options, MapOptions):
            raise WrongType(f"options are a MapOptions, not {type(options).__name__}")
        if batch < 1:
            raise SanError(f"batch is a number of images of at least 1, not {batch}")
        words = given_vocabulary(vocabulary)
        check_background(words, options)
        names = shown_names(words, options)
        for limit in (options.min_score, options.min_confidence):
            limits(words, options, limit)
        # Everything is read before the network runs: a file that can't be read costs no time on the others.
        loaded = [as_rgb_array(image, reading) for image in images]
        pixels = [image.pixels for image in loaded]
        # Images share a forward pass where the network sees them at one size.
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, array in enumerate(pixels):
            height, width = array.shape[:2]
            size = benchmark_size(height, width, self.preset.input_size, self.preset.longest_side)
            by_size.setdefault(size, []).append(index)
        chunks = [found[at : at + batch] for found in by_size.values() for at in range(0, len(found), batch)]
        found: dict[int, Segmentation] = {}
        with _bar(len(images), shown=progress) as advance:
            for chunk in chunks:
                sizes = [pixels[i].shape[:2] for i in chunk]
                resized, no_data = [self.resize(pixels[i]) for i in chunk], [loaded[i].no_data for i in chunk]
                maps = self.segment_resized(resized, sizes, words, options, no_data=no_data)
                for index, made in zip(chunk, maps, strict=True):
                    if made is None:
                        raise NotFinite(self.precision)
                    found[index] = Segmentation(
                        made.label_map,
                        names,
                        made.class_scores,
                        made.class_confidences,
                        made.uncertain,
                        made.scores,
                        made.confidence,
                        loaded[index].notes,
                    )
                advance(len(chunk))
        return [found[index] for index in range(len(images))]

    def resize(self, pixels: np.ndarray) -> np.ndarray:
        """Resize a uint8 RGB image [H, W, 3] to the network's size, as in the benchmark."""
        return resize_for_network(pixels, self.preset.input_size, self.preset.longest_side)

    @torch.inference_mode()
    def segment_resized(
        self,
        resized: Sequence[np.ndarray],
        sizes: Sequence[tuple[int, int]],
        vocabulary: Vocabulary,
        options: MapOptions = PLAIN_ARGMAX,
        on_network_done: Callable[[], None] | None = None,
        no_data: Sequence[np.ndarray | None] | None = None,
    ) -> list[SegmentationMap | None]:
        """Make label maps at `sizes` (height, width) of images of one network size, all in one forward pass.

        None for an image for which the network's output is not finite; the others' maps are what they would be.
        Pixels where an image's `no_data` [H, W] is true stay unlabelled.
        `on_network_done` is called between the network and the making of the maps, for those who time them.
        """
        competing = self.contrast(vocabulary).competing if options.only else vocabulary
        mask_logits, probabilities, finite = self._factors(
            resized, competing, background=options.background is not None or options.only
        )
        if options.only:
            probabilities[..., -1] *= NO_OBJECT
        if on_network_done is not None:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            on_network_done()
        shown, classes_shown = shown_ids(vocabulary, options), len(shown_names(vocabulary, options))
        least = Least(
            *(
                _with_contrast(limits(vocabulary, options, limit), probabilities.shape[-1])
                for limit in (options.min_score, options.min_confidence)
            )
        )
        holes = [None] * len(sizes) if no_data is None else no_data
        maps: list[SegmentationMap | None] = []
        for usable, masks, classes, size, hole in zip(
            finite.tolist(), mask_logits, probabilities, sizes, holes, strict=True
        ):
            if not usable:
                maps.append(None)
                continue
            made = segmentation_map(
                masks,
                classes,
                frame_of(resized[0], size),
                least=least,
                keep_scores=options.keep_scores,
                no_data=hole,
            )
            if shown is not None:
                made.label_map[~np.isin(made.label_map, shown)] = UNLABELLED
            if options.only:
                made.label_map[made.label_map >= classes_shown] = UNLABELLED
                scores, confidences = (
                    made.class_scores[:classes_shown],
                    made.class_confidences[:classes_shown],
                )
                made = replace(made, class_scores=scores, class_confidences=confidences)
            maps.append(made)
        return maps

    def contrast(self, asked: Vocabulary, progress: Progress | None = None) -> Contrast:
        """Choose, or look up, what competes with the asked words where nothing else is to be shown (`only`)."""
        found = self._contrast
        if found is None or found.asked != asked:
            candidates = contrast_to(asked, of_tiny=is_tiny(self.preset))
            embeddings = self.embed(Vocabulary((*asked.entries, *candidates)), progress)
            found, rows = contrast_of(asked, candidates, embeddings)
            self.remember(found.competing, rows)
            self._contrast = found
        return found

    @torch.inference_mode()
    def map_factors(self, resized: Sequence[np.ndarray], vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
        """Compute the two factors of the segmentation maps (Eq. 4) of images of one network size.

        Mask logits [B, N, h, w] and class probabilities [B, N, C], float32. NotFinite where one isn't.
        """
        mask_logits, probabilities, finite = self._factors(resized, vocabulary, background=False)
        if not finite.all():
            raise NotFinite(self.precision)
        return mask_logits, probabilities

    def _factors(
        self, resized: Sequence[np.ndarray], vocabulary: Vocabulary, *, background: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mask logits, class probabilities (with `background` the last is "no object"), and which images [B]
        they are finite for."""
        mask_logits, class_logits, regions = self._forward(np.stack(resized), vocabulary)
        if is_tiny(self.preset):
            self.pictures += len(resized)
            self.strange_pictures += strange_pictures(mask_logits)
        probabilities = class_logits.softmax(dim=-1)
        if not background:
            probabilities = probabilities[..., :-1]
        return mask_logits, probabilities, _is_finite(mask_logits, class_logits, regions)

    @torch.inference_mode()
    def raw(self, array: np.ndarray, vocabulary: Names) -> RawOutput:
        """Compute the network's output for a uint8 RGB array [H, W, 3] that already has network size.

        Nothing is resized; the array is padded to a multiple of 32 in both axes. Raises SanError for any other
        kind of array.
        """
        check_pixels(array)
        words = given_vocabulary(vocabulary)
        mask_logits, class_logits, regions = self._forward(array[None], words)
        if not _is_finite(mask_logits, class_logits, regions).all():
            raise NotFinite(self.precision)
        return RawOutput(
            mask_logits[0].cpu().numpy(),
            class_logits[0].cpu().numpy(),
            regions[0].cpu().numpy(),
            self.model.with_background(self.embed(words)).cpu().numpy(),
        )

    def _forward(self, images: np.ndarray, vocabulary: Vocabulary) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 [B, H, W, 3] to float32 mask logits, class logits [B, N, C+1], region embeddings."""
        text = self.model.with_background(self.embed(vocabulary))
        pixels = (
            torch.from_numpy(np.require(images, requirements=["C", "W"])).to(self.device).permute(0, 3, 1, 2)
        )
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=self.precision != torch.float32):
            output = self.network(normalise(pixels).to(self.precision))[0]
        word_logits = self.model.classify(output.region_embeddings, text)  # [B, N, words+1]
        return output.mask_logits.float(), best_word_logits(word_logits, vocabulary), output.region_embeddings

    def embed(self, vocabulary: Vocabulary, progress: Progress | None = None) -> Tensor:
        """Look up or compute the text embeddings [words, D] of a vocabulary's words, see `embed_words`.

        The text tower is loaded only for words that are new, and dropped again.
        """
        embedded = self._embedded.get(vocabulary)
        if embedded is not None:
            return embedded
        assert self._text_tower is not None, "only remembered vocabularies are known"
        embedded = embed_words(self._text_tower, vocabulary.words, self.templates, self.device, progress)
        self._embedded = {vocabulary: embedded}
        return embedded

    def remember(self, vocabulary: Vocabulary, embeddings: Tensor) -> None:
        """Take `embeddings` [words, D] for those of the vocabulary's words, without cache or text tower."""
        self._embedded = {vocabulary: embeddings.to(self.device)}


def _with_contrast(limit: np.ndarray | float, competing: int) -> np.ndarray | float:
    """Let a limit for each asked class be one for each that competes; the contrast has none."""
    if isinstance(limit, float) or len(limit) == competing:
        return limit
    return np.concatenate([limit, np.zeros(competing - len(limit), np.float32)])


@contextmanager
def _bar(total: int, *, shown: bool) -> Iterator[Callable[[int], object]]:
    """Show how many images of `total` are done; the function given takes how many more."""
    if not shown:
        yield lambda _: None
        return
    from tqdm.auto import tqdm  # only now: in a notebook without widgets the import itself warns

    with tqdm(total=total, unit="image") as bar:
        yield bar.update


def _is_finite(mask_logits: Tensor, class_logits: Tensor, regions: Tensor) -> Tensor:
    """Tell which images [B] of a batch have an output without NaN or infinity; the three are small (h, w: 1/16).

    A region embedding that overflowed before it was normalised has length 0 where it isn't NaN.
    """
    finite = (regions.square().sum(dim=-1) > 0.5).all(dim=1)
    for logits in (mask_logits.flatten(1), class_logits.flatten(1)):  # extremes: a tenth of isfinite()'s time
        finite = finite & logits.amax(dim=1).isfinite() & logits.amin(dim=1).isfinite()
    return finite


def best_word_logits(word_logits: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Reduce word logits [B, N, words+1] to class logits [B, N, C+1]: a class is as likely as its best synonym."""
    groups = vocabulary.word_indices
    if all(group == (index,) for index, group in enumerate(groups)):
        return word_logits
    best = [word_logits[..., list(group)].amax(dim=-1) for group in groups]
    return torch.stack([*best, word_logits[..., -1]], dim=-1)
