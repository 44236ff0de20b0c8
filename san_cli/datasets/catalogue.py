"""The benchmarks as they lie on a disk: one entry each, and how their images and labels are paired.

The layout is the one that detectron2 and the official SAN read, so that trees prepared for them are used as
they are.
"""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from san_cli.errors import ExitCode, SanError
from san_cli.files import read_regular
from san_cli.text import printable, quoted
from san_cli.vocabulary.class_lists import unknown_dataset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from san_cli.datasets.labels import Labels


@dataclass(frozen=True)
class Split:
    """Folders relative to the dataset root, and how many pairs the published numbers were taken on."""

    images: str
    labels: str
    count: int | None


@dataclass(frozen=True)
class Dataset:
    """A benchmark. Everything that differs between two of them is a field here or in its class list.

    Labels hold train ids, the places in the class list of the same name. A file's stem is its name without
    `image_suffix` or `label_suffix`. `uses_dataset_ids`: detectron2's prediction files hold
    `coco_category_id` in the place of train ids. `spare_images`: the image folder holds more than the labels.
    """

    name: str
    title: str
    ignore_label: int
    label_suffix: str
    splits: Mapping[str, Split]
    sources: tuple[str, ...]
    default_split: str = "val"
    uses_dataset_ids: bool = False
    image_suffix: str = ".jpg"
    spare_images: bool = False


@dataclass(frozen=True)
class Pair:
    """An image and its label map; `stem` is what their names share."""

    image: Path
    label: Path
    stem: str

    def read_image(self) -> "NDArray[np.uint8]":
        """RGB [H, W, 3], turned upright. Raises BadImage."""
        from san_cli.datasets.images import load_image

        return load_image(self.image).pixels

    def read_labels(self, classes: int, ignore_label: int) -> "Labels":
        """Train ids [H, W], as `read_label` checks them."""
        from san_cli.datasets.labels import read_label

        return read_label(self.label, classes, ignore_label)

    def other_size(self, image: tuple[int, int], label: tuple[int, int]) -> SanError:
        """Return the error for a pair where the upright image [H, W] and the label [H, W] differ in size."""
        return SanError(
            printable(
                f"{self.image} is {image[1]}×{image[0]} pixels (upright), "
                f"its label {self.label} {label[1]}×{label[0]}"
            ),
            hint="Labels have the size of their images: prepare the dataset again, see `san data check`.",
            code=ExitCode.SOME_FAILED,
        )


_VOC = "host.robots.ox.ac.uk/pascal/VOC"

