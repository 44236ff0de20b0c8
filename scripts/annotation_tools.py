"""What annotation tools read of a folder of `san predict`, each asked in its own way; for check_annotation_tools."""

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
from PIL import Image

LabelMap = np.ndarray  # [H, W], -1 where unlabelled
Mask = np.ndarray  # bool [H, W]
_CVAT_NAME = 64  # characters that it keeps of a label's name


class Shape(NamedTuple):
    """What a tool has read: `rings` of a polygon, a mask, or both."""

    image: str  # file name
    label: str
    rings: list[np.ndarray] | None = None  # of [n, 2], x and y in pixels
    mask: Mask | None = None


Reading = tuple[str, Iterator[Shape]]  # the file, or the way, and what was read


@dataclass(frozen=True)
class Written:
    """What we wrote: the folder, and its label maps."""

    folder: Path
    images: Path
    names: list[str]
    maps: dict[str, LabelMap]  # by file name, `sub/photo.jpg`
    outlines: int | None  # of all regions, where coco-polygons.json tells

    def has(self, name: str) -> bool:
        """Tell whether this file or folder is there."""
        return (self.folder / name).exists()

    @property
    def classes(self) -> set[tuple[str, int]]:
        """List image and number of all classes found."""
        return {
            (image, class_id)
            for image, label_map in self.maps.items()
            for class_id in np.unique(label_map[label_map >= 0]).tolist()
        }

    def image_of(self, path: str) -> str:
        """Return the image's file name that a path to it, a link or a name without its suffix ends in."""
        real = Path(path).resolve().as_posix()
        ends = [name for name in self.maps if f"/{real}".endswith((f"/{name}", f"/{_stem(name)}"))]
        return max(ends, key=len)


def _stem(name: str) -> str:
    return str(Path(name).with_suffix(""))


def read_written(folder: Path, images: Path | None) -> Written:
    """Read the label maps below `folder`, by Pillow alone; without `images`, links of YOLO tell where these are."""
    names = [row["name"] for row in json.loads((folder / "classes.json").read_bytes())]
    polygons = (folder / "coco-polygons.json").exists()
    coco = json.loads((folder / ("coco-polygons.json" if polygons else "predictions.json")).read_bytes())
    outlines = sum(len(found["segmentation"]) for found in coco["annotations"]) if polygons else None
    maps = {}
    for row in coco["images"]:
        with Image.open(folder / f"{_stem(row['file_name'])}.labels.png") as picture:
            label_map = np.asarray(picture).astype(np.int64)
        label_map[label_map == (255 if len(names) <= 255 else 65535)] = -1
        maps[row["file_name"]] = label_map
    if images is None:
        first = next(iter(maps))
        links = [path for path in (folder / "yolo" / "images").rglob("*") if path.is_symlink()]
        real = next(path for path in map(os.path.realpath, links) if path.endswith("/" + first))
        images = Path(real.removesuffix(first))
    return Written(folder.resolve(), images.resolve(), names, maps, outlines)


def _flat_rings(polygons: list[list[float]] | None) -> list[np.ndarray] | None:
    return None if polygons is None else [np.array(ring, float).reshape(-1, 2) for ring in polygons]


def pycocotools(ours: Written) -> Iterator[Reading]:
    """COCO's own reader: `annToMask` of polygons and run lengths."""
    from pycocotools.coco import COCO

    def shapes(name: str) -> Iterator[Shape]:
        coco = COCO(str(ours.folder / name))
        for found in coco.loadAnns(coco.getAnnIds()):
            label = coco.loadCats(found["category_id"])[0]["name"]
            image = coco.loadImgs(found["image_id"])[0]["file_name"]
            polygons = found["segmentation"] if isinstance(found["segmentation"], list) else None
            yield Shape(image, label, _flat_rings(polygons), coco.annToMask(found).astype(bool))

    for name in ("predictions.json", "coco-polygons.json"):
        if ours.has(name):
            yield name, shapes(name)


