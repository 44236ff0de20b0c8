"""The catalogue: roots, pairs, and label maps that are read back or refused."""

from pathlib import Path

import numpy as np
import pytest
import raw_datasets as raw_trees
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from san_cli.datasets.catalogue import CATALOGUE, find_root, get_dataset, list_pairs
from san_cli.datasets.labels import read_label, write_label
from san_cli.datasets.own_pairs import list_own_pairs
from san_cli.errors import ExitCode, SanError
from san_cli.vocabulary.class_lists import DATASET_NAMES, load_dataset_vocabulary


def test_every_entry_fits_its_class_list() -> None:
    assert set(CATALOGUE) == set(DATASET_NAMES) - {"emoji"}  # which has no files
    for name, dataset in CATALOGUE.items():
        vocabulary = load_dataset_vocabulary(dataset.name)
        assert dataset.name == name
        assert dataset.ignore_label == vocabulary.ignore_label
        assert dataset.label_suffix.endswith(".tif" if len(vocabulary.classes) > 255 else ".png")
        assert dataset.default_split in dataset.splits
        assert dataset.sources
        ids = all(entry.coco_category_id is not None for entry in vocabulary.classes)
        assert dataset.uses_dataset_ids == ids
    layout = {name: (s.splits["val"].images, s.splits["val"].labels) for name, s in CATALOGUE.items()}
    assert layout["coco"] == ("coco/val2017", "coco/stuffthingmaps_detectron2/val2017")
    assert layout["voc"] == ("VOC2012/JPEGImages", "VOC2012/annotations_detectron2/val")
    assert layout["pc459"] == ("pcontext_full/val/image", "pcontext_full/val/label")
    counts = [CATALOGUE[name].splits["val"].count for name in ("coco", "voc", "pc59", "ade150", "ade847")]
    assert counts == [5000, 1449, 5104, 2000, 2000]


def test_misspelt_dataset() -> None:
    assert get_dataset("VOC") is CATALOGUE["voc"]
    with pytest.raises(SanError) as caught:
        get_dataset("ade15")
    assert caught.value.hint == "Did you mean ade150?"


def test_root_by_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SAN_DATASETS", "DETECTRON2_DATASETS"):
        monkeypatch.delenv(name, raising=False)
        (tmp_path / name).mkdir()
    assert find_root(None) == Path("datasets")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "DETECTRON2_DATASETS"))
    assert find_root(None) == tmp_path / "DETECTRON2_DATASETS"
    monkeypatch.setenv("SAN_DATASETS", str(tmp_path / "SAN_DATASETS"))
    assert find_root(None) == tmp_path / "SAN_DATASETS"
    assert find_root(tmp_path) == tmp_path
    monkeypatch.setenv("SAN_DATASETS", str(tmp_path / "gone"))
    with pytest.raises(SanError, match=r"\$SAN_DATASETS"):
        find_root(None)


def prepared_voc(root: Path) -> Path:
    """A tree as another program prepares it."""
    for stem in ("b", "a", "spare"):
        raw_trees.write_photo(root / f"VOC2012/JPEGImages/{stem}.jpg")
    for stem in ("b", "a"):
        raw_trees.write_grey(
            root / f"VOC2012/annotations_detectron2/val/{stem}.png", raw_trees.raw_map([0, 19, 255])
        )
    return root


def test_pairs_are_by_stem_and_sorted(tmp_path: Path) -> None:
    root = prepared_voc(tmp_path)
    (root / "VOC2012/JPEGImages/._a.jpg").write_bytes(b"left by a Mac")
    pairs = list_pairs(get_dataset("voc"), "val", root)
    assert [(pair.stem, pair.image.name, pair.label.name) for pair in pairs] == [
        ("a", "a.jpg", "a.png"),
        ("b", "b.jpg", "b.png"),
    ]


def test_missing_data_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(SanError, match="there is no folder") as caught:
        list_pairs(get_dataset("ade847"), "val", tmp_path)
    assert caught.value.code == ExitCode.NO_INPUT
    assert f"san data prepare ade847 --from ARCHIVE… --to {tmp_path} --split val" in caught.value.hint
    assert "ade20k.csail.mit.edu" in caught.value.hint
    with pytest.raises(SanError, match="no split 'test'"):
        list_pairs(get_dataset("ade847"), "test", tmp_path)


def test_leftovers_are_errors(tmp_path: Path) -> None:
    root = prepared_voc(tmp_path)
    (root / "VOC2012/JPEGImages/b.jpg").unlink()
    with pytest.raises(SanError, match=r"b\.png' has no image"):
        list_pairs(get_dataset("voc"), "val", root)
    for stem, folder in (("1", "images"), ("2", "images"), ("2", "annotations_detectron2")):
        suffix = "jpg" if folder == "images" else "png"
        path = root / f"ADEChallengeData2016/{folder}/validation/{stem}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(SanError, match=r"1\.jpg' has no label"):  # only VOC has spare images
        list_pairs(get_dataset("ade150"), "val", root)


