"""The same ONNX file in OpenVINO, where that is installed (`pip install 'san-seg[openvino]'`): PyTorch's output, and
what is done with it as with the other runtimes."""

import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch
from program import San, subprocess_environment, tree
from tiny_model import write_nano_model

from san_cli import SanError, Segmenter
from san_cli.engine import backend, onnx_export
from san_cli.engine.loading import load_weights
from san_cli.engine.onnx_export import write_onnx
from san_cli.models.san import normalise

pytest.importorskip("openvino")
pytest.importorskip("onnxscript")

from san_cli.engine.openvino_network import OpenVinoNetwork

SIZES = [(1, 64, 64), (1, 96, 160), (3, 160, 96), (2, 32, 128), (1, 224, 320), (1, 64, 416)]
WORDS = "cat|kitten,dog,tree,sky|cloud|air,sea,sand,road"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nano_model(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def file(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model exported to beside its weights, checked by OpenVINO as ONNX Runtime is out of sight; and a cache."""
    there, path = importlib.util.find_spec, weights.with_suffix(".onnx")
    opened: list[object] = []

    def open_(*given: object) -> OpenVinoNetwork:
        opened.append(given)
        return OpenVinoNetwork(*given)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "find_spec", lambda name: None if name == "onnxruntime" else there(name))
        patch.setattr(onnx_export, "OpenVinoNetwork", open_)
        write_onnx(load_weights(None, weights, say=print), path, ("a photo of a {}.",))
    assert len(opened) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAN_HOME", str(tmp_path_factory.mktemp("home")))
        yield path


@pytest.fixture(scope="module")
def both(file: Path, weights: Path) -> tuple[Segmenter, Segmenter]:
    """PyTorch's and OpenVINO's."""
    torch.set_num_threads(1)
    return Segmenter.load(weights=weights, device="cpu"), Segmenter.load(weights=file, backend="openvino")


def _input(batch: int, height: int, width: int) -> torch.Tensor:
    pixels = np.stack([recipe.image(seed, height, width) for seed in range(batch)])
    return normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))


def test_one_file_is_right_for_every_size_and_batch(both: tuple[Segmenter, Segmenter]) -> None:
    for size in SIZES:
        with torch.inference_mode():
            expected, found = (segmenter.network(_input(*size))[0] for segmenter in both)
        torch.testing.assert_close(found.mask_logits, expected.mask_logits, atol=1e-4, rtol=0.0)
        torch.testing.assert_close(found.region_embeddings, expected.region_embeddings, atol=1e-5, rtol=0.0)


def test_pictures_are_segmented_alike(both: tuple[Segmenter, Segmenter]) -> None:
    assert [segmenter.backend for segmenter in both] == ["pytorch", "openvino"]
    sizes = [(50, 70), (90, 60), (50, 70), (40, 200)]
    images = [recipe.image(seed, *size) for seed, size in enumerate(sizes)]
    words = ["tree", ["sky", "cloud"], "sea", "sand"]
    expected, found, again = (
        segmenter.segment_batch(images, words, batch=batch)
        for segmenter, batch in [(both[0], 3), (both[1], 3), (both[1], 1)]
    )
    for one, two, three in zip(expected, found, again, strict=True):
        assert (one.label_map != two.label_map).mean() < 1e-3
        assert np.array_equal(two.label_map, three.label_map)


def test_neither_threads_nor_batch_nor_a_pickle_change_a_bit(file: Path) -> None:
    image = _input(3, 96, 160)
    torch.set_num_threads(1)
    network = OpenVinoNetwork(file, 32)
    torch.set_num_threads(3)
    several = OpenVinoNetwork(file, 32)
    torch.set_num_threads(1)
    expected = network(image)[0]
    for other in (network, several, pickle.loads(pickle.dumps(network))):
        found, last = other(image)[0], other(image[2:])[0]
        assert torch.equal(found.mask_logits, expected.mask_logits)
        assert torch.equal(found.region_embeddings, expected.region_embeddings)
        assert torch.equal(last.mask_logits[0], expected.mask_logits[2])
        assert torch.equal(last.region_embeddings[0], expected.region_embeddings[2])


def test_threads_that_call_it_at_once_get_their_own_results(file: Path) -> None:
    network = OpenVinoNetwork(file, 32)
    images = _input(4, 64, 96).split(1)
    expected = [network(image)[0].mask_logits for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: network(image)[0].mask_logits, [*images] * 5))
    assert all(torch.equal(one, two) for one, two in zip(found, expected * 5, strict=True))


def test_float32_is_asked_for_and_no_thread_is_bound_to_a_core(file: Path) -> None:
    """By itself OpenVINO takes bfloat16 where the processor has it, and several processes would share a core."""
    compiled = OpenVinoNetwork(file, 32)._compiled
    told = {name: compiled.get_property(name) for name in ("INFERENCE_PRECISION_HINT", "ENABLE_CPU_PINNING")}
    assert told["INFERENCE_PRECISION_HINT"].get_type_name() == "f32" and told["ENABLE_CPU_PINNING"] is False
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_a_segmenter_is_sent_to_other_processes(
    both: tuple[Segmenter, Segmenter], tmp_path: Path, san_home: Path
) -> None:
    image = recipe.image(1, 64, 64)
    expected = both[1].segment(image, ["cat", "dog"]).label_map
    (tmp_path / "sent").write_bytes(pickle.dumps(both[1]))
    code = (
        "import pickle, sys, numpy as np, recipe; from pathlib import Path\n"
        "segmenter = pickle.loads(Path(sys.argv[1], 'sent').read_bytes())\n"
        "found = segmenter.segment(recipe.image(1, 64, 64), ['cat', 'dog']).label_map\n"
        "np.save(Path(sys.argv[1], 'map.npy'), found); print(segmenter.backend)"
    )
    environment = subprocess_environment(san_home)
    paths = [environment["PYTHONPATH"], str(Path(recipe.__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert ended.stdout.strip() == "openvino", ended.stderr
    assert np.array_equal(np.load(tmp_path / "map.npy"), expected)


def test_bfloat16_is_computed_where_the_processor_has_it_and_else_refused(
    file: Path, predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    asked = (photos, "--weights", file, "--backend", "openvino", "--precision", "bf16", "-o", out)
    monkeypatch.setattr(backend, "_abilities_by_openvino", lambda: ["FP32", "INT8"])
    refused = predict(*asked)
    assert refused.code == 2 and "this processor can't compute in bfloat16" in refused.err, refused.err
    assert "Leave --precision out." in refused.err and not out.exists()
    with pytest.raises(SanError, match="bfloat16"):
        Segmenter.load(weights=file, backend="openvino", precision="bf16")
    with pytest.raises(SanError, match="fp16 on the CPU"):
        Segmenter.load(weights=file, backend="openvino", precision="fp16")

    # Imitated where need be: rougher than float32, and the same model all the same.
    monkeypatch.setattr(backend, "_abilities_by_openvino", lambda: ["FP32", "BF16"])
    image = _input(1, 64, 64)
    rough, exact = (
        OpenVinoNetwork(file, 32, precision)(image)[0].mask_logits
        for precision in (torch.bfloat16, torch.float32)
    )
    assert rough.dtype == torch.float32
    assert 0 < float((rough - exact).abs().max()) < 0.1 * float(exact.abs().max())


def test_a_file_that_openvino_can_t_read_is_named(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(SanError, match="OpenVINO can't read .*broken.onnx"):
        OpenVinoNetwork(path, 32)


def test_predict_exports_once_and_goes_on_with_no_other_backend(
    file: Path, weights: Path, predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("san_cli.engine.onnx_export._graph", lambda *_: file.read_bytes())
    monkeypatch.setenv("SAN_HOME", str(tmp_path / "home"))  # where nothing is exported yet
    out, asked = tmp_path / "out", (photos, "--weights", weights, "--backend", "openvino", "--vocab", WORDS)
    dry = predict(*asked, "-o", out, "--dry-run")
    assert dry.code == 0 and "will be exported" in dry.err and "cpu, fp32, OpenVINO" in dry.out, dry.err
    ended = predict(*asked, "-o", out)
    assert ended.code == 0 and "exporting nano as an ONNX file, once" in ended.err, ended.err
    assert "on OpenVINO, cpu, fp32" in ended.err
    before = tree(out)
    dry = predict(*asked, "-o", out, "--dry-run")
    assert dry.code == 0 and "exported" not in dry.err and "cpu, fp32, OpenVINO" in dry.out
    assert predict(*asked, "-o", out).code == 0 and tree(out) == before
    for other in ("pytorch", "onnx"):
        refused = predict(*asked[:3], "--backend", other, "--vocab", WORDS, "-o", out)
        assert refused.code == 2 and f"backend (then openvino, now {other})" in refused.err, refused.err
    like = predict(photos, "--like", out, "--weights", weights, "-o", tmp_path / "like")
    assert like.code == 0 and "OpenVINO" in like.err and "exporting" not in like.err, like.err
    assert tree(tmp_path / "like").keys() == before.keys()
