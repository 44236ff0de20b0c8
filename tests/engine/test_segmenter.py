"""The Python API on a small untrained model: what every caller may rely on."""

import io
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recipe
import torch
from PIL import Image

from san_cli import SanError, Segmenter
from san_cli.engine.device import choose_device, choose_precision
from san_cli.engine.map_options import MapOptions
from san_cli.engine.text_embeddings import TextCache
from san_cli.vocabulary.grammar import vocabulary_of_names


@pytest.fixture
def segmenter(tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Segmenter:
    monkeypatch.setenv("SAN_HOME", str(tmp_path / "home"))
    return Segmenter.load(weights=tiny_weights, device="cpu")


def test_every_kind_of_image_gives_the_same_map(segmenter: Segmenter, tmp_path: Path) -> None:
    pixels = recipe.image(1, 50, 70)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    frozen = pixels.copy()
    frozen.setflags(write=False)
    maps = [
        segmenter.segment(image, ["cat", "dog"]).label_map
        for image in (
            pixels,
            frozen,
            np.asfortranarray(pixels),
            Image.fromarray(pixels),
            tmp_path / "photo.png",
        )
    ]
    assert maps[0].shape == (50, 70)
    assert maps[0].dtype == np.int16
    assert all((maps[0] == other).all() for other in maps[1:])


def test_batches_give_what_single_images_give(segmenter: Segmenter) -> None:
    images = [
        recipe.image(seed, *size) for seed, size in enumerate([(40, 60), (60, 40), (40, 60), (80, 120)])
    ]
    words = ["cat", "dog", "tree", "sky"]
    together = segmenter.segment_batch(images, words, batch=2)
    for image, result in zip(images, together, strict=True):
        assert result.label_map.shape == image.shape[:2]
        assert (result.label_map != segmenter.segment(image, words).label_map).mean() < 1e-3
    with pytest.raises(SanError, match="takes several"):
        segmenter.segment_batch("cat.jpg", words)


def test_large_images_are_seen_through_windows(segmenter: Segmenter, tmp_path: Path) -> None:
    """However they are given, whatever shares the call, and small ones as ever."""
    large, small = recipe.image(1, 170, 230), recipe.image(2, 60, 80)
    Image.fromarray(large).save(tmp_path / "large.png")
    words = ["cat", "dog", "tree", "sky"]
    alone = segmenter.segment(large, words, tile="auto")
    assert alone.label_map.shape == (170, 230) and alone.label_map.dtype == np.int16
    plain = segmenter.segment(large, words)
    assert (alone.label_map != plain.label_map).any()
    assert (segmenter.segment(large, words, tile=230).label_map == plain.label_map).all()  # one window
    for image in (tmp_path / "large.png", Image.fromarray(large), np.asfortranarray(large)):
        assert (segmenter.segment(image, words, tile="auto").label_map == alone.label_map).all()
    given = [small, large, small, tmp_path / "large.png", recipe.image(3, 90, 60), Image.fromarray(small)]
    for batch in (1, 3):
        mixed = segmenter.segment_batch(given, words, batch=batch, tile="auto")
        untiled = segmenter.segment_batch(given, words, batch=batch)
        for place, result in enumerate(mixed):
            if place in (1, 3):
                assert (result.label_map != alone.label_map).mean() < 1e-3
                assert np.allclose(result.class_scores, alone.class_scores, atol=1e-3)
            else:
                assert (result.label_map == untiled[place].label_map).all()


def test_options_and_scores_hold_in_windows(segmenter: Segmenter) -> None:
    pixels, words = recipe.image(4, 150, 150), ["cat", "dog", "sky"]
    whole = segmenter.segment(pixels, words, MapOptions(keep_scores=True), tile=64)
    assert whole.scores is not None and whole.confidence is not None
    assert whole.scores.shape == (150, 150) and (whole.scores > 0).all()
    threshold = float(np.median(whole.scores))
    kept = segmenter.segment(pixels, words, MapOptions(min_score=threshold), tile=64)
    assert (kept.label_map == np.where(whole.scores < threshold, -1, whole.label_map)).all()
    shown = segmenter.segment(pixels, words, MapOptions(show=("dog",)), tile=64)
    assert (shown.label_map == np.where(whole.label_map == 1, 1, -1)).all()


@pytest.mark.parametrize("tile", [0, 63, -640, "big", "640x640", 640.0, True, (640, 640)])
def test_tiles_that_are_none(segmenter: Segmenter, tile: Any) -> None:
    with pytest.raises(SanError):
        segmenter.segment(recipe.image(4, 64, 64), ["cat"], tile=tile)


def test_a_class_is_as_likely_as_its_best_word(segmenter: Segmenter) -> None:
    pixels = recipe.image(2, 64, 64)
    single = segmenter.raw(pixels, ["cat", "tv", "television"]).class_logits
    grouped = segmenter.raw(pixels, ["cat", ["tv", "television"]]).class_logits
    assert grouped.shape[1] == 3
    assert np.allclose(grouped[:, 1], single[:, 1:3].max(axis=1), atol=1e-5)
    assert np.allclose(grouped[:, 2], single[:, 3], atol=1e-5)
    assert segmenter.segment(pixels, ["cat", ["tv", "television"]]).vocabulary == ("cat", "tv")


def test_background_and_show(segmenter: Segmenter) -> None:
    pixels = recipe.image(3, 64, 64)
    words = ["cat", ["tv", "television"], "sky"]
    everything = segmenter.segment(pixels, words, MapOptions(background="nothing"))
    assert everything.vocabulary == ("cat", "tv", "sky", "nothing")
    for name, index in (("TELEVISION", 1), ("nothing", 3), ("cat", 0)):
        shown = segmenter.segment(pixels, words, MapOptions(background="nothing", show=(name,)))
        expected = np.where(everything.label_map == index, index, -1)
        assert (shown.label_map == expected).all()
    with pytest.raises(SanError, match="'dog' can't be shown"):
        segmenter.segment(pixels, words, MapOptions(show=("dog",)))


def test_scores_and_threshold(segmenter: Segmenter) -> None:
    pixels = recipe.image(4, 64, 64)
    plain = segmenter.segment(pixels, ["cat", "dog"], MapOptions(keep_scores=True))
    assert plain.scores is not None
    threshold = float(np.median(plain.scores))
    kept = segmenter.segment(pixels, ["cat", "dog"], MapOptions(min_score=threshold))
    assert ((kept.label_map == -1) == (plain.scores < threshold)).all()


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((32, 32, 3), np.float32),
        np.zeros((32, 32), np.uint8),
        np.zeros((3, 32, 32), np.uint8),
        np.zeros((0, 32, 3), np.uint8),
        Image.new("RGB", (32, 32)),
    ],
)
def test_raw_refuses_what_is_no_rgb_array(wrong, segmenter: Segmenter) -> None:
    with pytest.raises(SanError, match=r"^raw "):
        segmenter.raw(wrong, ["cat"])


