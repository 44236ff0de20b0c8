"""Evaluations in parts: by several processes, killed and resumed, and what their label maps are summed from."""

import dataclasses
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from eval_trees import make_voc
from noise import NOISE, QUIET, Noise, run, same
from program import San, subprocess_environment
from recipe import image
from torch.distributed import HashStore

from san_cli.datasets.task import Task, dataset_task
from san_cli.engine.ensemble import Ensemble, Member, check_members, parse_member
from san_cli.engine.mask_blocks import frame_of
from san_cli.engine.segmentation_map import segmentation_scores
from san_cli.engine.segmenter import Segmenter
from san_cli.errors import SanError
from san_cli.evaluate.counting import Evaluation, Origin
from san_cli.evaluate.plan import Plan
from san_cli.evaluate.report import Report, markdown_report, per_class_csv
from san_cli.evaluate.result import EvalResult, result_of
from san_cli.evaluate.run import count
from san_cli.evaluate.state import Counts
from san_cli.runs.processes import Processes
from san_cli.runs.shares import Share
from san_cli.vocabulary.grammar import vocabulary_of_names


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_voc(tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="module")
def task(root: Path) -> Task:
    return dataset_task("voc", root)


def run_together(plan: Plan, task: Task, world: int, maps: Noise = QUIET) -> list[Counts | SanError | None]:
    """What each of `world` processes comes to, which are threads here."""
    store = HashStore()
    found: dict[int, Counts | SanError | None] = {}

    def process(rank: int) -> None:
        own = replace(plan, processes=Processes(Share(rank, world), store))
        try:
            found[rank] = count(Evaluation("voc", task, maps, NOISE), own)
        except SanError as error:
            found[rank] = error

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [found[rank] for rank in range(world)]


def together(plan: Plan, task: Task, world: int, maps: Noise = QUIET) -> Counts:
    """The counts of `world` processes, which the leading one alone has."""
    leading, *others = run_together(plan, task, world, maps)
    assert isinstance(leading, Counts)
    assert others == [None] * (world - 1)
    return leading


@pytest.mark.parametrize("world", [2, 3, 9])
def test_several_processes_equal_one(task: Task, tmp_path: Path, world: int) -> None:
    alone = run(Plan(save_predictions=tmp_path / "alone.json"), task)
    assert alone.done.all()
    assert alone.confusion.sum() == 7 * 80 * 80 + 5 * (72 * 96 - 80 * 80)
    plan = Plan(tmp_path / "out", save_predictions=tmp_path / "shared.json")
    assert same(together(plan, task, world), alone)
    assert (tmp_path / "shared.json").read_bytes() == (tmp_path / "alone.json").read_bytes()
    assert same(together(replace(plan, resume=True, save_predictions=None), task, 2), alone)


def test_a_fault_in_one_process_ends_all(task: Task) -> None:
    maps = Noise(faulty=("p01", "p04"))
    alone = run(Plan(keep_going=True), task, maps)
    assert list(alone.skipped) == [1, 4]
    assert same(together(Plan(keep_going=True), task, 2, maps), alone)
    found = run_together(Plan(), task, 3, Noise(faulty=("p01",)))
    told = [str(one.message) for one in found if isinstance(one, SanError)]
    assert told == ["process 1 stopped: p01 is faulty", "p01 is faulty", "process 1 stopped: p01 is faulty"]
    assert all("--keep-going" in one.hint for one in found if isinstance(one, SanError))


def test_a_state_at_fault_ends_all(task: Task, tmp_path: Path) -> None:
    run(Plan(tmp_path), replace(task, split="train"))
    found = run_together(Plan(tmp_path, resume=True), task, 2)
    assert all(isinstance(one, SanError) and "other settings: split" in one.message for one in found)


def test_processes_that_evaluate_something_else(task: Task) -> None:
    store, found = HashStore(), []

    def process(rank: int) -> None:
        plan = Plan(processes=Processes(Share(rank, 2), store))
        own = replace(task, pairs=task.pairs[rank:])
        with pytest.raises(SanError, match="differ in images or settings"):
            count(Evaluation("voc", own, QUIET, NOISE), plan)
        found.append(rank)

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(found) == [0, 1]


