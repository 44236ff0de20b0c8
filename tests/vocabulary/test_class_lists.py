"""The class lists that are shipped: exact names, raw ids and facts."""

import hashlib
import json
from pathlib import Path

import pytest

from san_cli.errors import SanError
from san_cli.vocabulary import class_lists
from san_cli.vocabulary.class_lists import DATASET_NAMES, load_dataset_vocabulary

# Number of classes, ignore label, sha256 of the lines "raw id, tab, name"
TABLES = {
    "coco": (171, 255, "8e763d06bcb43694"),
    "ade150": (150, 255, "5fea34932cfbceb9"),
    "ade847": (847, 65535, "a417577c119f6311"),
    "pc59": (59, 255, "b80613780a36ea48"),
    "pc459": (459, 65535, "d1cbf45b3dd0dc71"),
    "voc": (20, 255, "287facd6f64bfc8a"),
    "cityscapes": (19, 255, "4d0039d884035584"),
}


BENCHMARKS = DATASET_NAMES[:-1]  # the last one, emoji, is ours


@pytest.mark.parametrize("name", BENCHMARKS)
def test_class_lists_are_exact(name: str) -> None:
    dataset = load_dataset_vocabulary(name)
    table = "\n".join(f"{known.raw_id}\t{known.name}" for known in dataset.classes)
    digest = hashlib.sha256(table.encode()).hexdigest()[:16]
    assert (len(dataset.classes), dataset.ignore_label, digest) == TABLES[name]
    for values in (
        [known.name.casefold() for known in dataset.classes],
        [known.raw_id for known in dataset.classes],
    ):
        assert len(values) == len(set(values))
    assert dataset.name == name
    assert dataset.title
    assert dataset.source
    assert len(dataset.classes) <= dataset.ignore_label


def test_spot_checks_of_the_class_lists() -> None:
    coco, ade150, ade847, pc59, pc459, voc, cityscapes = map(load_dataset_vocabulary, BENCHMARKS)
    assert (coco.classes[80].name, coco.classes[80].raw_id, coco.classes[80].coco_category_id) == (
        "banner",
        91,
        92,
    )
    assert all(known.coco_category_id == known.raw_id + 1 for known in coco.classes)
    assert [known.thing for known in coco.classes] == [True] * 80 + [False] * 91
    assert [known.colour is None for known in coco.classes] == [False] * 80 + [True] * 91
    assert [known.raw_id for known in ade150.classes] == list(range(1, 151))
    assert (ade150.classes[8].name, ade150.classes[8].registered_name) == ("window", "window ")
    assert sum(known.registered_name != known.name for known in ade150.classes) == 1
    assert sum(bool(known.thing) for known in ade150.classes) == 100
    assert (ade847.classes[0].raw_id, ade847.classes[1].name) == (2978, "building, edifice")
    assert sum("," in known.name for known in ade847.classes) == 217
    raw_ids = [known.raw_id for known in pc59.classes]
    assert raw_ids == sorted(raw_ids)
    assert "diningtable" in {known.name for known in pc59.classes if known.raw_id == 397}
    assert [known.raw_id for known in pc459.classes] == list(range(1, 460))
    assert sum(not known.in_val for known in pc459.classes) == 114
    assert pc459.classes[430].name == "unknown"
    assert (voc.classes[0].name, voc.classes[-1].name, voc.classes[0].colour) == (
        "aeroplane",
        "tv",
        (128, 0, 0),
    )
    assert (cityscapes.classes[-1].raw_id, cityscapes.classes[0].colour) == (33, (128, 64, 128))


def test_the_order_of_ov_seg_is_a_permutation() -> None:
    facts = json.loads(Path(class_lists.__file__).with_name("pc59.json").read_text(encoding="utf-8"))
    assert sorted(facts["ovseg_order"]) == list(range(59))


def test_an_unknown_class_list() -> None:
    with pytest.raises(SanError, match=r"'ade20k'.*\nDid you mean ade150 or ade847\?"):
        load_dataset_vocabulary("ade20k")
    with pytest.raises(SanError, match="There are: coco, "):
        load_dataset_vocabulary("kitti")
