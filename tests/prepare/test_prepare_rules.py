"""Every dataset's conversion rule, written down here a second time, on miniature raw trees."""

from pathlib import Path

import numpy as np
import pytest
import raw_datasets as raw_trees
from PIL import Image

from san_cli.datasets.catalogue import CATALOGUE, get_dataset, list_pairs
from san_cli.datasets.check import check_dataset
from san_cli.datasets.labels import read_label
from san_cli.errors import ExitCode, SanError
from san_cli.prepare.cv2_resize import resize_linear, resize_nearest
from san_cli.prepare.run import PLANNERS, prepare
from san_cli.text import counted
from san_cli.vocabulary.class_lists import load_dataset_vocabulary


def expected(name: str, raw: raw_trees.Array) -> raw_trees.Array:
    """The listed raw values become their places in the class list, all others the ignore label."""
    vocabulary = load_dataset_vocabulary(name)
    ids = {entry.raw_id: place for place, entry in enumerate(vocabulary.classes)}
    return np.array([ids.get(value, vocabulary.ignore_label) for value in raw.ravel().tolist()]).reshape(
        raw.shape
    )


def test_every_dataset_can_be_prepared() -> None:
    assert set(PLANNERS) == set(CATALOGUE) == set(raw_trees.MAKERS)


@pytest.mark.parametrize("name", raw_trees.MAKERS)
def test_raw_tree_becomes_train_ids(name: str, tmp_path: Path) -> None:
    raw = raw_trees.MAKERS[name](tmp_path / "raw")
    dataset, warnings = get_dataset(name), []
    prepare(dataset, [tmp_path / "raw"], tmp_path / "root", warn=warnings.append)

    for split in sorted({key.split("/")[0] for key in raw} & set(dataset.splits)):
        pairs = list_pairs(dataset, split, tmp_path / "root")
        assert [f"{split}/{pair.stem}" for pair in pairs] == sorted(k for k in raw if k.startswith(split))
        for pair in pairs:
            found = np.asarray(Image.open(pair.label))
            assert found.dtype == (np.uint8 if dataset.ignore_label == 255 else np.uint16)
            np.testing.assert_array_equal(found, expected(name, raw[f"{split}/{pair.stem}"]))
        checked = check_dataset(dataset, split, tmp_path / "root")
        assert checked.faults == ()
        told = f"{name} {split}: {counted(len(pairs), 'pair')}"  # not the real number
        assert any(told in text for text in warnings)


def test_rules_that_are_easily_got_wrong(tmp_path: Path) -> None:
    """VOC's outline is not class 254, ADE's 0 is ignored, COCO has holes, 431 of PASCAL-Context is a class."""
    for name, values, ids in (
        ("voc", [0, 1, 20, 255], [255, 0, 19, 255]),
        ("ade150", [0, 1, 2, 150], [255, 0, 1, 149]),
        ("coco", [0, 11, 12, 79, 90, 91, 181, 255], [0, 255, 11, 70, 255, 80, 170, 255]),
        ("pc459", [0, 1, 2, 9, 431, 458, 459], [65535, 0, 1, 8, 430, 457, 458]),
    ):
        assert expected(name, np.array([values])).tolist() == [ids]


def test_images_are_copied_byte_by_byte(tmp_path: Path) -> None:
    raw_trees.make_voc(tmp_path / "raw")
    before = {path: path.read_bytes() for path in (tmp_path / "raw").rglob("*") if path.is_file()}
    prepare(get_dataset("voc"), [tmp_path / "raw"], tmp_path / "root", ["val"])
    copies = list((tmp_path / "root/VOC2012/JPEGImages").iterdir())
    assert [path.name for path in copies] == ["2007_000033.jpg"]  # the one that val needs
    assert copies[0].read_bytes() == before[tmp_path / "raw/VOCdevkit/VOC2012/JPEGImages/2007_000033.jpg"]
    assert {path: path.read_bytes() for path in before} == before


