"""A Segmenter in other processes: sent by pickle, or there after a fork."""

import multiprocessing
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch
from program import subprocess_environment
from torch.utils.data import DataLoader, Dataset

from san_cli import MapOptions, Segmenter
from san_cli.engine import forked, pickling
from san_cli.errors import SanError

WORDS = ["cat", "dog", ("tv", "television")]
IMAGES = [recipe.image(number, 72, 96) for number in range(4)]


@pytest.fixture(scope="module")
def segmenter(tiny_weights: Path, san_home: Path) -> Iterator[Segmenter]:
    """The small model, in a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAN_HOME", str(san_home))
        patch.setenv(
            "PYTHONPATH", f"{Path(__file__).resolve().parents[2]}:{os.environ.get('PYTHONPATH', '')}"
        )
        torch.set_num_threads(1)
        yield Segmenter.load(weights=tiny_weights, device="cpu")


class Maps(Dataset[np.ndarray]):
    """Label maps, made where the loader's workers are."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._segmenter.segment(IMAGES[index], WORDS).label_map


def same(found: Iterator[object] | list[object], segmenter: Segmenter) -> bool:
    """Whether these are the label maps that the process itself makes."""
    wanted = [segmenter.segment(image, WORDS).label_map for image in IMAGES]
    return all(np.array_equal(one, np.asarray(other)) for one, other in zip(wanted, found, strict=True))


def test_processes_that_are_spawned(segmenter: Segmenter) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.map(partial(segmenter.segment, vocabulary=WORDS), IMAGES)
    assert same([one.label_map for one in found], segmenter)


def test_joblib(segmenter: Segmenter) -> None:
    joblib = pytest.importorskip("joblib")
    found = joblib.Parallel(2)(joblib.delayed(segmenter.segment)(image, WORDS) for image in IMAGES)
    joblib.externals.loky.get_reusable_executor().shutdown()
    assert same([one.label_map for one in found], segmenter)


def test_a_data_loader(segmenter: Segmenter) -> None:
    loader = DataLoader(Maps(segmenter), batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert same(list(loader), segmenter)


def test_what_travels_is_small_and_needs_no_text_tower(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter.segment(IMAGES[0], ["cat"], MapOptions(only=True))
    sent = pickle.dumps(segmenter)
    assert len(sent) < 500_000
    made = pickle.loads(sent)
    assert pickle.loads(sent).model is made.model  # it comes with each of many tasks
    monkeypatch.setattr(made.text_tower, "read", lambda: pytest.fail("the text tower is read"))
    monkeypatch.setattr("san_cli.engine.text_embeddings.TextCache.get", lambda *_: None)
    one, other = (each.segment(IMAGES[1], ["cat"], MapOptions(only=True)) for each in (made, segmenter))
    assert np.array_equal(one.label_map, other.label_map)
    assert (made.templates, made.precision, made.device) == (
        segmenter.templates,
        segmenter.precision,
        segmenter.device,
    )


def test_each_that_arrives_is_its_own(segmenter: Segmenter) -> None:
    sent = pickle.dumps(segmenter)
    one = pickle.loads(sent)
    one.templates = ("a {}",)
    other = pickle.loads(sent)
    assert other.templates == segmenter.templates and other.model is one.model


def test_how_it_was_loaded_is_kept(tiny_weights: Path) -> None:
    made = pickle.loads(
        pickle.dumps(Segmenter.load(weights=tiny_weights, device="cpu", precision="bf16", templates="photo"))
    )
    assert (made.precision, len(made.templates)) == (torch.bfloat16, 1)
    untrained = Segmenter.load(segmenter_preset(tiny_weights), "random", device="cpu")
    made = pickle.loads(pickle.dumps(untrained))
    assert np.array_equal(made.raw(IMAGES[0], ["x"]).mask_logits, untrained.raw(IMAGES[0], ["x"]).mask_logits)


def segmenter_preset(weights: Path) -> object:
    """The small model's preset."""
    return Segmenter.load(weights=weights, device="cpu").preset


def test_other_weights_or_none_are_told(segmenter: Segmenter, tiny_weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(tiny_weights.read_bytes())
    sent = pickle.dumps(Segmenter.load(weights=file, device="cpu"))
    state = Segmenter.load(weights=file, device="cpu")
    from san_cli.weights.checkpoint import read_checkpoint, write_checkpoint

    checkpoint = read_checkpoint(file, state.preset)
    checkpoint.state["logit_scale"] = checkpoint.state["logit_scale"] + 1
    file.unlink()
    with pytest.raises(SanError, match="not on this machine"):
        pickle.loads(sent)
    write_checkpoint(checkpoint, file)
    with pytest.raises(SanError, match="aren't those of the Segmenter"):
        pickle.loads(sent)
    segmenter_of_no_file = Segmenter(
        checkpoint,
        None,
        weights_sha256="",
        device=torch.device("cpu"),
        precision=torch.float32,
        templates="vild",
    )
    with pytest.raises(SanError, match="can't be pickled"):
        pickle.dumps(segmenter_of_no_file)


def test_weights_that_come_with_san_are_found_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import dataclasses

    seg = Segmenter.load("tiny", device="cpu")
    assert seg._origin is not None
    monkeypatch.setattr(
        seg, "_origin", dataclasses.replace(seg._origin, weights=tmp_path / "elsewhere.safetensors")
    )
    assert pickle.loads(pickle.dumps(seg)).weights_sha256 == seg.weights_sha256
    pickling._arrived.clear()


def test_a_forked_pool_goes_on_with_one_thread(tiny_weights: Path, san_home: Path, tmp_path: Path) -> None:
    """Without `settle_threads` it hangs: libgomp waits for threads that the fork has left behind."""
    script = tmp_path / "forked.py"
    script.write_text(
        "import multiprocessing, sys, warnings\n"
        "import numpy as np, torch\n"
        "from san_cli import Segmenter\n"
        "torch.set_num_threads(2)\n"
        f"seg = Segmenter.load(weights={str(tiny_weights)!r}, device='cpu')\n"
        "image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)\n"
        "def work(_):\n"
        "    with warnings.catch_warnings(record=True) as told:\n"
        "        warnings.simplefilter('always')\n"
        "        label_map = seg.segment(image, ['cat', 'dog']).label_map\n"
        "    return label_map, [str(one.message) for one in told], torch.get_num_threads()\n"
        "own = seg.segment(image, ['cat', 'dog']).label_map\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "    (one, told, threads), (other, later, _) = pool.map_async(work, range(2)).get(60)\n"
        "assert np.array_equal(one, own) and np.array_equal(other, own)\n"
        "assert threads == 1 and torch.get_num_threads() == 2, threads\n"
        "assert 'one thread' in told[0] and len(told) == 1 and not later, (told, later)\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, script], env=subprocess_environment(san_home) | {"OMP_NUM_THREADS": "2"},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_process_whose_parent_had_one_thread_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_used", "_lost"):
        monkeypatch.setattr(forked, name, False)
    torch.set_num_threads(1)
    forked.settle_threads()
    forked._lose()
    assert not forked._lost
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forked.settle_threads()
