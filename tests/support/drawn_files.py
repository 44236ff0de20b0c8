"""Label maps written as annotation tools keep them, for tests of their readers."""

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image

from san_cli.regions.outlines import polygons
from san_cli.regions.rle import encode_label_map

NAMES = ("sky", "tall building", "tree", "road & path")
IGNORED = "__ignore__"
Shapes = list[tuple[str, np.ndarray]]


def random_map(seed: int, height: int = 37, width: int = 53, *, whole: bool = True) -> np.ndarray:
    """Blocks of four classes with noise in them: single pixels, diagonal touches, regions within regions."""
    generator = np.random.default_rng(seed)
    low = 0 if whole else -1
    blocks = generator.integers(low, 4, (-(-height // 7), -(-width // 7)))
    labels = np.kron(blocks, np.ones((7, 7), int))[:height, :width]
    noise = generator.random(labels.shape) < 0.1
    labels[noise] = generator.integers(low, 4, noise.sum())
    return labels


def shapes_of(label_map: np.ndarray, ignored: str = IGNORED) -> Shapes:
    """Name and outline of every region, large ones first, so that what lies in a hole is drawn on top of it."""
    found = polygons(label_map + 1)  # what is unlabelled is drawn, too
    names = (ignored, *NAMES)
    rings = [(names[one.class_id], one.rings[0]) for one in found]
    return sorted(rings, key=lambda one: -_area(one[1]))


def _area(ring: np.ndarray) -> float:
    x, y = ring.T.astype(float)
    return abs(float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())) / 2


def write_images(
    folder: Path, label_maps: dict[str, np.ndarray], suffix: str = ".jpg", **saving: Any
) -> None:
    generator = np.random.default_rng(1)
    for name, labels in label_maps.items():
        path = folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (*labels.shape, 3), np.uint8)).save(path, **saving)


def write_labelme(folder: Path, label_maps: dict[str, np.ndarray]) -> Path:
    for name, labels in label_maps.items():
        shapes = [
            {"label": label, "points": ring.tolist(), "shape_type": "polygon", "group_id": None, "flags": {}}
            for label, ring in shapes_of(labels)
        ]
        save_labelme(folder / f"{name}.json", labels.shape, shapes)
    return folder


def save_labelme(path: Path, size: tuple[int, ...], shapes: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": "a.jpg", "imageData": None}
    path.write_text(json.dumps({**head, "imageHeight": size[0], "imageWidth": size[1]}))


def mask_png(pixels: np.ndarray) -> str:
    stream = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def write_yolo(folder: Path, label_maps: dict[str, np.ndarray], *, names: tuple[str, ...] = NAMES) -> Path:
    for name, labels in label_maps.items():
        height, width = labels.shape
        lines = [
            f"{NAMES.index(label)} " + " ".join(f"{x / width:.6f} {y / height:.6f}" for x, y in ring.tolist())
            for label, ring in shapes_of(labels)
        ]
        path = folder / f"labels/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    folder.mkdir(exist_ok=True)
    (folder / "data.yaml").write_text(
        "train: images\nval: images\nnames:\n" + "".join(f"  - {n}\n" for n in names)
    )
    return folder


def coco_of(label_maps: dict[str, np.ndarray], kind: str) -> dict[str, Any]:
    """Polygons of outlines, `rle` compressed, or `counts` uncompressed; ids of categories in another order."""
    images, annotations = [], []
    ids = {name: 10 + 3 * number for number, name in enumerate(NAMES)}
    for number, (name, labels) in enumerate(label_maps.items(), start=100):
        height, width = labels.shape
        images.append({"id": number, "file_name": f"{name}.jpg", "height": height, "width": width})
        segments: list[tuple[str, Any]] = []
        if kind == "polygons":
            segments = [(label, [ring.ravel().tolist()]) for label, ring in shapes_of(labels)]
        elif kind == "rle":
            found = encode_label_map(labels)
            segments = [
                (NAMES[one], {"size": [height, width], "counts": region.counts})
                for one, region in found.items()
            ]
        else:
            for one in np.unique(labels[labels >= 0]).tolist():
                flat = (labels == one).ravel(order="F")
                edges = np.flatnonzero(np.diff(flat, prepend=False))
                counts = np.diff([0, *edges, flat.size]).tolist()
                segments.append((NAMES[one], {"size": [height, width], "counts": counts}))
        for label, segmentation in segments:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ids[label],
                    "segmentation": segmentation,
                    "iscrowd": int(kind == "counts"),
                    "bbox": [0, 0, 1, 1],
                    "area": 1,
                }
            )
    categories = [{"id": ids[name], "name": name} for name in NAMES]
    return {"annotations": annotations, "images": images, "categories": categories[::-1]}


def cvat_of(label_maps: dict[str, np.ndarray]) -> str:
    """Shapes in a shuffled order, with the z_order that puts them right."""
    labels = "".join(f"<label><name>{name.replace('&', '&amp;')}</name></label>" for name in NAMES)
    text = f"<annotations><version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
    for number, (name, label_map) in enumerate(label_maps.items()):
        height, width = label_map.shape
        text += f'<image id="{number}" name="{name}.jpg" width="{width}" height="{height}">'
        for order, (label, ring) in reversed(list(enumerate(shapes_of(label_map)))):
            points = ";".join(f"{x}.00,{y}.00" for x, y in ring.tolist())
            text += f'<polygon label={quoteattr(label)} points="{points}" z_order="{order}"/>'
        text += "</image>"
    return text + "</annotations>"


def label_studio_of(label_maps: dict[str, np.ndarray], key: str = "annotations") -> list[Any]:
    tasks = []
    for number, (name, label_map) in enumerate(label_maps.items(), start=1):
        height, width = label_map.shape
        result = [
            {
                "id": f"r{place}",
                "type": "polygonlabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {"points": (ring * [100 / width, 100 / height]).tolist(), "polygonlabels": [label]},
            }
            for place, (label, ring) in enumerate(shapes_of(label_map))
        ]
        data = {"image": f"/data/local-files/?d=photos/{name}.jpg"}
        tasks.append({"id": number, "data": data, key: [{"result": result}]})
    return tasks
