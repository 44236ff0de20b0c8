"""The tools that are installed read what we write; pycocotools always is, and CVAT's rules need no package."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from painted import NAMES, nested, record_of
from PIL import Image

from san_cli.files import atomic_write
from san_cli.outputs.annotations.cvat import write_cvat
from san_cli.outputs.annotations.label_studio import write_config, write_tasks
from san_cli.outputs.annotations.labelme import write_labelme
from san_cli.outputs.annotations.yolo import link_image, write_data_yaml, write_yolo_labels
from san_cli.outputs.coco import write_coco
from san_cli.outputs.label_map import write_class_table, write_label_map

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "check_annotation_tools.py"
OTHERS = "labelformat datumaro supervision fiftyone label_studio_sdk labelme anylabeling ultralytics"
TOOLS = ["pycocotools", "cvat", *OTHERS.split()]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder of results for two pictures, one of them below a folder."""
    images, out = tmp_path / "photos", tmp_path / "out"
    maps = {"a.png": nested(), "images/b c.png": np.arange(30 * 20).reshape(30, 20) // 37 % 5 - 1}
    records = [record_of(name, label_map) for name, label_map in maps.items()]
    for (name, label_map), record in zip(maps.items(), records, strict=True):
        stem, tree = name.removesuffix(".png"), name.replace("images/", "images_/")
        for folder in (images, out, out / "labelme"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        for folder in ("images", "labels"):
            (out / "yolo" / folder / tree).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", label_map.shape[::-1]).save(images / name)
        write_label_map(out / f"{stem}.labels.png", label_map, NAMES)
        here = "../" * (2 + stem.count("/"))
        scores = dict.fromkeys(range(len(NAMES)), 0.5)
        write_labelme(
            out / f"labelme/{stem}.json",
            f"{here}photos/{name}",
            label_map.shape,
            NAMES,
            record.regions,
            scores,
        )
        link_image(out / "yolo/images" / tree, images / name)
        labels = (out / "yolo/labels" / tree).with_suffix(".txt")
        write_yolo_labels(labels, label_map.shape, record.regions)
    write_class_table(out / "classes.json", NAMES)
    with atomic_write(out / "yolo/data.yaml") as stream:
        write_data_yaml(stream, NAMES)
    with atomic_write(out / "coco-polygons.json") as stream:
        write_coco(stream, info={}, categories=NAMES, records=lambda: iter(records), objects="polygons")
    with atomic_write(out / "cvat.xml") as stream:
        write_cvat(stream, NAMES, records)
    with atomic_write(out / "label-studio.json") as stream:
        write_tasks(stream, NAMES, records)
    with atomic_write(out / "label-studio.xml") as stream:
        write_config(stream, NAMES)
    return out


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_reads_all_of_it(out: Path, tool: str) -> None:
    if tool != "cvat" and importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed")
    asked = subprocess.run(
        [sys.executable, str(SCRIPT), str(out), "--only", tool], capture_output=True, text=True
    )
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert ": agrees" in asked.stdout
    assert "DIFFERS" not in asked.stdout