def test_tree_can_be_prepared_where_it_lies(tmp_path: Path) -> None:
    for name, make in raw_trees.MAKERS.items():
        root = tmp_path / name
        raw = make(root)
        for _ in range(2):  # the second time in the presence of what the first has made
            prepare(get_dataset(name), [root], root, ["val"])
        assert len(list_pairs(get_dataset(name), "val", root)) == sum(key.startswith("val/") for key in raw)


def test_voc_train_takes_sbd_masks_and_leaves_out_those_without_object(tmp_path: Path) -> None:
    raw_trees.make_voc(tmp_path / "raw")
    raw = raw_trees.add_sbd(tmp_path / "raw")
    (done,) = prepare(get_dataset("voc"), [tmp_path / "raw"], tmp_path / "root", ["train"])
    assert (done.pairs, done.left_out, done.written, done.kept) == (2, 1, 5, 0)  # 3 images, 2 labels
    pairs = list_pairs(get_dataset("voc"), "train", tmp_path / "root")
    assert [pair.stem for pair in pairs] == ["2007_000032", "2008_000008"]
    found = read_label(pairs[1].label, 20, 255)
    np.testing.assert_array_equal(found, expected("voc", raw["train/2008_000008"]))

    (tmp_path / "raw/trainaug.txt").write_text("/JPEGImages/2008_000008.jpg /Masks/2008_000008.png\n")
    prepare(get_dataset("voc"), [tmp_path / "raw"], tmp_path / "listed", ["train"])
    assert [p.stem for p in list_pairs(get_dataset("voc"), "train", tmp_path / "listed")] == ["2008_000008"]


@pytest.mark.parametrize("name", ["pc59", "pc459"])
def test_pascal_context_from_mat_and_list(name: str, tmp_path: Path) -> None:
    raw = raw_trees.make_pcontext(tmp_path / "raw")
    top = tmp_path / "raw/VOCdevkit/VOC2010"
    (top / "trainval_merged.json").unlink()
    warnings: list[str] = []
    for sources in (
        [tmp_path / "raw"],
        [top / "trainval", top / "JPEGImages", top / "pascalcontext_val.txt"],
    ):
        root = tmp_path / f"root{len(sources)}"
        prepare(get_dataset(name), sources, root, warn=warnings.append)
        (pair,) = list_pairs(get_dataset(name), "val", root)
        found = np.asarray(Image.open(pair.label))
        np.testing.assert_array_equal(found, expected(name, raw["val/2008_000002"]))
    assert any("train is left out" in text for text in warnings)  # nobody says which images are train


def test_pascal_context_list_comes_with_san(tmp_path: Path) -> None:
    raw_trees.make_pcontext(tmp_path / "raw")
    for name in ("trainval_merged.json", "pascalcontext_val.txt"):
        (tmp_path / "raw/VOCdevkit/VOC2010" / name).unlink()
    prepare(get_dataset("pc459"), [tmp_path / "raw"], tmp_path / "root", ["val"])
    stems = [pair.stem for pair in list_pairs(get_dataset("pc459"), "val", tmp_path / "root")]
    assert stems == ["2008_000002", "2008_000003"]  # both are in the real list, the third is not
    with pytest.raises(SanError, match="list") as caught:
        prepare(get_dataset("pc459"), [tmp_path / "raw"], tmp_path / "root", ["train"])
    assert "trainval_merged.json" in caught.value.hint


