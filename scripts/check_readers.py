"""Open a `predictions.json` in the readers of COCO files and compare what they see with our label maps.

    python scripts/check_readers.py san-out/predictions.json [--images FOLDER] [--reader NAME]

Asks those of pycocotools, FiftyOne, datumaro and supervision that are installed (`pip install -e '.[readers]'`, or
each in an environment of its own: this script needs only numpy and Pillow besides). The label maps are the
`*.labels.png` beside the file, read here by Pillow alone. Every class of every map must be one object with just
that mask. FiftyOne needs a MongoDB for its datasets; its importer, which is asked here, doesn't.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Mask = np.ndarray  # bool [H, W]
Objects = Iterator[tuple[str, str, Mask]]  # file name of the image, name of the class, mask


def in_label_maps(predictions: Path) -> Objects:
    """The truth: what the label maps hold, for the images and class names of the file."""
    document = json.loads(predictions.read_bytes())
    names = [category["name"] for category in document["categories"]]
    for row in document["images"]:
        with Image.open(predictions.parent / Path(row["file_name"]).with_suffix(".labels.png")) as picture:
            label_map = np.asarray(picture)
        unlabelled = 255 if label_map.dtype == np.uint8 else 65535
        for index in np.unique(label_map[label_map != unlabelled]):
            yield row["file_name"], names[index], label_map == index


def in_pycocotools(predictions: Path, images: Path) -> Objects:
    """Objects that COCO and annToMask see."""
    from pycocotools.coco import COCO

    coco = COCO(str(predictions))
    for image_id in coco.getImgIds():
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image_id)):
            name = coco.loadCats(annotation["category_id"])[0]["name"]
            yield coco.loadImgs(image_id)[0]["file_name"], name, coco.annToMask(annotation).astype(bool)


def in_fiftyone(predictions: Path, images: Path) -> Objects:
    """Objects that FiftyOne's importer of COCO files makes: a mask in a box that is relative to the image.

    Not through its `to_segmentation`, which rounds such a box down and may lose a row or column of it.
    """
    from fiftyone.utils.coco import COCODetectionDatasetImporter

    importer = COCODetectionDatasetImporter(
        data_path=str(images), labels_path=str(predictions), label_types="segmentations"
    )
    with importer:
        for path, metadata, label in importer:
            name = Path(path).relative_to(images).as_posix()
            for found in label.detections if label is not None else ():
                mask = np.zeros((metadata.height, metadata.width), bool)
                x, y = (
                    round(found.bounding_box[0] * mask.shape[1]),
                    round(found.bounding_box[1] * mask.shape[0]),
                )
                mask[y : y + found.mask.shape[0], x : x + found.mask.shape[1]] = found.mask
                yield name, found.label, mask


def in_datumaro(predictions: Path, images: Path) -> Objects:
    """Objects that datumaro imports; it wants `annotations/instances_*.json`, and names images without suffix."""
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset

    file_names = [row["file_name"] for row in json.loads(predictions.read_bytes())["images"]]
    of_item = {str(Path(name).with_suffix("")): name for name in file_names}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "annotations").mkdir()
        (Path(folder) / "images").symlink_to(images)
        (Path(folder) / "annotations" / "instances_all.json").write_bytes(predictions.read_bytes())
        dataset = Dataset.import_from(folder, "coco_instances")
        labels = dataset.categories()[AnnotationType.label]
        for item in dataset:
            for found in item.annotations:
                if found.type == AnnotationType.mask:
                    yield of_item[item.id], labels[found.label].name, np.asarray(found.image).astype(bool)


def in_supervision(predictions: Path, images: Path) -> Objects:
    """Objects that supervision's DetectionDataset holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import supervision

    dataset = supervision.DetectionDataset.from_coco(str(images), str(predictions), force_masks=True)
    for path, found in dataset.annotations.items():
        for mask, class_id in zip(found.mask, found.class_id, strict=True):
            yield Path(path).relative_to(images).as_posix(), dataset.classes[class_id], mask.astype(bool)


READERS: dict[str, Callable[[Path, Path], Objects]] = {
    "pycocotools": in_pycocotools,
    "fiftyone": in_fiftyone,
    "datumaro": in_datumaro,
    "supervision": in_supervision,
}


def compare(found: Objects, truth: dict[tuple[str, str], Mask]) -> tuple[int, int]:
    """Objects seen, and how many of them have just the mask that they should; none may come twice."""
    seen: set[tuple[str, str]] = set()
    objects = equal = 0
    for file_name, name, mask in found:
        objects += 1
        equal += (file_name, name) not in seen and np.array_equal(mask, truth.get((file_name, name)))
        seen.add((file_name, name))
    return objects, equal


def main() -> None:
    """Print a line per reader; exits with 1 if one sees something else than the label maps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("predictions", type=Path)
    parser.add_argument(
        "--images", type=Path, help="the folder that was segmented; FiftyOne lists only what is there"
    )
    parser.add_argument("--reader", choices=list(READERS), help="only this one, which must be installed")
    options: Any = parser.parse_args()
    predictions, images = (
        options.predictions.absolute(),
        (options.images or options.predictions.parent).absolute(),
    )
    truth = {(file_name, name): mask for file_name, name, mask in in_label_maps(predictions)}
    print(f"label maps: {len({file_name for file_name, _ in truth})} images, {len(truth)} objects")
    wrong = 0
    for reader, objects_in in READERS.items():
        if options.reader not in (None, reader):
            continue
        if options.reader is None and importlib.util.find_spec(reader) is None:
            print(f"{reader}: not installed")
            continue
        objects, equal = compare(objects_in(predictions, images), truth)
        agrees = objects == equal == len(truth)
        wrong += not agrees
        verdict = "agrees" if agrees else "DIFFERS"
        print(
            f"{reader} {version(reader)}: {objects} objects, {equal} of them with the right mask: {verdict}"
        )
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