def interrupt_at(stem: str) -> Callable[[str], None]:
    def before_image(name: str) -> None:
        if name == stem:
            raise KeyboardInterrupt

    return before_image


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("stem", ["p00", "p03", "p06"])
def test_interrupted_and_resumed(task: Task, tmp_path: Path, stem: str, processes: int) -> None:
    alone = run(Plan(save_predictions=tmp_path / "alone.json"), task)
    plan = Plan(tmp_path / "out", save_predictions=tmp_path / "p.json")
    with pytest.raises(KeyboardInterrupt):
        run(plan, task, Noise(before_image=interrupt_at(stem)))
    done: list[str] = []
    plan = replace(plan, resume=True)
    maps = Noise(before_image=done.append)
    resumed = run(plan, task, maps) if processes == 1 else together(plan, task, processes, maps)
    assert same(resumed, alone)
    assert len(done) < 7 or stem == "p00"
    assert (tmp_path / "p.json").read_bytes() == (tmp_path / "alone.json").read_bytes()
    done.clear()
    assert same(run(replace(plan, save_predictions=None), task, maps), alone)
    assert done == []
    assert same(run(replace(plan, resume=False), task, maps), alone)
    assert len(done) == 7


def test_a_mended_image_is_tried_again(task: Task, tmp_path: Path) -> None:
    plan = Plan(tmp_path, keep_going=True)
    assert list(run(plan, task, Noise(faulty=("p02",))).skipped) == [2]
    assert same(run(replace(plan, resume=True), task), run(Plan(), task))


def test_resume_refuses_other_settings(task: Task, tmp_path: Path) -> None:
    plan = Plan(tmp_path, resume=True)
    run(plan, task)
    with pytest.raises(SanError, match=r"other settings: model \(then noise, now other\)") as told:
        run(plan, task, origin=Origin(None, "noise", None, {"model": "other"}))
    assert "without --resume" in told.value.hint
    with pytest.raises(SanError, match="other settings: images"):
        run(plan, replace(task, pairs=task.pairs[:3]))
    with pytest.raises(SanError, match="did not keep all its predictions"):
        run(replace(plan, save_predictions=tmp_path / "p.json"), task)
    settings = tmp_path / ".san-eval/voc.json"
    settings.write_text(settings.read_text().replace('"format":1', '"format":0'))
    with pytest.raises(SanError, match="other settings: format"):
        run(plan, task)


@pytest.mark.parametrize("byte", range(0, 4000, 171))
@pytest.mark.parametrize("damage", ["bit", "cut"])
def test_damaged_counts_are_counted_again(task: Task, tmp_path: Path, byte: int, damage: str) -> None:
    alone, plan = run(Plan(), task), Plan(tmp_path)
    run(plan, task)
    kept = tmp_path / ".san-eval/voc.counts"
    data = bytearray(kept.read_bytes())
    byte = byte * len(data) // 4000
    data[byte] ^= 4
    kept.write_bytes(data if damage == "bit" else data[:byte])
    done: list[str] = []
    assert same(run(replace(plan, resume=True), task, Noise(before_image=done.append)), alone)
    assert 1 <= len(done) <= (2 if damage == "bit" else 7)
    done.clear()
    assert same(run(replace(plan, resume=True), task, Noise(before_image=done.append)), alone)
    assert done == []


def test_every_image_is_kept_at_once(task: Task, tmp_path: Path) -> None:
    """Before the next is begun, so that not even a power cut costs more than the one that is under way."""
    kept: list[int] = []

    def look(_: str) -> None:
        path = tmp_path / ".san-eval/voc.counts"
        kept.append(path.read_bytes().count(b"\n"))

    run(Plan(tmp_path), task, Noise(before_image=look))
    assert kept == sorted(kept)
    assert all(number - 2 <= lines <= number for number, lines in enumerate(kept))


def test_an_image_counts_once(task: Task, tmp_path: Path) -> None:
    """Though two processes wrote it, as where nothing keeps two runs apart."""
    counts, plan = run(Plan(tmp_path), task), Plan(tmp_path, resume=True)
    kept = tmp_path / ".san-eval/voc.counts"
    kept.with_name("voc.counts-2-of-3").write_bytes(kept.read_bytes())
    assert same(run(plan, task), counts)
    with pytest.raises(ValueError, match="count twice"):
        counts.merge(counts)


_KILLED = """
import os, sys
from san_cli.evaluate.state import State
append, images = State.append, []
def killed(self, image):
    append(self, image)
    images.append(image)
    if len(images) == 3:
        os.kill(os.getpid(), 9)
State.append = killed
from san_cli.cli.main import main
sys.argv = ["san", *sys.argv[1:]]
main()
"""