@pytest.mark.parametrize(
    ("size", "new"), [((530, 613), (512, 592)), ((700, 520), (689, 512)), ((512, 900), (512, 900))]
)
def test_ade847_is_shrunk_and_reencoded(size: tuple[int, int], new: tuple[int, int], tmp_path: Path) -> None:
    raw = raw_trees.make_ade847(tmp_path / "raw", size)
    prepare(get_dataset("ade847"), [tmp_path / "raw"], tmp_path / "root", ["val"])
    (pair,) = list_pairs(get_dataset("ade847"), "val", tmp_path / "root")
    rows = np.minimum(np.floor(np.arange(new[0]) * (1 / (new[0] / size[0]))).astype(int), size[0] - 1)
    columns = np.minimum(np.floor(np.arange(new[1]) * (1 / (new[1] / size[1]))).astype(int), size[1] - 1)
    truth = expected("ade847", raw["val/ADE_val_00000001"])[rows][:, columns]
    np.testing.assert_array_equal(np.asarray(Image.open(pair.label)), truth)
    with Image.open(pair.image) as image:
        assert (image.height, image.width) == new
        assert image.quantization[0][0] == 8  # quality 75


def test_linear_resize_equals_opencv() -> None:
    """What cv2.resize(…, INTER_LINEAR) of OpenCV 4.10 and 5.0 gives for these pixels."""
    pixels = (np.arange(7 * 9).reshape(7, 9) * 37 % 256).astype(np.uint8)
    assert resize_linear(pixels, 5, 6)[[0, 2, 4]].tolist() == OPENCV_5_6
    assert resize_linear(pixels[:6, :8], 3, 4).tolist() == OPENCV_HALF
    colours = np.dstack([pixels, 255 - pixels, pixels // 2])
    np.testing.assert_array_equal(resize_linear(colours, 5, 6)[:, :, 0], resize_linear(pixels, 5, 6))
    assert resize_nearest(pixels, 5, 6)[3].tolist() == OPENCV_NEAREST


OPENCV_5_6 = [[25, 80, 135, 153, 144, 46], [176, 40, 95, 151, 206, 70], [200, 102, 93, 110, 166, 221]]
OPENCV_HALF = [[57, 131, 141, 87], [147, 93, 103, 177], [109, 183, 129, 75]]
OPENCV_NEAREST = [52, 89, 163, 200, 18, 55]


@pytest.mark.parametrize(("name", "value"), [("ade150", 151), ("coco", 200), ("voc", 21), ("cityscapes", 40)])
def test_value_that_raw_labels_never_have(name: str, value: int, tmp_path: Path) -> None:
    raw_trees.MAKERS[name](tmp_path / "raw")
    folders = ("stuffthingmaps", "annotations", "SegmentationClass", "gtFine")
    labels = [p for p in (tmp_path / "raw").rglob("*.png") if any(f in p.parts for f in folders)]
    for path in labels:
        raw_trees.write_grey(path, raw_trees.raw_map([1, value]))
    with pytest.raises(SanError, match="could not be converted") as caught:
        prepare(get_dataset(name), [tmp_path / "raw"], tmp_path / "root", ["val"])
    assert caught.value.code == ExitCode.SOME_FAILED
    assert f"holds the value {value}" in caught.value.hint
    assert str(tmp_path) in caught.value.hint
    with pytest.raises(SanError, match="interrupted"):
        list_pairs(get_dataset(name), "val", tmp_path / "root")


def test_other_release_of_ade_is_not_taken_for_this_one(tmp_path: Path) -> None:
    raw_trees.make_ade847(tmp_path / "raw")
    (tmp_path / "raw/ADE20K_2021_17_01/images/ADE").rename(tmp_path / "raw/ADE20K_2021_17_01/images/all")
    with pytest.raises(SanError, match="found no images for ade847 val"):
        prepare(get_dataset("ade847"), [tmp_path / "raw"], tmp_path / "root")


def test_category_outside_the_59_is_refused(tmp_path: Path) -> None:
    raw_trees.make_pcontext(tmp_path / "raw")
    path = tmp_path / "raw/VOCdevkit/VOC2010/trainval_merged.json"
    path.write_text(path.read_text().replace('"category_id": 458', '"category_id": 459'))
    with pytest.raises(SanError) as caught:
        prepare(get_dataset("pc59"), [tmp_path / "raw"], tmp_path / "root", ["val"])
    assert "the value 459" in caught.value.hint
    assert "2008_000002" in caught.value.hint