def labelformat(ours: Written) -> Iterator[Reading]:
    """Its inputs for instance segmentation, which know no pixels; of CVAT it reads boxes alone."""
    from labelformat.formats.coco import COCOInstanceSegmentationInput
    from labelformat.formats.yolov8 import YOLOv8InstanceSegmentationInput

    def shapes(source: Any, name_of: Callable[[str], str]) -> Iterator[Shape]:
        for image in source.get_labels():
            for found in image.objects:
                rings = [np.array(ring) for ring in found.segmentation.polygons]
                yield Shape(name_of(image.image.filename), found.category.name, rings)

    if ours.has("coco-polygons.json"):
        source = COCOInstanceSegmentationInput(ours.folder / "coco-polygons.json")
        yield "coco-polygons.json", shapes(source, str)
    if ours.has("yolo/data.yaml"):
        source = YOLOv8InstanceSegmentationInput(ours.folder / "yolo" / "data.yaml", "train")
        yield (
            "yolo",
            shapes(source, lambda name: ours.image_of(str(ours.folder / "yolo" / "images" / name))),
        )


def datumaro(ours: Written) -> Iterator[Reading]:
    """Its importers of COCO and CVAT, in folders as they want them; of YOLO it reads boxes alone."""
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset

    def shapes(kind: str, file: str, place: str) -> Iterator[Shape]:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / place).parent.mkdir(exist_ok=True)
            (Path(folder) / "images").symlink_to(ours.images)
            (Path(folder) / place).write_bytes((ours.folder / file).read_bytes())
            dataset = Dataset.import_from(folder, kind)
            labels = dataset.categories()[AnnotationType.label]
            for item in dataset:
                for found in item.annotations:
                    if found.type == AnnotationType.polygon:
                        ring = np.array(found.points).reshape(-1, 2)
                        yield Shape(ours.image_of(item.id), labels[found.label].name, [ring])

    if ours.has("coco-polygons.json"):
        place = "annotations/instances_all.json"
        yield "coco-polygons.json", shapes("coco_instances", "coco-polygons.json", place)
    if ours.has("cvat.xml"):
        yield "cvat.xml", shapes("cvat", "cvat.xml", "all.xml")