def numbers(folder: Path) -> list[dict]:
    rows = json.loads((folder / "results.json").read_text())["results"]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_kill_9_then_two_real_processes(
    san: San, tiny_weights: Path, san_home: Path, root: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    command = ["eval", "voc", "--data-root", root, "--weights", tiny_weights, "--device", "cpu", "--worst", 0]
    assert san(*command, "-o", tmp_path / "whole").code == 0
    out, env = tmp_path / "out", subprocess_environment(san_home)
    text = [str(part) for part in [*command, "-o", out]]
    killed = subprocess.run([sys.executable, "-c", _KILLED, *text], env=env, capture_output=True, check=False)
    assert killed.returncode == -9
    assert not (out / "results.json").exists()
    env |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "san_cli", *text, "--resume"],
            env={**env, "RANK": rank}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    ended = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    assert b"voc" in ended[0][0]
    assert ended[1][0] == b""
    assert numbers(out) == numbers(tmp_path / "whole")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_ctrl_c_says_how_to_go_on(
    san: San, tiny_weights: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("san_cli.engine.ensemble.Ensemble.label_map", stop)
    ended = san("eval", "voc", "--data-root", root, "--weights", tiny_weights, "-o", tmp_path)
    assert ended.code == 130
    assert "--resume" in ended.err


def test_an_ensemble_is_the_sum_of_its_maps(tiny_weights: Path) -> None:
    """Two models that differ, against the plain formula's sum."""
    torch.set_num_threads(1)
    members = [
        Member(Segmenter.load(weights=tiny_weights, device="cpu")),
        Member(Segmenter.load(weights=tiny_weights, device="cpu"), 0.5),
    ]
    vocabulary = vocabulary_of_names(["cat", "dog", "grass", "sky"])
    with torch.no_grad():
        for parameter in members[1].segmenter.model.mask_decoder.parameters():
            parameter.mul_(0.7)
    check_members(members)
    resized = members[0].segmenter.resize(image(5, 70, 100))
    size = (70, 100)
    total = torch.zeros(4, *size)
    for member in members:
        masks, classes = member.segmenter.map_factors([resized], vocabulary)
        total += member.share * segmentation_scores(masks[0], classes[0], frame_of(resized, size))
    both = Ensemble(members, vocabulary).label_map(resized, size, lambda stage: None)
    best = total.topk(2, dim=0)
    clear = (best.values[0] - best.values[1] > 1e-5).numpy()
    assert clear.mean() > 0.99
    assert np.array_equal(both[clear], best.indices[0].numpy()[clear])
    alone = Ensemble(members[:1], vocabulary).label_map(resized, size, lambda stage: None)
    made = members[0].segmenter.segment_resized([resized], [size], vocabulary)[0].label_map
    assert np.array_equal(alone, made)
    assert not np.array_equal(alone, both)
    members[1].segmenter.preset = dataclasses.replace(members[1].segmenter.preset, input_size=128)
    with pytest.raises(SanError, match="can't be added: input_size is 64 and 128"):
        check_members(members)


def test_published_numbers_stand_only_beside_comparable_ones(task: Task) -> None:
    counts = run(Plan(), task)
    whole = replace(task, expected=len(task.pairs))

    def result(task: Task, counts: Counts = counts, comparable: bool = True) -> EvalResult:
        origin = Origin("vit-b-16", "w", "", comparable=comparable)
        return result_of(Evaluation("voc", task, QUIET, origin), counts, 1)

    assert vars(result(whole).logged) == {"mIoU": 93.947, "fwIoU": 94.8517, "mACC": 96.6679, "pACC": 97.156}
    assert result(whole).paper == "94.0 ± 0.21"
    skipped = run(Plan(keep_going=True), task, Noise(faulty=("p02",)))
    others = [
        result(task),  # another number of images than the benchmark has
        result(replace(whole, limited=True)),
        result(replace(whole, own_words=True)),
        result(replace(whole, split="train")),
        result(replace(whole, name="own")),
        result(whole, comparable=False),
        result(whole, skipped),
    ]
    assert all(other.logged is None and other.paper is None for other in others)
    assert result(replace(whole, name="pc459")).paper == "12.6 ± 0.44"
    assert result(replace(whole, name="coco")).paper is None


def test_names_are_inert_in_the_report(task: Task) -> None:
    name = "[red]a|b*\n\x1b[1m<img src=x>"
    hostile = replace(task, classes=(name, *task.classes[1:]))
    result = result_of(Evaluation("voc", hostile, QUIET, NOISE), run(Plan(), hostile), 1)
    text = markdown_report(Report((result,), {}, {"voc": "<b>why"}))
    assert "<img" not in text
    assert "\x1b" not in text
    assert r"\[red\]a\|b\*" in text
    assert r"**the dataset voc was skipped: &lt;b&gt;why**" in text
    assert len(per_class_csv([result]).splitlines()) == 21


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a.pth", ("a.pth", 1.0)),
        ("a.pth:0.5", ("a.pth", 0.5)),
        (r"C:\a.pth", (r"C:\a.pth", 1.0)),
        ("random:2", ("random", 2.0)),
    ],
)
def test_ensemble_member(text: str, read: tuple[str, float]) -> None:
    assert parse_member(text) == read