def test_raw_shapes_and_norms(segmenter: Segmenter) -> None:
    raw = segmenter.raw(recipe.image(5, 50, 70), ["cat", "dog", "sky"])
    queries = segmenter.preset.queries
    assert raw.mask_logits.shape == (queries, 4, 6)  # padded to 64 × 96
    assert raw.class_logits.shape == (queries, 4)
    for rows in (raw.region_embeddings, raw.text_embeddings):
        assert rows.dtype == np.float32
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    logits = raw.region_embeddings @ raw.text_embeddings.T * np.exp(4.6052)
    assert np.allclose(raw.class_logits, logits, atol=1e-3)


def test_bf16_is_near_fp32(tiny_weights: Path, segmenter: Segmenter) -> None:
    fast = Segmenter.load(weights=tiny_weights, device="cpu", precision="bf16")
    pixels = recipe.image(6, 64, 64)
    exact, near = segmenter.raw(pixels, ["cat"]), fast.raw(pixels, ["cat"])
    assert near.mask_logits.dtype == np.float32
    assert 0 < np.abs(exact.region_embeddings - near.region_embeddings).max() < 0.1


def test_threads_may_share_a_segmenter(segmenter: Segmenter) -> None:
    pixels = recipe.image(7, 40, 40)
    vocabularies = [["cat", "dog"], ["sky"], ["tree", "cat"], ["sea"]]
    alone = [segmenter.segment(pixels, words).label_map for words in vocabularies]
    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(segmenter.segment, pixels, vocabularies[i % 4]) for i in range(40)]
        for number, job in enumerate(jobs):
            assert (job.result().label_map == alone[number % 4]).all()


def test_text_cache_survives_damage(segmenter: Segmenter, tiny_weights: Path, tmp_path: Path) -> None:
    words = vocabulary_of_names(["cat", "dog"])
    fresh = segmenter.embed(words)
    files = sorted((tmp_path / "home" / "text").rglob("*"))
    kept = [file for file in files if file.is_file()]
    assert len(kept) == 2
    kept[0].write_bytes(b"short")
    kept[1].write_bytes(kept[1].read_bytes()[:-1] + b"x")
    again = Segmenter.load(weights=tiny_weights, device="cpu")
    asked: list[tuple[int, int]] = []
    assert torch.equal(again.embed(words, lambda *step: asked.append(step)), fresh)
    assert asked == [(1, 2), (2, 2)]  # both were embedded anew …
    third = Segmenter.load(weights=tiny_weights, device="cpu")
    assert torch.equal(third.embed(words, lambda *_: pytest.fail("not from the cache")), fresh)  # … and kept


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"a file where the folder should be")
    cache = TextCache(tmp_path, "0" * 64, ["{}"], "cpu")
    cache.put("cat", np.ones(4, np.float32))
    assert cache.get("cat") is None