_ENTRIES = (
    Dataset(
        name="coco",
        title="COCO-Stuff 164k",
        ignore_label=255,
        label_suffix=".png",
        splits={
            "val": Split("coco/val2017", "coco/stuffthingmaps_detectron2/val2017", 5_000),
            "train": Split("coco/train2017", "coco/stuffthingmaps_detectron2/train2017", 118_287),
        },
        sources=(
            "images: images.cocodataset.org/zips/val2017.zip (1 GB), train2017.zip (18 GB)",
            "labels: calvin.inf.ed.ac.uk …/cocostuffdataset/stuffthingmaps_trainval2017.zip (659 MB)",
        ),
        uses_dataset_ids=True,
    ),
    Dataset(
        name="ade150",
        title="ADE20K-150 (SceneParse150)",
        ignore_label=255,
        label_suffix=".png",
        splits={
            "val": Split(
                "ADEChallengeData2016/images/validation",
                "ADEChallengeData2016/annotations_detectron2/validation",
                2_000,
            ),
            "train": Split(
                "ADEChallengeData2016/images/training",
                "ADEChallengeData2016/annotations_detectron2/training",
                20_210,
            ),
        },
        sources=("data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
    ),
    Dataset(
        name="ade847",
        title="ADE20K-847 (full, release 2021_17_01)",
        ignore_label=65535,
        label_suffix=".tif",
        splits={
            "val": Split(
                "ADE20K_2021_17_01/images_detectron2/validation",
                "ADE20K_2021_17_01/annotations_detectron2/validation",
                2_000,
            ),
            "train": Split(
                "ADE20K_2021_17_01/images_detectron2/training",
                "ADE20K_2021_17_01/annotations_detectron2/training",
                25_574,
            ),
        },
        sources=("register at ade20k.csail.mit.edu/request_data; the link that comes by mail is a .zip",),
    ),
    Dataset(
        name="voc",
        title="PASCAL VOC 2012",
        ignore_label=255,
        label_suffix=".png",
        splits={
            "val": Split("VOC2012/JPEGImages", "VOC2012/annotations_detectron2/val", 1_449),
            "train": Split("VOC2012/JPEGImages", "VOC2012/annotations_detectron2/train", 10_582),
        },
        sources=(
            f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar",
            "for train also SegmentationClassAug.zip (linked in DrSleep/tensorflow-deeplab-resnet) or SBD's "
            "benchmark.tgz",
        ),
        spare_images=True,
    ),
    Dataset(
        name="pc59",
        title="PASCAL-Context, 59 classes",
        ignore_label=255,
        label_suffix=".png",
        splits={
            "val": Split("pcontext/val/image", "pcontext/val/label", 5_104),
            "train": Split("pcontext/train/image", "pcontext/train/label", 4_998),
        },
        sources=(
            f"images: {_VOC}/voc2010/VOCtrainval_03-May-2010.tar",
            "labels: trainval_merged.json from codalabuser.blob.core.windows.net/public/ (590 MB), "
            "or the trainval.tar.gz of pc459",
        ),
    ),
    Dataset(
        name="pc459",
        title="PASCAL-Context, 459 classes",
        ignore_label=65535,
        label_suffix=".tif",
        splits={
            "val": Split("pcontext_full/val/image", "pcontext_full/val/label", 5_104),
            "train": Split("pcontext_full/train/image", "pcontext_full/train/label", 4_998),
        },
        sources=(
            f"images: {_VOC}/voc2010/VOCtrainval_03-May-2010.tar",
            "labels: trainval.tar.gz from cs.stanford.edu/~roozbeh/pascal-context "
            "or roozbehm.info/pascal-context; for train also trainval_merged.json (see pc59)",
        ),
    ),
    Dataset(
        name="cityscapes",
        title="Cityscapes, 19 classes",
        ignore_label=255,
        label_suffix="_gtFine_labelTrainIds.png",
        splits={
            "val": Split("cityscapes/leftImg8bit/val", "cityscapes/gtFine/val", 500),
            "train": Split("cityscapes/leftImg8bit/train", "cityscapes/gtFine/train", 2_975),
        },
        sources=(
            "register at cityscapes-dataset.com: leftImg8bit_trainvaltest.zip, gtFine_trainvaltest.zip",
        ),
        image_suffix="_leftImg8bit.png",
    ),
)
CATALOGUE: dict[str, Dataset] = {entry.name: entry for entry in _ENTRIES}
BENCHMARKS = ("coco", "voc", "pc59", "ade150", "pc459", "ade847")  # the paper's, in the order of its log
EMOJI = "emoji"  # the dataset that is rendered, see `san_cli.datasets.emoji`


def get_dataset(name: str) -> Dataset:
    """Look up the entry called `name`, in any case; SanError with a suggestion for another name."""
    found = CATALOGUE.get(name.casefold())
    if found is not None:
        return found
    if name.casefold() == EMOJI:
        raise SanError(
            "There is nothing to prepare or check of emoji: its scenes are rendered while they are used.",
            hint="`san eval emoji` and `san train emoji` work at once.",
        )
    raise unknown_dataset(name)


def dataset_name(name: str) -> str:
    """Return a dataset's name, emoji's too, as we spell it; SanError with a suggestion for another."""
    return EMOJI if name.casefold() == EMOJI else get_dataset(name).name


def get_split(dataset: Dataset, split: str) -> Split:
    """Look up the split called `split`; SanError for another name."""
    if split not in dataset.splits:
        raise SanError(
            f"{dataset.name} has no split {quoted(split)}.",
            hint=f"There are: {', '.join(dataset.splits)}.",
        )
    return dataset.splits[split]


def find_root(data_root: str | Path | None) -> Path:
    """Find the dataset root: `data_root`, $SAN_DATASETS, $DETECTRON2_DATASETS or ./datasets, in this order.

    SanError where one of the first three names something that is no folder; ./datasets need not exist.
    """
    named = [("--data-root", str(data_root) if data_root is not None else "")]
    named += [(f"${name}", os.environ.get(name, "")) for name in ("SAN_DATASETS", "DETECTRON2_DATASETS")]
    for origin, value in named:
        if not value:
            continue
        root = Path(os.path.expanduser(value))  # noqa: PTH111 ("~nobody" must not raise)
        if not root.is_dir():
            raise SanError(
                f"There is no folder {quoted(value)}, which {origin} gives as the dataset root.",
                hint="It is the folder that holds coco/, VOC2012/, pcontext/ and so on.",
                code=ExitCode.NO_INPUT,
            )
        return root
    return Path("datasets")


def prepare_step(dataset: Dataset, split: str, root: Path) -> str:
    """Say what to do where a prepared tree is missing: the command, and where its archives come from."""
    command = f"san data prepare {dataset.name} --from ARCHIVE… --to {shlex.quote(printable(str(root)))}"
    return f"{command} --split {split}\n" + "\n".join(f"  {line}" for line in dataset.sources)


def list_pairs(dataset: Dataset, split: str, root: Path) -> tuple[Pair, ...]:
    """List the images and label maps of a prepared split, paired by stem and sorted by it.

    SanError (code NO_INPUT) that says what is missing and the step that makes it: no folder, nothing in it, a
    preparation that was interrupted, a label without image, or an image without label where the dataset has
    no spare images.
    """
    where = get_split(dataset, split)
    images, labels = root / where.images, root / where.labels
    for folder in (images, labels):
        if not folder.is_dir():
            raise _missing(
                f"{dataset.title} is not here: there is no folder '{folder}'", dataset, split, root
            )
    if _is_unfinished(root, dataset.name, split):
        raise _missing(
            f"the preparation of {dataset.name} {split} in '{root}' was interrupted", dataset, split, root
        )
    image_by_stem = _by_stem(images, dataset.image_suffix)
    label_by_stem = _by_stem(labels, dataset.label_suffix)
    for folder, suffix, found in (
        (images, dataset.image_suffix, image_by_stem),
        (labels, dataset.label_suffix, label_by_stem),
    ):
        if not found:
            raise _missing(f"there is no *{suffix} in '{folder}'", dataset, split, root)
    return _paired(
        image_by_stem,
        label_by_stem,
        spare_images=dataset.spare_images,
        hint=f"Finish the tree: {prepare_step(dataset, split, root)}",
    )


def preparation_file(root: Path, name: str, split: str) -> Path:
    """The file that says how far the preparation of a split has come."""
    return root / ".san" / f"prepare-{name}-{split}.json"


def _is_unfinished(root: Path, name: str, split: str) -> bool:
    """Tell whether a preparation was begun and not ended; trees made by other programs are ended."""
    try:
        found = json.loads(read_regular(preparation_file(root, name, split)))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("complete") is False


def _missing(what: str, dataset: Dataset, split: str, root: Path) -> SanError:
    return SanError(
        printable(what), hint=f"Make it: {prepare_step(dataset, split, root)}", code=ExitCode.NO_INPUT
    )


def _by_stem(folder: Path, suffix: str) -> dict[str, Path]:
    """Find the files below `folder` by their name without suffix, whatever sub-folder they are in."""
    found: dict[str, Path] = {}
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in names:
            if not name.lower().endswith(suffix.lower()) or name.startswith("."):
                continue
            path = Path(parent, name)
            first = found.setdefault(name[: -len(suffix)], path)
            if first is not path:
                raise SanError(
                    printable(f"'{first}' and '{path}' have the same stem"), hint="Move one of them away."
                )
    return found


def _paired(
    images: dict[str, Path], labels: dict[str, Path], *, spare_images: bool, hint: str
) -> tuple[Pair, ...]:
    lone_labels = sorted(labels.keys() - images.keys())
    lone_images = [] if spare_images else sorted(images.keys() - labels.keys())
    faults = []
    for lone, paths, partner in ((lone_labels, labels, "image"), (lone_images, images, "label")):
        if lone:
            more = f" (and {len(lone) - 1:,} more)" if len(lone) > 1 else ""
            faults.append(f"'{paths[lone[0]]}'{more} has no {partner}")
    if faults:
        raise SanError(printable(", ".join(faults)), hint=hint, code=ExitCode.NO_INPUT)
    return tuple(Pair(images[stem], labels[stem], stem) for stem in sorted(labels))