def supervision(ours: Written) -> Iterator[Reading]:
    """Its DetectionDataset, whose masks OpenCV draws; of YOLO it reads one folder, and not those within."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from supervision import DetectionDataset

    def shapes(dataset: Any) -> Iterator[Shape]:
        for path, found in dataset.annotations.items():
            for mask, class_id in zip(found.mask if len(found) else (), found.class_id, strict=True):
                yield Shape(ours.image_of(path), dataset.classes[class_id], mask=mask.astype(bool))

    def yolo() -> Iterator[Any]:
        images, labels = ours.folder / "yolo/images", ours.folder / "yolo/labels"
        for folder in sorted({path.parent for path in images.rglob("*.*")}):
            places = str(folder), str(labels / folder.relative_to(images))
            yield DetectionDataset.from_yolo(*places, str(ours.folder / "yolo/data.yaml"), force_masks=True)

    if ours.has("coco-polygons.json"):
        file = str(ours.folder / "coco-polygons.json")
        yield (
            "coco-polygons.json",
            shapes(DetectionDataset.from_coco(str(ours.images), file, force_masks=True)),
        )
    if ours.has("yolo/data.yaml"):
        yield "yolo", (shape for dataset in yolo() for shape in shapes(dataset))


def fiftyone(ours: Written) -> Iterator[Reading]:
    """Its importers of COCO, YOLO and CVAT, which give fractions of the sides."""
    from fiftyone.utils.coco import COCODetectionDatasetImporter
    from fiftyone.utils.cvat import CVATImageDatasetImporter
    from fiftyone.utils.yolo import YOLOv5DatasetImporter

    def shapes(importer: Any) -> Iterator[Shape]:
        with importer:
            for path, _, label in importer:
                image = ours.image_of(path)
                label = (label or {}).get("polylines") if isinstance(label, dict) else label
                for found in label.polylines if label is not None else ():
                    size = ours.maps[image].shape[::-1]
                    yield Shape(image, found.label, [np.array(ring) * size for ring in found.points])

    images = str(ours.images)
    if ours.has("coco-polygons.json"):
        file = str(ours.folder / "coco-polygons.json")
        importer = COCODetectionDatasetImporter(
            data_path=images, labels_path=file, label_types="segmentations", use_polylines=True
        )
        yield "coco-polygons.json", shapes(importer)
    if ours.has("cvat.xml"):
        file = str(ours.folder / "cvat.xml")
        yield "cvat.xml", shapes(CVATImageDatasetImporter(data_path=images, labels_path=file))
    if ours.has("yolo/data.yaml"):
        file = str(ours.folder / "yolo/data.yaml")
        yield "yolo", shapes(YOLOv5DatasetImporter(yaml_path=file, split="train", label_type="polylines"))


def label_studio_sdk(ours: Written) -> Iterator[Reading]:
    """Its check of the interface, tasks and predictions; then, as if these were accepted, its converter to COCO."""
    from label_studio_sdk.converter import Converter
    from label_studio_sdk.label_interface import LabelInterface

    if not ours.has("label-studio.json"):
        return
    config = (ours.folder / "label-studio.xml").read_text("utf-8")
    interface = LabelInterface(config)
    interface.validate()
    tasks = json.loads((ours.folder / "label-studio.json").read_bytes())
    for task in tasks:
        assert task["data"].keys() == {"image"}
        for prediction in task["predictions"]:
            assert not (errors := interface.validate_prediction(prediction, return_errors=True)), errors[:3]
        task["annotations"] = [{"result": prediction["result"]} for prediction in task.pop("predictions")]
    images = [ours.image_of(ours.images / _local_file(task["data"]["image"])) for task in tasks]

    def shapes() -> Iterator[Shape]:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "tasks.json").write_text(json.dumps(tasks))
            converter = Converter(config, project_dir=None, download_resources=False)
            converter.convert_to_coco(f"{folder}/tasks.json", folder, f"{folder}/images", is_dir=False)
            coco = json.loads((Path(folder) / "result.json").read_bytes())
        names = {row["id"]: row["name"] for row in coco["categories"]}
        image_of = {row["id"]: ours.image_of(_local_file(row["file_name"])) for row in coco["images"]}
        for found in coco["annotations"]:
            rings = _flat_rings(found["segmentation"])
            yield Shape(image_of[found["image_id"]], names[found["category_id"]], rings)

    assert images == list(ours.maps), "the addresses of the images"
    yield "label-studio.json", shapes()


def _local_file(address: str) -> str:
    return unquote(address.partition("?d=")[2] or address)


def labelme(ours: Written) -> Iterator[Reading]:
    """Its LabelFile, and the label map that its `shapes_to_label` draws with Pillow."""
    from labelme._label_file import LabelFile
    from labelme.utils import img_data_to_arr, shape_to_mask

    def shapes() -> Iterator[Shape]:
        for image, label_map in ours.maps.items():
            file = LabelFile(str(ours.folder / "labelme" / f"{_stem(image)}.json"))
            assert img_data_to_arr(file.image_data).shape[:2] == label_map.shape
            for shape in file.shapes:
                mask = shape_to_mask(label_map.shape, shape["points"], shape["shape_type"])
                yield Shape(image, shape["label"], [np.array(shape["points"])], mask)

    if ours.has("labelme"):
        yield "labelme", shapes()


def anylabeling(ours: Written) -> Iterator[Reading]:
    """X-AnyLabeling's LabelFile, of labelme's files."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from anylabeling.views.labeling.label_file import LabelFile

    def shapes() -> Iterator[Shape]:
        for image in ours.maps:
            file = LabelFile(str(ours.folder / "labelme" / f"{_stem(image)}.json"))
            assert Path(file.resolved_image_path).resolve() == ours.images / image
            for shape in file.shapes:
                assert shape.shape_type == "polygon" and 0 <= (shape.score or 0) <= 1
                yield Shape(
                    image, shape.label, [np.array([(point.x(), point.y()) for point in shape.points])]
                )

    if ours.has("labelme"):
        yield "labelme", shapes()


