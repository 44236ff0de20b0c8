"""The network as an ONNX file: PyTorch's output at every size and for any words; and what is done with the file.

One export for all tests: it takes as long as they do together.
"""

import json
import pickle
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import recipe
import torch
from eval_trees import make_voc
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from program import San, tree
from tiny_model import write_nano_model

from san_cli import SanError, Segmenter
from san_cli.engine.backend import choose_backend
from san_cli.engine.onnx_file import read_description
from san_cli.engine.onnx_network import OnnxNetwork
from san_cli.export.run import Wanted, export
from san_cli.models.san import normalise
from san_cli.runs.voice import Voice
from san_cli.weights.file_hash import weights_sha256

ROOT = Path(__file__).resolve().parents[2]
# The model learned 4 × 4 patches; 2 × 8 are as many.
SIZES = [(1, 64, 64), (1, 96, 160), (3, 160, 96), (2, 32, 128), (1, 224, 320), (1, 64, 416)]
WORDS = "cat|kitten,dog,tree,sky|cloud|air,sea,sand,road"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAN_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nano_model(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def file(home: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "nano.onnx"
    told: list[str] = []
    assert export(Wanted(onnx=path, weights=str(weights)), Voice(tell=told.append, data=told.append)) == 0
    assert told[0].startswith(f"wrote {path}: nano, for any vocabulary") and told[1] == str(path)
    return path


@pytest.fixture(scope="module")
def both(home: Path, file: Path, weights: Path) -> tuple[Segmenter, Segmenter]:
    """PyTorch's and ONNX Runtime's."""
    torch.set_num_threads(1)
    return Segmenter.load(weights=weights, device="cpu"), Segmenter.load(weights=file)


def test_one_file_is_right_for_every_size_and_batch(both: tuple[Segmenter, Segmenter]) -> None:
    for batch, height, width in SIZES:
        pixels = np.stack([recipe.image(seed, height, width) for seed in range(batch)])
        image = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        with torch.inference_mode():
            expected, found = (segmenter.network(image)[0] for segmenter in both)
        close = {"atol": 1e-4, "rtol": 0.0}
        torch.testing.assert_close(found.mask_logits, expected.mask_logits, **close)
        torch.testing.assert_close(found.region_embeddings, expected.region_embeddings, atol=1e-5, rtol=0.0)


def test_pictures_are_segmented_alike_with_any_words(both: tuple[Segmenter, Segmenter]) -> None:
    images = [
        recipe.image(seed, *size) for seed, size in enumerate([(50, 70), (90, 60), (50, 70), (40, 200)])
    ]
    for words in (["cat", "dog"], ["tree", ["sky", "cloud"], "sea", "sand"]):
        raw, other = (segmenter.raw(images[0], words) for segmenter in both)
        assert np.abs(raw.class_logits - other.class_logits).max() < 1e-4
        assert np.array_equal(raw.text_embeddings, other.text_embeddings)
        expected, found = (segmenter.segment_batch(images, words, batch=3) for segmenter in both)
        for one, two in zip(expected, found, strict=True):
            assert one.vocabulary == two.vocabulary
            assert (one.label_map != two.label_map).mean() < 1e-3
    again = both[1].segment_batch(images, words, batch=3)
    assert all(np.array_equal(one.label_map, two.label_map) for one, two in zip(found, again, strict=True))


def test_the_words_are_an_input_and_the_logits_are_scaled(
    both: tuple[Segmenter, Segmenter], file: Path
) -> None:
    """What other programs do with the file: the same class logits as ours."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    image = recipe.image(5, 64, 96)
    raw = both[0].raw(image, ["cat", "dog", "tree"])
    given = {
        "image": normalise(torch.from_numpy(image).permute(2, 0, 1))[None].numpy(),
        "text": raw.text_embeddings,
    }
    masks, classes, regions = session.run(None, given)
    for found, expected in (
        (masks, raw.mask_logits),
        (classes, raw.class_logits),
        (regions, raw.region_embeddings),
    ):
        assert found.dtype == np.float32 and np.abs(found[0] - expected).max() < 1e-4


def test_a_file_says_what_it_is_and_nothing_of_this_machine(file: Path, weights: Path) -> None:
    onnx.checker.check_model(str(file), full_check=True)
    description = read_description(file)
    assert description.preset.name == "nano"
    assert description.weights_sha256 == weights_sha256(weights)
    assert description.weights_name == weights.name
    model = onnx.load(str(file))
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert {"preset", "weights", "templates", "mean", "std", "pad_to", "inputs", "outputs"} <= set(about)
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert axes == {
        "image": ["batch", 3, "height", "width"],
        "text": ["rows", 32],
        "mask_logits": ["batch", 10, "mask_height", "mask_width"],
        "class_logits": ["batch", 10, "rows"],
        "region_embeddings": ["batch", 10, 32],
    }
    content = file.read_bytes()
    for text in (str(ROOT), str(Path(torch.__file__).parent), str(file.parent), str(Path.home()) + "/"):
        assert text.encode() not in content


def test_neither_threads_nor_a_pickle_change_a_bit(file: Path) -> None:
    image = normalise(torch.from_numpy(recipe.image(3, 96, 160)).permute(2, 0, 1))[None]
    torch.set_num_threads(1)
    network = OnnxNetwork(file, 32)
    torch.set_num_threads(3)
    several = OnnxNetwork(file, 32)
    torch.set_num_threads(1)
    expected = network(image)[0]
    for other in (several, pickle.loads(pickle.dumps(network))):
        found = other(image)[0]
        assert torch.equal(found.mask_logits, expected.mask_logits)
        assert torch.equal(found.region_embeddings, expected.region_embeddings)


@settings(max_examples=30)
@given(st.binary(max_size=60))
def test_no_bytes_but_a_file_of_ours_are_taken_for_one(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(data)
    with pytest.raises(SanError, match="ONNX"):
        read_description(path)


def test_what_is_cut_short_or_somebody_else_s_is_named(file: Path, tmp_path: Path) -> None:
    content, path = file.read_bytes(), tmp_path / "broken.onnx"
    for length in (0, 1, 40, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(SanError, match="no ONNX file|not one of|damaged"):
            Segmenter.load(weights=path)
    node = onnx.helper.make_node("Identity", ["a"], ["b"])
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "ab"]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "other", ends[:1], ends[1:])), path)
    with pytest.raises(SanError, match="not one of `san export`"):
        Segmenter.load(weights=path)
    with pytest.raises(SanError, match="can't read"):
        Segmenter.load(weights=tmp_path / "nothing.onnx")
    with pytest.raises(SanError, match="holds a nano model, not tiny"):
        Segmenter.load("tiny", file)


def test_new_words_need_the_weights_that_a_file_was_made_from(
    file: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAN_HOME", str(tmp_path / "home"))
    image = recipe.image(1, 64, 64)
    alone = Segmenter.load(weights=file)
    with pytest.raises(SanError, match="never embedded"):
        alone.segment(image, ["a word of its own"])
    monkeypatch.setenv("SAN_WEIGHTS", str(weights))
    expected = alone.segment(image, ["a word of its own", "cat"]).label_map
    monkeypatch.delenv("SAN_WEIGHTS")
    found = Segmenter.load(weights=file).segment(image, ["a word of its own", "cat"]).label_map
    assert np.array_equal(found, expected)  # which are known from now on


@pytest.mark.parametrize(
    ("name", "weights", "given", "told"),
    [
        ("onnxruntime", None, {}, "onnx"),
        ("torch", None, {}, "pytorch"),
        ("pytorch", "b.onnx", {}, "doesn't run"),
        ("onnx", None, {"device": "cuda"}, "on the CPU"),
        ("auto", "b.onnx", {"precision": "bf16"}, "float32"),
        ("auto", "b.ONNX", {"compile": True}, "--compile"),
        ("ov", None, {}, "openvino"),
        ("openvino", None, {"device": "cuda"}, "OpenVINO computes on the CPU"),
        ("openvino", "b.onnx", {"compile": True}, "OpenVINO is to run"),
    ],
)
def test_what_can_t_be_is_told(name: str, weights: str | None, given: dict[str, object], told: str) -> None:
    options = {"device": "auto", "precision": "auto", "compile": False, **given}
    with pytest.raises(SanError, match=told):
        choose_backend(name, weights, **options)  # type: ignore[arg-type]


def test_the_runtime_is_chosen_by_name_and_for_a_file() -> None:
    rest = {"device": "cpu", "precision": "auto", "compile": False}
    chosen = [
        choose_backend(name, weights, **rest)  # type: ignore[arg-type]
        for name, weights in [("auto", None), ("auto", "b.onnx"), ("openvino", "b.onnx"), ("openvino", None)]
    ]
    assert chosen == ["pytorch", "onnx", "openvino", "openvino"]
    assert choose_backend("openvino", None, device="cpu", precision="bf16", compile=False) == "openvino"


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def _labels(folder: Path) -> dict[str, np.ndarray]:
    return {str(p.relative_to(folder)): np.array(Image.open(p)) for p in sorted(folder.rglob("*.labels.png"))}


def test_predict_runs_the_file_and_goes_on_with_no_other_backend(
    file: Path, weights: Path, predict: San, photos: Path, tmp_path: Path
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    # The words are known from then on.
    assert predict(photos, "--weights", weights, "-o", other, "--vocab", WORDS, "--batch", 2).code == 0
    ended = predict(photos, "--weights", file, "-o", out, "--vocab", WORDS, "--batch", 2)
    assert ended.code == 0 and "ONNX Runtime" in ended.err, ended.err
    before = tree(out)
    again = predict(photos, "--weights", file, "-o", out, "--vocab", WORDS, "--batch", 2)
    assert (again.code == 0 and "nothing to do" in again.err.lower()) or "done before" in again.err.lower()
    assert tree(out) == before
    ours, theirs = _labels(out), _labels(other)
    assert ours.keys() == theirs.keys() and len(ours) == 6
    assert all((ours[name] != theirs[name]).mean() < 1e-3 for name in ours)
    refused = predict(photos, "--weights", weights, "-o", out, "--vocab", WORDS, "--batch", 2)
    assert refused.code == 2 and "backend (then onnx, now pytorch)" in refused.err
    assert tree(out) == before


def test_other_weights_are_exported_once(
    file: Path, weights: Path, predict: San, photos: Path, tmp_path: Path, san_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """To the file that `san export` writes, which stands in here for doing it again."""
    monkeypatch.setattr("san_cli.engine.onnx_export._graph", lambda *_: file.read_bytes())
    arguments = (photos, "--weights", weights, "--backend", "onnx", "--limit", 1, "--save", "labels")
    first = predict(*arguments, "-o", tmp_path / "one")
    assert first.code == 0 and "exporting nano as an ONNX file, once" in first.err, first.err
    (kept,) = (san_home / "onnx").iterdir()
    assert kept.read_bytes() == file.read_bytes()
    second = predict(*arguments, "-o", tmp_path / "two")
    assert second.code == 0 and "exporting" not in second.err
    assert _labels(tmp_path / "one").keys() == _labels(tmp_path / "two").keys()


def test_eval_scores_a_runtime_and_goes_on_with_no_other(
    file: Path, weights: Path, san: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAN_HOME", str(tmp_path / "home"))  # where nothing is exported yet
    monkeypatch.setattr("san_cli.engine.onnx_export._graph", lambda *_: file.read_bytes())
    asked = ("eval", "voc", "--data-root", make_voc(tmp_path / "data", 3), "--device", "cpu", "--json")
    onnx_, out = ("--weights", weights, "--backend", "onnx"), tmp_path / "out"
    dry = san(*asked, *onnx_, "--dry-run")
    assert dry.code == 0 and "will be exported" in dry.err, dry.err
    assert json.loads(dry.out)["backend"] == "onnx"
    scored = san(*asked, *onnx_, "-o", out)
    assert scored.code == 0 and "exporting nano as an ONNX file, once" in scored.err, scored.err
    found, by_file, expected = (
        json.loads(one.out)
        for one in (scored, san(*asked, "--weights", file), san(*asked, "--weights", weights))
    )
    settings = json.loads((out / "results.json").read_text())["settings"]
    assert settings["device"] == "cpu (ONNX Runtime)"
    mious = [one["results"][0]["mIoU"] for one in (found, by_file, expected)]
    assert mious[0] == mious[1] and abs(mious[0] - mious[2]) < 0.05
    assert san(*asked, *onnx_, "-o", out, "--resume").code == 0
    refused = san(*asked, "--weights", weights, "-o", out, "--resume")
    assert refused.code == 2 and "backend (then onnx, now pytorch)" in refused.err, refused.err
    refused = san(*asked, *onnx_, "--precision", "bf16")
    assert refused.code == 2 and "computes in float32" in refused.err


def test_the_example_makes_the_same_label_map(
    file: Path, san: San, predict: San, photos: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, weights: Path,
) -> None:  # fmt: skip
    words = tmp_path / "words.npz"
    assert san("export", "--weights", weights, "--text", words, "--vocab", WORDS, "-q").code == 0
    content = words.read_bytes()
    again = san("export", "--weights", file, "--text", words, "--vocab", WORDS, "-q")
    assert again.code == 0 and words.read_bytes() == content
    rows = _arrays(words)
    assert rows["rows"].shape == (11, 32) and rows["first"].tolist() == [0, 2, 3, 4, 7, 8, 9]
    assert rows["names"].tolist() == ["cat", "dog", "tree", "sky", "sea", "sand", "road"]
    assert rows["weights"] == weights_sha256(weights)
    assert predict(photos, "--weights", file, "-o", tmp_path / "out", "--vocab", WORDS).code == 0
    for name, expected in _labels(tmp_path / "out").items():
        picture = photos / name.replace(".labels.png", ".jpg")
        monkeypatch.setattr(
            sys, "argv", ["x", str(file), str(words), str(picture), str(tmp_path / "one.png")]
        )
        runpy.run_path(str(ROOT / "examples" / "onnx_segment.py"))
        assert (np.array(Image.open(tmp_path / "one.png")) != expected).mean() < 1e-3
    np.savez(words, **{**rows, "weights": np.array("of another model")})
    monkeypatch.setattr(sys, "argv", ["x", str(file), str(words), str(picture), str(tmp_path / "two.png")])
    with pytest.raises(SystemExit, match="another model"):
        runpy.run_path(str(ROOT / "examples" / "onnx_segment.py"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing to export"),
        (["--onnx", "a.onnx", "--vocab", "cat"], "no words in it"),
        (["--onnx", "a.pb"], "must end in .onnx"),
        (["--text", "a.txt"], "must end in .npz"),
        (["--onnx", "no/a.onnx"], "no folder 'no'"),
        (["--onnx", "."], "is a folder"),
        (["--onnx", "mine.onnx"], "san didn't write it"),
        (["--text", "mine.npz"], "san didn't write it"),
        (["--weights", "b.onnx", "--onnx", "a.onnx"], "an ONNX file already"),
        (["--weights", "mine.onnx", "--text", "a.npz"], "no ONNX file"),
        (["--text", "a.npz", "--templates", "foo"], "no template set"),
    ],
)
def test_a_mistake_gets_a_sentence_and_nothing_is_written(
    arguments: list[str], told: str, san: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.onnx", "mine.npz"):
        Path(name).write_bytes(b"precious")
    ended = san("export", *arguments)
    assert ended.code == 2 and told in ended.err.splitlines()[0], ended.err
    assert tree(tmp_path) == {"mine.npz": b"precious", "mine.onnx": b"precious"}


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime", "openvino"])
def test_what_is_not_installed_is_named(
    missing: str, san: San, predict: San, photos: Path, weights: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import importlib.util

    there = importlib.util.find_spec
    gone = lambda name, *rest: None if name == missing else there(name, *rest)  # noqa: E731
    monkeypatch.setattr("san_cli.engine.onnx_export.find_spec", gone)
    monkeypatch.setattr("san_cli.engine.backend.find_spec", gone)
    backends = {"onnxruntime": "onnx", "openvino": "openvino"}
    if missing in backends:
        ended = predict(photos, "-o", tmp_path / "out", "--backend", backends[missing])
    else:
        ended = san("export", "--weights", weights, "--onnx", tmp_path / "a.onnx")
    way = "pip install 'san-seg[openvino]'" if missing == "openvino" else f"pip install {missing}"
    assert ended.code == 2 and f"needs {missing}" in ended.err and way in ended.err, ended.err
    assert not (tmp_path / "out").exists() and not (tmp_path / "a.onnx").exists()
