"""The Python API: a loaded model that segments images with any vocabulary."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from san_cli.datasets.images import LoadedImage, as_rgb_array
from san_cli.datasets.reading import AS_STORED, Reading
from san_cli.datasets.resize import benchmark_size, resize_for_network
from san_cli.engine.asked import asked_of, best_word_logits
from san_cli.engine.backend import PYTORCH, choose_backend
from san_cli.engine.bar import bar
from san_cli.engine.contrast import NO_OBJECT, Contrast, contrast_of
from san_cli.engine.device import choose_device, choose_precision, reuse_freed_memory, wait_for, without_tf32
from san_cli.engine.forked import settle_threads
from san_cli.engine.given import (
    ImageLike,
    Names,
    check_loading,
    check_pixels,
    given_image,
    given_images,
    given_vocabulary,
)
from san_cli.engine.learned_rows import model_hashes, refuse_words_of_others, with_learned
from san_cli.engine.loading import RuntimeNetwork, build_model, load_weights
from san_cli.engine.map_options import PLAIN_ARGMAX, MapOptions, check_background, limits, shown_names
from san_cli.engine.mask_blocks import frame_of
from san_cli.engine.onnx_loading import load_onnx
from san_cli.engine.pickling import Origin, sent
from san_cli.engine.results import NotFinite, RawOutput, Segmentation, is_finite, segmentation_of
from san_cli.engine.segmentation_map import SegmentationMap, Unfinished, map_of_blocks, segmentation_map
from san_cli.engine.text_embeddings import Progress, TextTower, embed_words
from san_cli.engine.tiles import see_windows, tiled_blocks
from san_cli.engine.tiling import Tile, Tiling, check_tile, tiling_of
from san_cli.engine.tiny_world import counting, is_tiny, strange_pictures
from san_cli.errors import SanError, WrongType
from san_cli.models.presets import Preset
from san_cli.models.san import SanOutput, normalise
from san_cli.vocabulary.contrast import contrast_to
from san_cli.vocabulary.grammar import Vocabulary
from san_cli.vocabulary.templates import templates as template_set
from san_cli.weights.checkpoint import Checkpoint


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
        templates: str | Sequence[str],
        network: RuntimeNetwork | None = None,
    ) -> None:
        """Build the network on a checkpoint's tensors; without a text tower it knows what `remember` is given.

        With another `network` the checkpoint needs no tensors but `background_embedding` and `logit_scale`.
        """
        self.preset = checkpoint.preset
        self.weights_sha256 = weights_sha256
        self.device = device
        self.precision = precision
        self.templates = template_set(templates)
        self.text_tower = text_tower
        self.hashes = model_hashes(weights_sha256, text_tower)
        self._embedded: dict[Vocabulary, Tensor] = {}
        self._contrast: Contrast | None = None
        self._origin: Origin | None = None  # for pickle
        self.pictures = self.strange_pictures = 0  # counted for tiny alone, see `tiny_world`
        self.model = build_model(checkpoint, device, precision, whole=network is None)
        self.network: Callable[[Tensor], list[SanOutput]] = network or self.model
        self.backend = PYTORCH if network is None else network.backend

    @classmethod
    def load(
        cls,
        model: str | Preset | None = None,
        weights: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device = "auto",
        precision: str = "auto",
        templates: str | Sequence[str] = "vild",
        compile: bool = False,
        backend: str = "auto",
        say: Callable[[str], None] = lambda _: None,
    ) -> "Segmenter":
        """Load a model by preset name, or by a preset of your own; by default the one that `weights` holds.

        `weights` is a checkpoint (official `.pth` or our `.safetensors`), an ONNX file of `san export`, "random" for
        an untrained network, or None to look for the official one (see `san weights`). `backend` is "pytorch",
        "onnx" (ONNX Runtime) or "openvino"; "auto" takes "onnx" for an ONNX file. Raises SanError with a way out
        where the weights are missing, damaged or made for another model.
        """
        check_loading(model, weights, device, precision, templates, backend)
        backend = choose_backend(backend, weights, device=str(device), precision=precision, compile=compile)
        where = choose_device(str(device) if backend == PYTORCH else "cpu")
        dtype = choose_precision(precision, where)
        if where.type == "cpu":
            reuse_freed_memory()
        run_elsewhere = partial(load_onnx, backend=backend, precision=dtype)
        loaded = (load_weights if backend == PYTORCH else run_elsewhere)(model, weights, say=say)
        made = cls(
            loaded.checkpoint,
            loaded.text_tower,
            weights_sha256=loaded.sha256, device=where, precision=dtype, templates=templates, network=loaded.network,
        )  # fmt: skip
        if compile:
            made.network = torch.compile(made.model)
        is_own = isinstance(model, Preset) or loaded.path is None
        made._origin = Origin(
            made.preset, is_own, loaded.path, loaded.sha256, str(device), precision, compile, backend
        )
        return made

    def __reduce__(self) -> tuple[object, ...]:
        """Be pickled without tensors: the other side loads the same weights, see `engine/pickling.py`."""
        return sent(self, self._origin)

    def segment(
        self,
        image: ImageLike,
        vocabulary: Names,
        options: MapOptions = PLAIN_ARGMAX,
        *,
        reading: Reading = AS_STORED,
        tile: Tile | None = None,
    ) -> Segmentation:
        """Segment one image: a PIL image, a path, or a uint8 RGB array [H, W, 3].

        Preprocessed as in the benchmarks: EXIF orientation applied, short side 640 (at most 2560 long),
        bilinear. `reading` says which range of values and which bands are shown of an image that has more than
        8 bits or more than three bands. `tile` is a window's side in pixels for an image that is larger than the
        network's view, or "auto", see `engine/tiles.py`. Raises BadImage (a SanError) for an image that can't be
        read, WrongType (a SanError and a TypeError) for what is none. OpenCV's arrays are BGR: give
        array[..., ::-1].
        """
        return self.segment_batch([given_image(image)], vocabulary, options, reading=reading, tile=tile)[0]

    def segment_batch(
        self,
        images: Iterable[ImageLike],
        vocabulary: Names,
        options: MapOptions = PLAIN_ARGMAX,
        *,
        batch: int = 8,
        reading: Reading = AS_STORED,
        tile: Tile | None = None,
        progress: bool = False,
    ) -> list[Segmentation]:
        """Segment the images of any iterable; up to `batch` of equal size after resizing share a forward pass.

        So do windows of one image (`tile`). `progress` shows a bar of tqdm's: in a notebook, or on stderr. Raises
        as `segment` does.
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
        tile = check_tile(tile)
        # Everything is read before the network runs: a file that can't be read costs no time on the others.
        loaded = [as_rgb_array(image, reading) for image in images]
        # Images share a forward pass where the network sees them at one size; tiled ones are alone.
        tilings: list[Tiling | None] = []
        alike: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(loaded):
            height, width = image.pixels.shape[:2]
            tilings.append(tiling_of(height, width, tile, self.preset))
            size = benchmark_size(height, width, self.preset.input_size, self.preset.longest_side)
            alike.setdefault((index,) if tilings[-1] else size, []).append(index)
        chunks = [group[at : at + batch] for group in alike.values() for at in range(0, len(group), batch)]
        found: dict[int, Segmentation] = {}
        with bar(len(images), shown=progress) as advance:
            for chunk in chunks:
                chosen, tiling = [loaded[i] for i in chunk], tilings[chunk[0]]
                maps = (
                    self._segment_alike(chosen, words, options)
                    if tiling is None
                    else [self.segment_tiled(chosen[0], tiling, words, options, batch)]
                )
                for index, made in zip(chunk, maps, strict=True):
                    if made is None:
                        raise NotFinite(self.precision)
                    found[index] = segmentation_of(made, names, loaded[index].notes)
                advance(len(chunk))
        return [found[index] for index in range(len(images))]

    def _segment_alike(
        self, images: Sequence[LoadedImage], words: Vocabulary, options: MapOptions
    ) -> list[SegmentationMap | None]:
        return self.segment_resized(
            [self.resize(image.pixels) for image in images],
            [image.pixels.shape[:2] for image in images],
            words,
            options,
            no_data=[image.no_data for image in images],
        )

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
        mask_logits, probabilities, finite = self._asked_factors(resized, vocabulary, options)
        if on_network_done is not None:
            wait_for(self.device)
            on_network_done()
        asked = asked_of(vocabulary, options, probabilities.shape[-1])
        holes = [None] * len(sizes) if no_data is None else no_data
        return [
            asked.shown_of(
                segmentation_map(
                    masks,
                    classes,
                    frame_of(resized[0], size),
                    least=asked.least,
                    keep_scores=options.keep_scores,
                    no_data=hole,
                )
            )
            if usable
            else None
            for usable, masks, classes, size, hole in zip(
                finite.tolist(), mask_logits, probabilities, sizes, holes, strict=True
            )
        ]

    @torch.inference_mode()
    def segment_tiled(
        self,
        image: LoadedImage,
        tiling: Tiling,
        vocabulary: Vocabulary,
        options: MapOptions = PLAIN_ARGMAX,
        batch: int = 1,
        on_windows: Callable[[int, float], object] = lambda count, seconds: None,
        begin: Callable[[tuple[int, int], int], Unfinished] = Unfinished.new,
    ) -> SegmentationMap:
        """Make the label map of one image through the windows of `tiling`, blended exactly, see `engine/tiles.py`.

        Up to `batch` windows of a row share a forward pass. `on_windows` is told how many windows the network has
        seen and in how many seconds, once for each pass. `begin` gives the map of (height, width) and so many classes
        to go on with; not for `keep_scores`. Raises NotFinite.
        """
        pictures, strange = self.pictures, self.strange_pictures

        def factors(resized: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
            start = time.perf_counter()
            mask_logits, probabilities, finite = self._asked_factors(resized, vocabulary, options)
            if not finite.all():
                raise NotFinite(self.precision)
            wait_for(self.device)
            on_windows(len(resized), time.perf_counter() - start)
            return mask_logits, probabilities

        classes = len(self._competing(vocabulary, options)) + (options.background is not None or options.only)
        asked = asked_of(vocabulary, options, classes)
        windows = see_windows(image, tiling, self.resize, factors, batch)
        so_far = begin(image.pixels.shape[:2], classes)
        made = map_of_blocks(
            tiled_blocks(tiling, windows, so_far), image.pixels.shape[:2], classes,
            least=asked.least, keep_scores=options.keep_scores, no_data=image.no_data, so_far=so_far,
        )  # fmt: skip
        # One picture, however many windows: strange where most of them are.
        odd = 2 * (self.strange_pictures - strange) > self.pictures - pictures
        self.pictures, self.strange_pictures = pictures + 1, strange + odd
        return asked.shown_of(made)

    def _competing(self, vocabulary: Vocabulary, options: MapOptions) -> Vocabulary:
        return self.contrast(vocabulary).competing if options.only else vocabulary

    def _asked_factors(
        self, resized: Sequence[np.ndarray], vocabulary: Vocabulary, options: MapOptions
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute `_factors` of all that competes."""
        background = options.background is not None or options.only
        factors = self._factors(resized, self._competing(vocabulary, options), background=background)
        if options.only:
            factors[1][..., -1] *= NO_OBJECT
        return factors

    def contrast(self, asked: Vocabulary, progress: Progress | None = None) -> Contrast:
        """Choose, or look up, what competes with the asked words where nothing else is to be shown (`only`)."""
        found = self._contrast
        if found is None or found.asked != asked:
            candidates = contrast_to(asked, of_tiny=is_tiny(self.preset))
            embeddings = self.embed(asked.with_more(candidates), progress)
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
        """Mask logits, class probabilities (with `background` also of "no object"), and which images' are finite."""
        mask_logits, class_logits, regions = self._forward(np.stack(resized), vocabulary)
        if is_tiny(self.preset):
            strange = strange_pictures(mask_logits)
            with counting:
                self.pictures += len(resized)
                self.strange_pictures += strange
        probabilities = class_logits.softmax(dim=-1)
        if not background:
            probabilities = probabilities[..., :-1]
        return mask_logits, probabilities, is_finite(mask_logits, class_logits, regions)

    @torch.inference_mode()
    def raw(self, array: np.ndarray, vocabulary: Names) -> RawOutput:
        """Compute the network's output for a uint8 RGB array [H, W, 3] that already has network size.

        Nothing is resized; the array is padded to a multiple of 32 in both axes. Raises SanError for any other
        kind of array.
        """
        check_pixels(array)
        words = given_vocabulary(vocabulary)
        mask_logits, class_logits, regions = self._forward(array[None], words)
        if not is_finite(mask_logits, class_logits, regions).all():
            raise NotFinite(self.precision)
        return RawOutput(
            mask_logits[0].cpu().numpy(),
            class_logits[0].cpu().numpy(),
            regions[0].cpu().numpy(),
            self.text_rows(words).cpu().numpy(),
        )

    def _forward(self, images: np.ndarray, vocabulary: Vocabulary) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 [B, H, W, 3] to float32 mask logits, class logits [B, N, C+1], region embeddings."""
        text = self.text_rows(vocabulary)
        pixels = (
            torch.from_numpy(np.require(images, requirements=["C", "W"])).to(self.device).permute(0, 3, 1, 2)
        )
        with without_tf32(self.device, self.precision):
            output = self.network(normalise(pixels).to(self.precision))[0]
        word_logits = self.model.classify(output.region_embeddings, text)  # [B, N, words+1]
        return output.mask_logits.float(), best_word_logits(word_logits, vocabulary), output.region_embeddings

    def embed(self, vocabulary: Vocabulary, progress: Progress | None = None) -> Tensor:
        """Look up or compute the text embeddings [words, D] of a vocabulary's words, see `embed_words`.

        Those of learned words, too. SanError where these were learned with another model.
        """
        refuse_words_of_others(vocabulary, self.preset.name, self.hashes)
        settle_threads()
        embedded = self._embedded.get(vocabulary)
        if embedded is not None:
            return embedded
        assert self.text_tower is not None, "only remembered vocabularies are known"
        embedded = embed_words(self.text_tower, vocabulary.words, self.templates, self.device, progress)
        self._embedded = {vocabulary: embedded}
        return embedded

    def text_rows(self, vocabulary: Vocabulary) -> Tensor:
        """Return what regions are compared with, last "no object": [words+1, D], of length 1 unless learned."""
        return with_learned(self.model.with_background(self.embed(vocabulary)), vocabulary)

    def remember(self, vocabulary: Vocabulary, embeddings: Tensor) -> None:
        """Take `embeddings` [words, D] for those of the vocabulary's words, without cache or text tower."""
        self._embedded = {vocabulary: embeddings.to(self.device)}