def test_own_pairs(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    for name in ("x.webp", "sub/y.png", "z.JPG"):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).touch()
    (images / "notes.txt").touch()
    for name in ("x.png", "sub/y.tif", "z.tiff"):
        (labels / name).parent.mkdir(parents=True, exist_ok=True)
        (labels / name).touch()
    assert [pair.stem for pair in list_own_pairs(images, labels).pairs] == ["sub/y", "x", "z"]
    (images / "x.jpg").touch()
    with pytest.raises(SanError, match="same stem"):
        list_own_pairs(images, labels)
    (images / "x.jpg").unlink()
    (images / "lone.jpg").touch()
    (labels / "alone.png").touch()
    with pytest.raises(SanError, match=r"alone\.png' has no image, .*lone\.jpg' has no label"):
        list_own_pairs(images, labels)
    with pytest.raises(SanError, match="no folder of labels"):
        list_own_pairs(images, tmp_path / "nowhere")


@settings(max_examples=40, deadline=None)
@given(data=st.data(), wide=st.booleans())
def test_labels_survive_the_disk(
    data: st.DataObject, wide: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    dtype, suffix, top = (np.uint16, ".tif", 65535) if wide else (np.uint8, ".png", 255)
    shape = array_shapes(min_dims=2, max_dims=2, max_side=20)
    labels = data.draw(arrays(dtype, shape, elements=st.integers(0, top)))
    path = tmp_path_factory.mktemp("labels") / f"label{suffix}"
    write_label(path, labels)
    found = read_label(path, top, top)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, labels)


def test_labels_of_wrong_depth_are_not_written(tmp_path: Path) -> None:
    for name, dtype in (("a.png", np.uint16), ("a.tif", np.uint8)):
        with pytest.raises(ValueError, match="labels are"):
            write_label(tmp_path / name, np.zeros((2, 2), dtype))
    assert list(tmp_path.iterdir()) == []


def test_grey_and_palette_of_any_depth_are_indices(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2, 3]], np.uint8)
    palette = Image.fromarray(values)
    palette.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9])
    palette.save(tmp_path / "palette.png", bits=2)
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "wide.png")
    Image.fromarray(values).save(tmp_path / "grey.tif")
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "integers.tif")
    (tmp_path / "two_bits.png").write_bytes(_grey_png(bits=2, row=0b00011011, width=4))
    for path in sorted(tmp_path.iterdir()):
        assert read_label(path, 4, 255).tolist() == [[0, 1, 2, 3]], path.name
    Image.fromarray(values > 1).save(tmp_path / "one_bit.png")
    assert read_label(tmp_path / "one_bit.png", 2, 255).tolist() == [[0, 0, 1, 1]]


def _grey_png(bits: int, row: int, width: int) -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, 1, bits, 0, 0, 0, 0)
    body = zlib.compress(bytes([0, row]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_value_out_of_range_names_file_value_place_and_fix(tmp_path: Path) -> None:
    labels = raw_trees.raw_map([0, 1, 255])
    labels[2, 3] = 20
    raw_trees.write_grey(tmp_path / "bad.png", labels)
    with pytest.raises(SanError) as caught:
        read_label(tmp_path / "bad.png", 20, 255)
    error = caught.value
    assert error.message.startswith(f"{tmp_path}/bad.png holds the value 20 (row 2, column 3; 1 pixels)")
    assert "san data prepare" in error.hint
    assert error.code == ExitCode.SOME_FAILED
    assert read_label(tmp_path / "bad.png", 21, 255)[2, 3] == 20


@pytest.mark.parametrize("kind", ["colours", "text", "empty", "cut", "missing", "folder", "float", "jpeg"])
def test_what_is_no_label_map(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "label.png"
    if kind == "colours":
        raw_trees.write_photo(path)
    elif kind in ("text", "empty"):
        path.write_text("hello" if kind == "text" else "")
    elif kind == "cut":
        raw_trees.write_grey(path, raw_trees.raw_map(list(range(200)), (90, 90)))
        path.write_bytes(path.read_bytes()[:60])
    elif kind == "folder":
        path.mkdir()
    elif kind == "float":
        Image.fromarray(np.full((3, 3), 1.5, np.float32)).save(path, "TIFF")
    elif kind == "jpeg":
        Image.fromarray(np.ones((9, 9), np.uint8)).save(path, "JPEG")
    with pytest.raises(SanError) as caught:
        read_label(path, 20, 255)
    assert str(path) in caught.value.message
    assert caught.value.code == ExitCode.SOME_FAILED