def ultralytics(ours: Written) -> Iterator[Reading]:
    """`check_det_dataset`, the labels of its dataset, their masks by `polygon2mask`, and one batch of its loader."""
    os.environ.setdefault("YOLO_OFFLINE", "true")
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_dataloader, build_yolo_dataset
    from ultralytics.data.utils import check_det_dataset, polygon2mask

    if not ours.has("yolo/data.yaml"):
        return
    data = check_det_dataset(str(ours.folder / "yolo/data.yaml"), autodownload=False)
    assert list(data["names"].values()) == ours.names
    cfg = get_cfg(overrides={"task": "segment", "imgsz": 320, "workers": 0, "cache": False})
    dataset = build_yolo_dataset(cfg, data["train"], batch=4, data=data, mode="train")
    for cache in (ours.folder / "yolo").rglob("*.cache"):
        cache.unlink()
    assert len(dataset) == len(ours.maps), f"{len(dataset)} images of {len(ours.maps)}"
    batch = next(iter(build_dataloader(dataset, batch=4, workers=0, shuffle=False, device="cpu")))
    print(f"ultralytics: a batch of images {tuple(batch['img'].shape)}, masks {tuple(batch['masks'].shape)}")

    def shapes() -> Iterator[Shape]:
        for label in dataset.labels:
            image, size = ours.image_of(label["im_file"]), label["shape"]
            for class_id, segment in zip(label["cls"][:, 0], label["segments"], strict=True):
                ring = segment * np.array(size[::-1], np.float32)
                mask = polygon2mask(size, [ring.reshape(-1)]).astype(bool)
                yield Shape(image, data["names"][int(class_id)], [ring], mask)

    yield "yolo", shapes()


def cvat(ours: Written) -> Iterator[Reading]:
    """What CVAT takes of a file by the rules of `load_anno` in its dataset_manager/formats/cvat.py: it is no package.

    An image is the task's by its name without the suffix; a polygon has a label of the task, points "x,y;x,y", and
    whole numbers for z_order and group_id.
    """
    frames = {_stem(name): name for name in ours.maps}

    def shapes() -> Iterator[Shape]:
        events = iter(ElementTree.iterparse(ours.folder / "cvat.xml", ("start", "end")))
        assert next(events)[1].tag == "annotations"
        labels: set[str] = set()
        image = ""
        for event, element in events:
            if event == "start" and element.tag == "image":
                assert element.attrib["id"].isdecimal()
                image = frames[_stem(element.attrib["name"])]
                height, width = ours.maps[image].shape
                assert (element.attrib["width"], element.attrib["height"]) == (str(width), str(height))
            elif event == "end" and element.tag == "name":
                labels.add((element.text or "")[:_CVAT_NAME])
            elif event == "end" and element.tag == "polygon":
                points = [tuple(map(float, pair.split(","))) for pair in element.attrib["points"].split(";")]
                assert element.attrib["label"] in labels and len(points) > 2
                assert int(element.attrib["z_order"]) == 0 and int(element.attrib.get("group_id", 0)) >= 0
                yield Shape(image, element.attrib["label"], [np.array(points)])

    if ours.has("cvat.xml"):
        yield "cvat.xml by its importer's rules", shapes()


TOOLS: dict[str, Callable[[Written], Iterator[Reading]]] = {
    "pycocotools": pycocotools,
    "labelformat": labelformat,
    "datumaro": datumaro,
    "supervision": supervision,
    "fiftyone": fiftyone,
    "label_studio_sdk": label_studio_sdk,
    "labelme": labelme,
    "anylabeling": anylabeling,
    "ultralytics": ultralytics,
    "cvat": cvat,
}
