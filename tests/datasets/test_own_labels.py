"""Labels as people have them: what each kind comes to, in `san eval` and `san train` alike.

Most are tried on the step that both commands share, which needs no model; some on the commands themselves.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from program import Ended, San
from train_data import write_preset

from san_cli.datasets.label_scheme import look
from san_cli.datasets.labels import read_ids
from san_cli.datasets.own_pairs import ignored_values
from san_cli.datasets.task import OwnData, Task, own_task
from san_cli.errors import SanError

NAMES = ("background", "clothes", "skin")
COLOURS = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
HEIGHT, WIDTH = 36, 60
Truth = np.ndarray


def truths() -> list[Truth]:
    """Three label maps of blocks of 6 pixels."""
    rng = np.random.default_rng(5)
    blocks = [rng.integers(0, 3, (HEIGHT // 6, WIDTH // 6)) for _ in range(3)]
    return [np.kron(block, np.ones((6, 6), int)).astype(np.uint8) for block in blocks]


def make(
    folder: Path,
    change: Callable[[Truth], Any] = lambda truth: truth,
    *,
    names: tuple[str, ...] = NAMES,
    label: str = "{}.png",
    image: str = "{}.jpg",
    **saving: Any,
) -> Path:
    """Images `i`, labels `l` and classes `c.txt` in a folder; `change` makes the label of the truth."""
    rng = np.random.default_rng(1)
    for number, truth in enumerate(truths()):
        photo, path = folder / "i" / image.format(number), folder / "l" / label.format(number)
        photo.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))
        pixels.save(photo, "PNG" if photo.suffix == ".png" else "JPEG", **saving)
        changed = change(truth)
        if path.suffix == ".npy":
            np.save(path, changed)
        else:
            (changed if isinstance(changed, Image.Image) else Image.fromarray(changed)).save(path)
    (folder / "c.txt").write_text("\n".join(names) + "\n")
    return folder


def task_of(folder: Path, *ignore: str, images: str = "i", labels: str = "l", **options: Any) -> Task:
    patterns = {name: options.pop(name, None) for name in ("image_name", "label_name")}
    data = OwnData(
        folder / images, folder / labels, str(folder / "c.txt"), ignored_values(ignore), **patterns
    )
    return own_task(data, **options)


def ids(task: Task) -> list[np.ndarray]:
    return [pair.read_labels(len(task.classes), task.ignore_label) for pair in task.pairs]


def refused(folder: Path, *ignore: str, **options: Any) -> SanError:
    """What is said of the folder, before anything else or of its first pair."""
    with pytest.raises(SanError) as caught:
        read_all(folder, *ignore, **options)
    return caught.value


def read_all(folder: Path, *ignore: str, **options: Any) -> None:
    task = task_of(folder, *ignore, **options)
    for pair, labels in zip(task.pairs, ids(task), strict=True):
        size = pair.read_image().shape[:2]
        if size != labels.shape:
            raise pair.other_size(size, labels.shape)


def assert_read(task: Task, expected: Callable[[Truth], Truth] = lambda truth: truth) -> None:
    for found, truth in zip(ids(task), truths(), strict=True):
        np.testing.assert_array_equal(found, expected(truth))


def palette_image(indices: np.ndarray, colours: np.ndarray) -> Image.Image:
    made = Image.fromarray(indices.astype(np.uint8))
    made.putpalette(colours.astype(np.uint8).tobytes())
    return made


# What can be read


@pytest.mark.parametrize(
    ("label", "change"),
    [
        ("{}.png", lambda t: t),
        ("{}.PNG", lambda t: t),
        ("{}.bmp", lambda t: t),
        ("{}.bmp", lambda t: np.dstack([t, t, t])),
        ("{}.gif", lambda t: palette_image(t, COLOURS)),
        ("{}.tif", lambda t: t.astype(np.uint16)),
        ("{}.tif", lambda t: t.astype(np.float32)),
        ("{}.npy", lambda t: t),
        ("{}.npy", lambda t: t.astype(np.int64)),
        ("{}.npy", lambda t: t.astype(np.float64)),
        ("{}.npy", lambda t: t[..., None]),
        ("{}.png", lambda t: palette_image(t, COLOURS)),
        ("{}.png", lambda t: np.dstack([t, t, t])),
        ("{}.png", lambda t: np.dstack([t, t, t, np.full_like(t, 255)])),
        ("{}.png", lambda t: np.dstack([t, np.full_like(t, 255)])),
    ],
)
def test_ids_are_read_from(tmp_path: Path, label: str, change: Callable[[Truth], Any]) -> None:
    assert_read(task_of(make(tmp_path, change, label=label)))


def test_one_bit(tmp_path: Path) -> None:
    for label in ("{}.png", "{}.npy", "{}.tif", "{}.bmp"):
        folder = make(tmp_path / label[3:], lambda t: t > 0, names=("off", "on"), label=label)
        assert_read(task_of(folder), lambda t: (t > 0).astype(np.uint8))


# What can't, and what is said


def instances(truth: Truth) -> np.ndarray:
    return truth.astype(np.uint16) * 1000 + 24003


@pytest.mark.parametrize(
    ("change", "label", "names", "ignore", "told"),
    [
        (lambda t: t + 1, "{}.png", NAMES, (), "ids from 1"),
        (lambda t: t + 1, "{}.png", NAMES, ("0",), "ids from 1"),
        (lambda t: t, "{}.png", NAMES[:2], (), "one more than there are classes"),
        (lambda t: (t > 0).astype(np.uint8), "{}.png", NAMES[:1], (), "one more than there are classes"),
        (lambda t: t.astype(np.uint16) * 257, "{}.tif", NAMES, (), "multiples of 257"),
        (instances, "{}.tif", NAMES, (), "ids of instances"),
        (
            lambda t: np.array([0, 128, 255], np.uint8)[t],
            "{}.png",
            NAMES,
            (),
            "--label-map 128=1 --label-map 255=2",
        ),
        (lambda t: np.array([0, 7, 33], np.uint8)[t], "{}.png", tuple("abcdefghij"), (), "up to 33"),
        (lambda t: COLOURS[t], "{}.png", NAMES, (), "--label-map '0,128,0=NAME' --label-map '128,0,0=NAME'"),
        (lambda t: Image.fromarray(COLOURS[t]).convert("P"), "{}.png", NAMES, (), "palette"),
        (lambda t: np.dstack([t, t, t, t * 9]), "{}.png", NAMES, (), "transparent"),
        (lambda t: np.eye(3)[t], "{}.npy", NAMES, (), "[36, 60, 3]"),
        (lambda t: t.astype(int) - 1, "{}.npy", NAMES, (), "-1"),
        (lambda t: t + 0.5, "{}.npy", NAMES, (), "fractions"),
        (lambda t: np.full_like(t, 255), "{}.png", NAMES, (), "no pixel that counts"),
        (lambda t: t * 0, "{}.png", NAMES, ("0",), "no pixel that counts"),
        (lambda t: (t > 0).astype(np.uint8) * 255, "{}.png", NAMES[1:2], ("none",), "Name two classes"),
        (lambda t: (t > 0).astype(np.uint8) * 255, "{}.png", NAMES, ("0",), "--ignore none"),
    ],
)
def test_other_numbers_are_told_apart(
    tmp_path: Path,
    change: Callable[[Truth], Any],
    label: str,
    names: tuple[str, ...],
    ignore: tuple[str, ...],
    told: str,
) -> None:
    fault = refused(make(tmp_path, change, names=names, label=label), *ignore)
    assert fault.code == 4
    assert told in f"{fault.message} {fault.hint}"
    assert "san data" not in fault.hint


def interpolated(truth: Truth) -> np.ndarray:
    small = Image.fromarray(truth * 100).resize((WIDTH // 2, HEIGHT // 2), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))


def noise(_: Truth) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH), np.uint8)


def test_interpolated_labels(tmp_path: Path) -> None:
    fault = refused(make(tmp_path / "few", interpolated))
    assert "resized with interpolation" in fault.message and "NEAREST" in fault.hint
    many = task_of(make(tmp_path / "many", interpolated, names=tuple(f"n{i}" for i in range(250))))
    assert any("interpolation" in note for note in many.notes)  # every value is an id: it can only be a note
    assert not task_of(make(tmp_path / "right")).notes


def test_photographs_as_labels(tmp_path: Path) -> None:
    grey = refused(make(tmp_path / "grey", noise))
    assert "photograph" in grey.message and "swapped" in grey.hint
    colour = refused(
        make(tmp_path / "colour", lambda t: np.dstack([noise(t), noise(t).T.reshape(t.shape), t]))
    )
    assert "photograph" in colour.hint
    assert "swapped" in refused(make(tmp_path / "exchanged"), images="l", labels="i").hint


def test_a_random_label_is_not_called_interpolated() -> None:
    rng = np.random.default_rng(3)
    assert not look(rng.integers(0, 20, (60, 80)).astype(np.uint8)).is_interpolated
    assert not look(
        np.kron(rng.integers(0, 9, (9, 9)), np.ones((5, 5), int)).astype(np.uint8)
    ).is_interpolated


def test_one_odd_file_among_good_ones_is_its_own_matter(tmp_path: Path) -> None:
    folder = make(tmp_path)
    Image.fromarray(np.full((HEIGHT, WIDTH), 77, np.uint8)).save(folder / "l/1.png")
    task = task_of(folder)
    with pytest.raises(
        SanError, match=r"1\.png holds the value 77 .*end at 2 and 255 means ignored"
    ) as caught:
        ids(task)
    assert caught.value.code == 3
    assert "san data" not in caught.value.hint


@pytest.mark.parametrize("kind", ["pipe", "jpeg", "pages", "deep", "jpeg in a tiff"])
def test_odd_files(tmp_path: Path, kind: str) -> None:
    folder = make(tmp_path)
    path, map_ = folder / "l/1.png", Image.fromarray(truths()[1])
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "jpeg":
        map_.save(path, "JPEG")
    elif kind == "pages":
        map_.save(path, "TIFF", save_all=True, append_images=[map_])
    elif kind == "deep":
        path.write_bytes(deep_png())
    else:
        map_.save(path, "TIFF", compression="jpeg")
    told = {"pipe": "no file", "jpeg": "JPEG", "pages": "pages", "deep": "16 bits", "jpeg in a tiff": "JPEG"}
    with pytest.raises(SanError, match=told[kind]) as caught:
        ids(task_of(folder))
    assert "1.png" in caught.value.message


def deep_png() -> bytes:
    """An RGB PNG of 16 bits: Pillow would keep the high bytes, which are 0 of any id below 256."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + np.full((WIDTH, 3), 2, ">u2").tobytes() for _ in range(HEIGHT))
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


