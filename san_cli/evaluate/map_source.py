"""Where an evaluation's label maps come from: models, or a file of predictions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from san_cli.engine.ensemble import Member, ensemble_label_map
from san_cli.errors import ExitCode, SanError
from san_cli.evaluate.detectron2_json import PredictionFile, image_stem, read_label_map
from san_cli.text import printable, quoted
from san_cli.vocabulary.grammar import Vocabulary

if TYPE_CHECKING:
    from san_cli.datasets.catalogue import Pair


class MapSource(Protocol):
    """Makes a label map of a pair's image in two steps, of which the first runs in a thread."""

    def load(self, pair: "Pair", size: tuple[int, int]) -> NDArray[Any]:
        """What the label map is made from. SanError, naming the file, for anything wrong with it."""
        ...

    def label_map(
        self, loaded: NDArray[Any], size: tuple[int, int], on_network_done: Callable[[], None]
    ) -> NDArray[Any]:
        """The label map [H, W] of `size`, train ids, below 0 where a pixel has no class."""
        ...


@dataclass(frozen=True)
class ModelMaps:
    """Label maps by a model, or several added up, as in the benchmarks."""

    members: Sequence[Member]
    vocabulary: Vocabulary

    def load(self, pair: "Pair", size: tuple[int, int]) -> NDArray[Any]:
        """The image, upright and at network size; SanError if the label has another size than the image."""
        pixels = pair.read_image()
        if pixels.shape[:2] != size:
            raise pair.other_size(pixels.shape[:2], size)
        return self.members[0].segmenter.resize(pixels)

    def label_map(
        self, loaded: NDArray[Any], size: tuple[int, int], on_network_done: Callable[[], None]
    ) -> NDArray[Any]:
        """The argmax over the vocabulary at the label's own resolution."""
        return ensemble_label_map(self.members, loaded, size, self.vocabulary, on_network_done)


@dataclass(frozen=True)
class PredictedMaps:
    """Label maps from a file of predictions, ours or anyone's."""

    predictions: PredictionFile
    train_ids: dict[int, int]  # by category id of the file

    def load(self, pair: "Pair", size: tuple[int, int]) -> NDArray[Any]:
        """The label map itself; SanError where the file has none for the image."""
        name = printable(str(pair.image.name))
        stem = image_stem(str(pair.image))
        if stem not in self.predictions.spans:
            raise SanError(
                f"{quoted(self.predictions.path)} has no prediction for {name}",
                hint="Images are matched by their names without folder and extension.",
                code=ExitCode.SOME_FAILED,
            )
        entries = self.predictions.entries(stem)
        return read_label_map(entries, size, self.train_ids, f"{name} (label {printable(str(pair.label))})")

    def label_map(
        self, loaded: NDArray[Any], size: tuple[int, int], on_network_done: Callable[[], None]
    ) -> NDArray[Any]:
        """What was loaded."""
        on_network_done()
        return loaded


def category_convention(
    used: frozenset[int], classes: int, dataset_ids: Sequence[int] | None
) -> tuple[dict[int, int], str]:
    """The train id of each category id of a file that uses the ids `used`, and a sentence saying so.

    detectron2 writes train ids, but the dataset's own ids where its metadata has them (COCO-Stuff). Files that
    hold a train id which is no such id are taken to be by train ids throughout.
    """
    by_train_id = {train_id: train_id for train_id in range(classes)}
    if dataset_ids is None:
        return by_train_id, f"category_id is the train id (0 … {classes - 1})"
    if used <= set(dataset_ids) or not used <= set(by_train_id):
        of_dataset = {dataset_id: train_id for train_id, dataset_id in enumerate(dataset_ids)}
        return (
            of_dataset,
            "category_id is the dataset's own id, as detectron2 writes it for COCO-Stuff (1 … 182)",
        )
    return by_train_id, f"category_id is the train id (0 … {classes - 1}), not the dataset's own"