def test_devices_and_precisions() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_precision("auto", torch.device("cpu")) == torch.float32
    assert choose_precision("auto", torch.device("cuda")) == torch.bfloat16
    for name in ("gpu", "cuda:99", "meta"):
        with pytest.raises(SanError):
            choose_device(name)
    with pytest.raises(SanError, match="fp16"):
        choose_precision("fp16", torch.device("cpu"))
    with pytest.raises(SanError, match="unknown precision"):
        choose_precision("int8", torch.device("cpu"))


def test_other_preset_than_the_weights_is_refused(tiny_weights: Path) -> None:
    with pytest.raises(SanError, match="not vit-b-16"):
        Segmenter.load("vit-b-16", weights=tiny_weights, device="cpu")
    with pytest.raises(SanError, match="unknown model"):
        Segmenter.load("vit-b-61", weights=tiny_weights, device="cpu")


def test_help_and_import_leave_torch_alone() -> None:
    code = (
        "import sys, san_cli, san_cli.cli.main; "
        "print([m for m in ('torch', 'numpy', 'PIL', 'open_clip') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("arguments", ["--help", "predict --help", "--version"])
def test_a_reader_that_leaves_is_no_error(arguments: str) -> None:
    pipeline = f"{sys.executable} -m san_cli {arguments} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", pipeline], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_any_iterable_of_images_will_do(segmenter: Segmenter, tmp_path: Path) -> None:
    arrays = [recipe.image(seed, 40, 60) for seed in range(3)]
    words = ["cat", "dog", "sky"]
    expected = [result.label_map for result in segmenter.segment_batch(arrays, words)]
    for images in (iter(arrays), (array for array in arrays), tuple(arrays), np.stack(arrays)):
        results = segmenter.segment_batch(images, iter(words))
        assert [result.vocabulary for result in results] == [tuple(words)] * 3
        assert all((result.label_map == map_).all() for result, map_ in zip(results, expected, strict=True))
    assert segmenter.segment_batch([], words) == []


PIXELS = recipe.image(1, 40, 60)


@pytest.mark.parametrize(
    ("given", "named", "way_out"),
    [
        (5, "not int", ""),
        (None, "not None", ""),
        ({}, "not dict", ""),
        (["cat.jpg"], "not list", "segment_batch"),
        (PIXELS.tolist(), "not list", "numpy.array"),
        (PIXELS.tobytes(), "not bytes", "io.BytesIO"),
        (io.BytesIO(b"..."), "not BytesIO", "Image.open"),
        (torch.zeros(3, 40, 60), "not Tensor torch.float32 [3, 40, 60]", "permute(1, 2, 0)"),
        (PIXELS / 255, "not ndarray float64 [40, 60, 3]", "* 255"),
        (PIXELS.astype(np.uint16), "not ndarray uint16", "astype(numpy.uint8)"),
        (PIXELS[..., 0], "not ndarray uint8 [40, 60]", "Image.fromarray"),
        (PIXELS[..., :1], "not ndarray uint8 [40, 60, 1]", "Image.fromarray"),
        (np.dstack([PIXELS, PIXELS[..., :1]]), "not ndarray uint8 [40, 60, 4]", "array[..., :3]"),
        (PIXELS.transpose(2, 0, 1), "not ndarray uint8 [3, 40, 60]", "transpose(1, 2, 0)"),
        (PIXELS[None], "not ndarray uint8 [1, 40, 60, 3]", "segment_batch"),
    ],
)
def test_what_is_no_image_is_a_type_error(given: Any, named: str, way_out: str, segmenter: Segmenter) -> None:
    with pytest.raises(SanError) as single:
        segmenter.segment(given, ["cat"])
    assert isinstance(single.value, TypeError)
    assert named in single.value.message and way_out in single.value.hint
    assert "a path, a Pillow image or a uint8 RGB array [H, W, 3]" in single.value.message
    assert len(single.value.message) < 160
    with pytest.raises(TypeError, match="image 1: an image is"):
        segmenter.segment_batch([PIXELS, given], ["cat"])


@pytest.mark.parametrize(
    "images",
    ["cat.jpg", Path("cat.jpg"), PIXELS, Image.fromarray(PIXELS), 5, None, b"", {"a": PIXELS}, {"cat.jpg"}],
)
def test_what_is_no_list_of_images_is_a_type_error(images: Any, segmenter: Segmenter) -> None:
    with pytest.raises(TypeError, match=r"segment_batch takes|a set of images"):
        segmenter.segment_batch(images, ["cat"])