# Sizes and turned images


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_images_turned_by_exif_with_labels_that_are_not(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    fault = refused(make(tmp_path, exif=exif))
    assert "36×60 pixels (upright)" in fault.message and "EXIF orientation" in fault.hint
    assert_read(task_of(make(tmp_path / "both", lambda t: t.T, exif=exif)), lambda t: t.T)


def test_where_sizes_do_not_tell_that_an_image_is_turned_it_is_said(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 3  # upside down
    assert any("EXIF" in note for note in task_of(make(tmp_path, exif=exif)).notes)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t[::2, ::2], "2 times"),
        (lambda t: t.T, "exchanged"),
        (lambda t: t[:-1], "size of its image"),
    ],
)
def test_labels_of_another_size(tmp_path: Path, change: Callable[[Truth], Truth], told: str) -> None:
    fault = refused(make(tmp_path, lambda t: np.ascontiguousarray(change(t))))
    assert fault.code == 4
    assert told in fault.hint


def test_one_label_of_another_size_is_its_own_matter(tmp_path: Path) -> None:
    folder = make(tmp_path)
    Image.fromarray(truths()[1][::2, ::2]).save(folder / "l/1.png")
    fault = refused(folder)
    assert (fault.code, "1.png 30×18" in fault.message) == (3, True)


