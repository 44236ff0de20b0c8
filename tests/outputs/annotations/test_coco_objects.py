"""COCO with an annotation for each region, as run lengths and as polygons: pycocotools reads the label maps."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from painted import NAMES, label_maps, nested, record_of
from pycocotools.coco import COCO

from san_cli.outputs.coco import write_coco
from san_cli.outputs.record import ImageRecord
from san_cli.regions.rle import Region
from san_cli.regions.split import FoundRegion


def written(records: list[ImageRecord], objects: str) -> bytes:
    stream = io.BytesIO()
    write_coco(stream, info={}, categories=NAMES, records=lambda: iter(records), objects=objects)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools, numpy 2
@pytest.mark.parametrize("objects", ["regions", "polygons"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(label_map=label_maps)
def test_pycocotools_reads_the_label_map(tmp_path: Path, objects: str, label_map: np.ndarray) -> None:
    record = record_of("a.jpg", label_map)
    (tmp_path / "a.json").write_bytes(written([record], objects))
    coco = COCO(tmp_path / "a.json")
    found = coco.loadAnns(coco.getAnnIds())
    assert len(found) == len(record.regions)
    read = np.full(label_map.shape, -1)
    for annotation in found:
        mask = coco.annToMask(annotation) == 1
        assert mask.sum() == annotation["area"]
        rows, columns = np.nonzero(mask)
        x, y, width, height = annotation["bbox"]
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
        assert (read[mask] == -1).all()
        read[mask] = annotation["category_id"] - 1
    assert np.array_equal(read, label_map)


def test_the_fields_of_a_region() -> None:
    label_map = np.array([[0, -1, 1], [-1, 0, 1]])
    record = record_of("a.jpg", label_map)
    [sky, tree] = json.loads(written([record], "polygons"))["annotations"]
    assert sky == {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "segmentation": [[0, 0, 1, 0, 1, 1, 0, 1], [1, 1, 2, 1, 2, 2, 1, 2]],
        "area": 2,
        "bbox": [0.0, 0.0, 2.0, 2.0],
        "iscrowd": 0,
        "score": 0.5,
        "mean_confidence": 0.5,
    }
    assert tree["segmentation"] == [[2, 0, 3, 0, 3, 2, 2, 2]]
    [sky, _] = json.loads(written([record], "regions"))["annotations"]
    assert sky["segmentation"] == {"size": [2, 3], "counts": "01200"}


def test_classes_are_as_they_were() -> None:
    record = record_of("a.jpg", nested())
    without = record_of("a.jpg", nested())
    without = ImageRecord("a.jpg", 31, 43, without.found)
    assert written([record], "classes") == written([without], "classes")
    assert "mean_confidence" in json.loads(written([record], "classes"))["annotations"][0]


def test_regions_without_outlines_or_scores() -> None:
    lost = FoundRegion(1, Region("04", 4, (0.0, 0.0, 2.0, 2.0)), ())
    record = ImageRecord("a.jpg", 2, 2, regions=(lost,))
    assert json.loads(written([record], "polygons"))["annotations"] == []
    [annotation] = json.loads(written([record], "regions"))["annotations"]
    assert not {"score", "mean_confidence"} & annotation.keys()