def test_an_image_without_pixels_is_named(segmenter: Segmenter) -> None:
    with pytest.raises(SanError, match="without pixels"):
        segmenter.segment(np.zeros((0, 5, 3), np.uint8), ["cat"])


def test_a_closed_pillow_image_says_so(segmenter: Segmenter, tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    Image.fromarray(PIXELS).save(file)
    never_read, read, made = Image.open(file), Image.open(file), Image.new("RGB", (60, 40))
    read.load()
    for image in (never_read, read, made):
        image.close()
    with Image.open(file) as after_with:
        pass
    with file.open("rb") as stream:
        of_closed_file = Image.open(stream)
    for image in (never_read, read, made, after_with, of_closed_file):
        with pytest.raises(SanError, match="the Pillow image is closed"):
            segmenter.segment(image, ["cat"])
    with Image.open(file) as still_open:  # one that was read stays good when only its file is closed
        still_open.load()
    assert segmenter.segment(still_open, ["cat"]).label_map.shape == (40, 60)


@pytest.mark.parametrize(
    ("vocabulary", "named"),
    [
        ("cat,dog", "not one string"),
        ({"cat": 0, "dog": 1}, "not a dict"),
        ({"cat", "dog"}, "no order"),
        (5, "not int"),
        (None, "not None"),
        (b"cat", "not bytes"),
    ],
)
def test_what_is_no_vocabulary_is_a_type_error(vocabulary: Any, named: str, segmenter: Segmenter) -> None:
    with pytest.raises(SanError, match=named) as refused:
        segmenter.segment(PIXELS, vocabulary)
    assert isinstance(refused.value, TypeError)


@pytest.mark.parametrize("vocabulary", [[], [5], [["cat", 5]], [""], ["x" * 100_000], ["cat", None], [[]]])
def test_a_name_that_can_be_none_is_refused_in_few_words(vocabulary: Any, segmenter: Segmenter) -> None:
    with pytest.raises(SanError) as refused:
        segmenter.segment(PIXELS, vocabulary)
    assert len(str(refused.value)) < 300


def test_a_long_vocabulary_is_cut_in_messages(segmenter: Segmenter) -> None:
    names = [f"class number {number}" for number in range(5_000)]
    for wrong in (",".join(names), [names, names, 5], dict.fromkeys(names, 1)):
        with pytest.raises(SanError) as refused:
            segmenter.segment(PIXELS, wrong)
        assert len(str(refused.value)) < 300
    with pytest.raises(SanError) as refused:
        segmenter.segment(PIXELS, ["cat"], MapOptions(show=("x" * 10_000,)))
    assert len(str(refused.value)) < 300


def test_other_arguments_of_a_wrong_kind(segmenter: Segmenter, tiny_weights: Path) -> None:
    for wrong in (
        {"model": 5},
        {"weights": 5},
        {"device": 0},
        {"precision": torch.float16},
        {"templates": 5},
    ):
        with pytest.raises(TypeError, match=f"^{next(iter(wrong))} is a "):
            Segmenter.load(**wrong)
    assert Segmenter.load(weights=tiny_weights, device=torch.device("cpu")).device.type == "cpu"
    with pytest.raises(TypeError, match="MapOptions"):
        segmenter.segment(PIXELS, ["cat"], {"min_score": 0.3})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not one string"):
        MapOptions(show="cat")  # type: ignore[arg-type]
    for odd in (float("nan"), float("inf"), -0.1):
        with pytest.raises(SanError, match="finite number from 0"):
            MapOptions(min_score=odd)
    with pytest.raises(TypeError, match="`min_score` is a number"):
        MapOptions(min_score="0.3")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`background` is a name"):
        MapOptions(background=True)  # type: ignore[arg-type]
    with pytest.raises(SanError, match="in the vocabulary, too"):
        segmenter.segment(PIXELS, ["cat", "dog"], MapOptions(background="Dog"))
    with pytest.raises(SanError, match="names 0 and 2 are both"):
        segmenter.segment(PIXELS, ["Cat", "dog", "cat"])
    with pytest.raises(SanError, match="at least 1"):
        segmenter.segment_batch([PIXELS], ["cat"], batch=0)


def test_threads_leave_cuda_s_flags_as_they_were(segmenter: Segmenter) -> None:
    together = threading.Barrier(2, timeout=10)
    network, first = segmenter.network, threading.Event()

    def crossing(image: torch.Tensor) -> Any:
        """Let the one that came in last go out last, too."""
        if together.wait() == 1:
            first.wait(10)
        return network(image)

    segmenter.network = crossing
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    segmenter.embed(vocabulary_of_names(["cat"]))
    try:
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(segmenter.segment, recipe.image(seed, 40, 60), ["cat"]) for seed in (1, 2)]
            for made in as_completed(both):
                made.result()
                first.set()
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before