# What is ignored


def binary(truth: Truth) -> Truth:
    return (truth > 0).astype(np.uint8) * 255


@pytest.mark.parametrize("names", [NAMES[:2], NAMES[1:2], NAMES])
def test_masks_of_0_and_255_are_asked_about(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = make(tmp_path, binary, names=names)
    fault = refused(folder)
    assert fault.code == 2
    assert "255 means ignored" in fault.message and "--ignore none" in fault.hint
    counted = ids(task_of(folder, "255"))  # whoever says so means it
    assert [np.unique(labels).tolist() for labels in counted] == [[0, 255]] * 3


def test_masks_of_what_is_rare_are_asked_about_too(tmp_path: Path) -> None:
    """Of 250 masks one isn't empty: what 255 means there is asked all the same."""
    folder = make(tmp_path, lambda t: np.zeros_like(t), names=NAMES[:2])
    for number in range(3, 250):
        for kind in ("i/{}.jpg", "l/{}.png"):
            (folder / kind.format(number)).write_bytes((folder / kind.format(0)).read_bytes())
    Image.fromarray(binary(truths()[0])).save(folder / "l/131.png")
    fault = refused(folder)
    assert (fault.code, "255 means ignored" in fault.message) == (2, True)
    assert len(task_of(folder, "255").pairs) == 250


def test_masks_among_ids_are_noted(tmp_path: Path) -> None:
    folder = make(tmp_path)
    Image.fromarray(binary(truths()[0])).save(folder / "l/0.png")
    told = "1 of 3 labels hold nothing but 0 and 255"
    assert any(told in note for note in task_of(folder).notes)
    assert not any(told in note for note in task_of(folder, "255").notes)


def test_ignore_none_reads_binary_masks_and_says_so(tmp_path: Path) -> None:
    task = task_of(make(tmp_path, binary, names=NAMES[:2]), "none")
    assert_read(task, lambda t: (t > 0).astype(np.uint8))
    assert any("255 is read as id 1 (clothes)" in note for note in task.notes)


def test_ignore_none_counts_every_id(tmp_path: Path) -> None:
    folder = make(
        tmp_path,
        lambda t: np.where(t == 2, 255, t).astype(np.uint8),
        names=tuple(f"n{i}" for i in range(256)),
    )
    assert_read(task_of(folder, "none"), lambda t: np.where(t == 2, 255, t))
    fault = refused(make(tmp_path / "three", lambda t: np.where(t == 2, 255, t).astype(np.uint8)), "none")
    assert "no value means ignored" in fault.message or "255" in fault.message


def test_several_values_are_ignored(tmp_path: Path) -> None:
    folder = make(tmp_path, lambda t: np.where(t == 2, 255, t).astype(np.uint8))
    for given in (("0", "255"), ("0,255",)):
        ignored = int(given[0].split(",")[0])  # stands for all of them
        assert_read(task_of(folder, *given), lambda t, ignored=ignored: np.where(t == 1, 1, ignored))
    assert "--ignore 7 --ignore 255" in refused(folder, "7").hint


def test_255_is_a_class_of_more_than_255(tmp_path: Path) -> None:
    folder = make(
        tmp_path,
        lambda t: np.where(t == 2, 255, t).astype(np.uint8),
        names=tuple(f"n{i}" for i in range(300)),
    )
    assert any("255 counts as id 255 (n255)" in note for note in task_of(folder).notes)
    assert_read(task_of(folder, "255"), lambda t: np.where(t == 2, 255, t))


@pytest.mark.parametrize("given", ["abc", "-1", "70000", "", "5" * 5000, "1.5", "²"])
def test_what_ignore_can_not_be(given: str) -> None:
    with pytest.raises(SanError, match="no value of a label") as caught:
        ignored_values([given])
    assert caught.value.code == 2 and len(caught.value.message) < 100


def test_notes_on_ids(tmp_path: Path) -> None:
    never_first = task_of(make(tmp_path / "a", lambda t: np.maximum(t, 1)))
    assert any("no label holds id 0 (background)" in note for note in never_first.notes)
    shades = task_of(make(tmp_path / "shades", lambda t: t * 50, names=tuple(f"n{i}" for i in range(150))))
    assert any("0, 50, 100 alone, in equal steps" in note for note in shades.notes)
    turns = iter(range(3))

    def permuted(truth: Truth) -> Image.Image:
        order = np.roll(np.arange(3), next(turns))
        colours = np.zeros((3, 3), np.uint8)
        colours[order] = COLOURS
        return palette_image(order[truth], colours)

    assert any("palettes" in note for note in task_of(make(tmp_path / "b", permuted)).notes)


def test_notes_on_images_of_more_bits(tmp_path: Path) -> None:
    folder = make(tmp_path, image="{}.png")
    for path in (folder / "i").iterdir():
        dark = np.asarray(Image.open(path))[..., 0].astype(np.uint16) * 10  # 4 % of the range
        Image.fromarray(dark).save(path)
    told = [note for note in task_of(folder).notes if "dark" in note]
    assert len(told) == 1 and "0.png" in told[0]
    assert "--range" not in told[0] and "8-bit" in told[0]  # the option is predict's alone
    assert not [note for note in task_of(make(tmp_path / "plain")).notes if ".jpg" in note]


# Names


@pytest.mark.parametrize(
    ("image", "label", "image_name", "label_name"),
    [
        ("{}.jpg", "{}_labelIds.png", None, "{stem}_labelIds.png"),
        ("{}.jpg", "{}_labelIds.png", None, "{stem}_labelIds"),
        ("{}.jpg", "{}.jpg.png", None, "{stem}.jpg.png"),
        ("{}.jpg", "{}.labels.png", None, "{stem}.labels.png"),
        ("{}.jpg", "mask_{}.png", None, "mask_{stem}.png"),
        ("{}.jpg", "sub/{}.png", None, "sub/{stem}.png"),
        ("a/{}.jpg", "{}.png", None, "./{stem}.png"),
        ("a/{}.jpg", "a/gt/{}.png", None, "{path}/gt/{stem}.png"),
        ("img_{}.jpg", "mask_{}.png", "img_{stem}.jpg", "mask_{stem}.png"),
        (
            "aachen/aachen_{}_leftImg8bit.png",
            "aachen/aachen_{}_gtFine_labelIds.png",
            "{stem}_leftImg8bit.png",
            "{stem}_gtFine_labelIds.png",
        ),
    ],
)
def test_names_that_differ_need_a_pattern_which_is_told(
    tmp_path: Path, image: str, label: str, image_name: str | None, label_name: str
) -> None:
    folder = make(tmp_path, image=image, label=label)
    fault = refused(folder)
    assert fault.code == 4
    written = label_name if "." in label_name.split("/")[-1] else f"{label_name}.png"
    assert f"--label-name '{written}'" in fault.hint
    assert (f"--image-name '{image_name}'" in fault.hint) == (image_name is not None)
    assert_read(task_of(folder, image_name=image_name, label_name=label_name))


def test_images_and_labels_in_one_folder(tmp_path: Path) -> None:
    folder = make(tmp_path)
    for path in (folder / "l").iterdir():
        path.rename(folder / "i" / path.name)
    fault = refused(folder, labels="i")
    assert "--image-name" in fault.hint
    assert_read(task_of(folder, labels="i", image_name="{stem}.jpg"))
    assert_read(task_of(folder, labels="i", label_name="{stem}.png"))


def test_labels_in_a_folder_among_the_images(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / "l").rename(folder / "i/labels")
    assert_read(task_of(folder, labels="i/labels"))


@pytest.mark.parametrize(
    "pattern", ["*_mask.png", "mask.png", "{name}.png", "{stem}_{stem}.png", "{stem", "{stem}{path}{path}"]
)
def test_patterns_that_are_none(tmp_path: Path, pattern: str) -> None:
    fault = refused(make(tmp_path), label_name=pattern)
    assert fault.code == 2
    assert "{stem}" in fault.hint


def test_what_lies_in_a_folder_of_labels(tmp_path: Path) -> None:
    folder = make(tmp_path)
    for suffix, told in (
        (".jpg", "JPEG"),
        (".json", "labelme's JSON"),
        (".txt", "drawn first"),
        (".mat", ".npy"),
    ):
        other = folder / suffix[1:]
        other.mkdir()
        (other / f"0{suffix}").write_text("{}")
        fault = refused(folder, labels=suffix[1:])
        assert fault.code == 4
        assert f"1 {suffix}" in fault.message and told in fault.hint
    assert "no labels that san reads" in refused(folder, labels="json/0.json").message
    assert "takes a folder" in refused(folder, labels="txt/0.txt").message
    (folder / "empty").mkdir()
    assert "empty" in refused(folder, labels="empty").message
    assert refused(folder, labels="nowhere").code == 4


def test_a_pattern_that_nothing_fits_and_the_nearest_name(tmp_path: Path) -> None:
    folder = make(tmp_path)
    assert "--label-name '{stem}.png'" in refused(folder, label_name="{stem}_x").hint
    (folder / "l/2.png").rename(folder / "l/two.png")
    assert "'two.png'" in refused(folder).hint


def test_images_left_out_by_a_pattern_are_counted(tmp_path: Path) -> None:
    folder = make(tmp_path, image="img_{}.jpg")
    Image.new("RGB", (9, 9)).save(folder / "i/other.jpg")
    task = task_of(folder, image_name="img_{stem}.jpg", label_name="{stem}.png")
    assert_read(task)
    assert any("1 of 4 images" in note for note in task.notes)


def test_labels_left_out_by_a_pattern_are_counted(tmp_path: Path) -> None:
    folder = make(tmp_path, label="person/{}.png")
    make(tmp_path, label="car/{}.png")
    task = task_of(folder, label_name="person/{stem}.png")
    assert_read(task)
    assert any("3 of 6 labels" in note for note in task.notes)


def test_links_to_a_folder_that_they_are_in_are_not_followed(tmp_path: Path) -> None:
    make(tmp_path)
    for name in ("one", "two"):  # with two, the paths would double with each level
        (tmp_path / "i" / name).symlink_to(".")
        (tmp_path / "l" / name).symlink_to("..")
    assert_read(task_of(tmp_path))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiffs_in_which_0_is_white_are_refused(tmp_path: Path, dtype: type[np.generic]) -> None:
    path = tmp_path / "label.tif"
    tifffile.imwrite(path, np.array([[0, 1], [2, 0]], dtype), photometric="miniswhite")
    with pytest.raises(SanError, match="0 is white"):
        read_ids(path)


def test_tiffs_that_readers_turn_or_not_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "label.tif"
    Image.fromarray(truths()[0]).save(path, tiffinfo={274: 6})
    with pytest.raises(SanError, match="orientation 6"):
        read_ids(path)
    Image.fromarray(truths()[0]).save(path, tiffinfo={274: 1})
    np.testing.assert_array_equal(read_ids(path), truths()[0])


def test_names_in_two_spellings_of_one_letter(tmp_path: Path) -> None:
    assert_read(task_of(make(tmp_path, image="e\u0301{}.jpg", label="\u00e9{}.png")))


# The commands


@pytest.fixture
def evaluate(san: San, tiny_weights: Path) -> Callable[..., Ended]:
    def run(folder: Path, *options: object) -> Ended:
        data = ("--images", folder / "i", "--labels", folder / "l", "--classes", folder / "c.txt")
        return san("eval", *data, "--weights", tiny_weights, "--device", "cpu", *options)

    return run


@pytest.fixture
def train(san: San) -> Callable[..., Ended]:
    def run(folder: Path, *options: object) -> Ended:
        data = ("--images", folder / "i", "--labels", folder / "l", "--classes", folder / "c.txt")
        model = (
            "--model",
            write_preset(folder / "micro.json"),
            "--clip-weights",
            "random",
            "--device",
            "cpu",
        )
        short = ("--iterations", 1, "--batch", 1, "--set", "points=64", "--workers", 0, "--eval-every", 0)
        return san("train", *data, *model, *short, "-o", folder / "out", *options)

    return run


def test_both_commands_ask_what_255_is(evaluate: Any, train: Any, tmp_path: Path) -> None:
    folder = make(tmp_path, binary, names=NAMES[:2])
    for ended in (evaluate(folder), train(folder)):
        assert (ended.code, ended.out) == (2, "")
        assert "--ignore none" in ended.err
    assert not (folder / "out").exists()
    ended = evaluate(folder, "--ignore", "none", "--json")
    assert (ended.code, json.loads(ended.out)["results"][0]["classes_present"]) == (0, 2)
    assert "255 is read as id 1" in ended.err
    ended = train(folder, "--ignore", "none", "--dry-run")
    assert ended.code == 0, ended.err
    assert "2 of 2 classes occur" in ended.err and "255 is read as id 1" in ended.err


def test_both_commands_take_patterns(evaluate: Any, train: Any, tmp_path: Path) -> None:
    folder = make(tmp_path, image="img_{}.jpg", label="mask_{}.png")
    names = ("--image-name", "img_{stem}.jpg", "--label-name", "mask_{stem}.png")
    for command, more in ((evaluate, ()), (train, ("--dry-run",))):
        assert "--label-name 'mask_{stem}.png'" in command(folder).err
        assert command(folder, *names, *more).code == 0


def test_keep_going_skips_what_has_no_partner(evaluate: Any, tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / "l/2.png").unlink()
    ended = evaluate(folder)
    assert (ended.code, ended.out) == (4, "")
    assert "2.jpg" in ended.err and "--keep-going" in ended.err
    (folder / "l/9.png").write_bytes((folder / "l/1.png").read_bytes())
    ended = evaluate(folder, "--keep-going", "--json")
    assert ended.code == 3
    row = json.loads(ended.out)["results"][0]
    assert row["images"] == 2
    assert sorted(one["why"].split("' ")[1] for one in row["skipped"]) == ["has no image", "has no label"]


def test_labels_of_which_nothing_counts(evaluate: Any, train: Any, tmp_path: Path) -> None:
    folder = make(tmp_path, lambda t: np.full_like(t, 255))
    for ended in (evaluate(folder), train(folder)):
        assert (ended.code, ended.out) == (4, "")
        assert "no pixel that counts" in ended.err


def test_ignored_values_are_part_of_what_is_resumed(evaluate: Any, tmp_path: Path) -> None:
    folder = make(tmp_path)
    assert evaluate(folder, "-o", folder / "report", "--worst", 0).code == 0
    ended = evaluate(folder, "-o", folder / "report", "--resume", "--ignore", "255", "--ignore", "2")
    assert (ended.code, "ignore" in ended.err) == (2, True)
