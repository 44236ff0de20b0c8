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
from typing import Any

import numpy as np
import pytest
import torch
from eval_trees import make_voc
from noise import QUIET, SETTINGS, Noise, run, same
from program import San, subprocess_environment
from recipe import image
from torch.distributed import HashStore

from san_cli.datasets.task import Task, dataset_task
from san_cli.engine.ensemble import Member, check_members, ensemble_label_map, parse_member
from san_cli.engine.segmentation_map import segmentation_scores
from san_cli.engine.segmenter import Segmenter, frame_of
from san_cli.errors import SanError
from san_cli.evaluate import run as eval_run
from san_cli.evaluate.report import markdown_report, per_class_csv
from san_cli.evaluate.report_data import EvalResult
from san_cli.evaluate.result import result_of
from san_cli.evaluate.run import EvalPlan, run_evaluation
from san_cli.evaluate.state import EvalState
from san_cli.evaluate.tally import Tally, empty_tally, pack_tally, unpack_tally
from san_cli.runs.shares import Share
from san_cli.runs.team import Team
from san_cli.vocabulary.grammar import vocabulary_of_names


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_voc(tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="module")
def task(root: Path) -> Task:
    return dataset_task("voc", root)


def run_as_team(plan: EvalPlan, task: Task, count: int, source: Noise = QUIET) -> Tally:
    """Like `count` processes, but threads."""
    store = HashStore()
    found: dict[int, Any] = {}

    def process(index: int) -> None:
        member = replace(plan, team=Team(Share(index, count), store))
        try:
            found[index] = run_evaluation(member, task, source, SETTINGS, lambda *_: None)
        except SanError as error:
            found[index] = error

    threads = [threading.Thread(target=process, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    if isinstance(found[0], SanError):
        raise found[0]
    assert all(found[index] is None for index in range(1, count))
    return found[0]


@pytest.mark.parametrize("count", [2, 3, 9])
def test_a_team_equals_one_process(task: Task, tmp_path: Path, count: int) -> None:
    alone = run(EvalPlan("voc", predictions=tmp_path / "alone.json"), task)
    assert alone.done.all()
    assert alone.confusion.sum() == 7 * 80 * 80 + 5 * (72 * 96 - 80 * 80)
    plan = EvalPlan("voc", tmp_path / "out", predictions=tmp_path / "team.json")
    assert same(run_as_team(plan, task, count), alone)
    assert (tmp_path / "team.json").read_bytes() == (tmp_path / "alone.json").read_bytes()
    assert same(run_as_team(replace(plan, resume=True, predictions=None), task, 2), alone)


def test_faults_in_a_team(task: Task) -> None:
    source = Noise(faulty=("p01", "p04"))
    alone = run(EvalPlan("voc", keep_going=True), task, source)
    assert list(alone.failed) == [1, 4]
    assert same(run_as_team(EvalPlan("voc", keep_going=True), task, 2, source), alone)
    with pytest.raises(SanError, match="process 1 stopped: p01 is faulty"):
        run_as_team(EvalPlan("voc"), task, 3, Noise(faulty=("p01",)))


def test_members_that_evaluate_something_else(task: Task) -> None:
    store = HashStore()
    leader = threading.Thread(
        target=run_evaluation,
        args=(EvalPlan("voc", team=Team(Share(0, 1), store)), task, Noise(), SETTINGS, lambda *_: None),
    )
    leader.start()
    other = EvalPlan("voc", team=Team(Share(1, 2), store))
    with pytest.raises(SanError, match="other images or settings"):
        run_evaluation(other, replace(task, pairs=task.pairs[1:]), Noise(), SETTINGS, lambda *_: None)
    leader.join()


def interrupt_at(stem: str) -> Callable[[str], None]:
    def before_image(name: str) -> None:
        if name == stem:
            raise KeyboardInterrupt

    return before_image


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("stem", ["p00", "p03", "p06"])
def test_interrupted_and_resumed(task: Task, tmp_path: Path, stem: str, processes: int) -> None:
    alone = run(EvalPlan("voc", predictions=tmp_path / "alone.json"), task)
    plan = EvalPlan("voc", tmp_path / "out", predictions=tmp_path / "p.json")
    with pytest.raises(KeyboardInterrupt):
        run(plan, task, Noise(before_image=interrupt_at(stem)))
    done: list[str] = []
    plan = replace(plan, resume=True)
    source = Noise(before_image=done.append)
    resumed = run(plan, task, source) if processes == 1 else run_as_team(plan, task, processes, source)
    assert same(resumed, alone)
    assert len(done) < 7 or stem == "p00"
    assert (tmp_path / "p.json").read_bytes() == (tmp_path / "alone.json").read_bytes()
    done.clear()
    assert same(run(replace(plan, predictions=None), task, source), alone)
    assert done == []
    assert same(run(replace(plan, resume=False), task, source), alone)
    assert len(done) == 7


def test_killed_while_parts_are_merged(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = run(EvalPlan("voc"), task)
    plan = EvalPlan("voc", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(plan, task, Noise(before_image=interrupt_at("p05")))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(replace(plan, resume=True), task)
    assert len(list((tmp_path / ".san-eval").glob("*.npz"))) == 2
    assert same(run(replace(plan, resume=True), task), alone)


def test_a_mended_image_is_tried_again(task: Task, tmp_path: Path) -> None:
    plan = EvalPlan("voc", tmp_path, keep_going=True)
    assert list(run(plan, task, Noise(faulty=("p02",))).failed) == [2]
    assert same(run(replace(plan, resume=True), task), run(EvalPlan("voc"), task))


def test_resume_refuses_other_settings_and_damage(task: Task, tmp_path: Path) -> None:
    plan = EvalPlan("voc", tmp_path, resume=True)
    run(plan, task)
    with pytest.raises(SanError, match="other settings: model"):
        run_evaluation(plan, task, Noise(), {"model": "other"}, lambda *_: None)
    with pytest.raises(SanError, match="other settings: images"):
        run_evaluation(plan, replace(task, pairs=task.pairs[:3]), Noise(), SETTINGS, lambda *_: None)
    part = next((tmp_path / ".san-eval").glob("*.npz"))
    part.write_bytes(part.read_bytes()[:-30])
    with pytest.raises(SanError, match="can't go on") as told:
        run(plan, task)
    assert "without --resume" in told.value.hint
    run(replace(plan, resume=False), task)
    with pytest.raises(SanError, match="did not keep all its predictions"):
        run(replace(plan, predictions=tmp_path / "p.json"), task)


def test_the_state_is_saved_between_images(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eval_run, "_SAVE_EVERY_S", 0.0)
    saved: list[int] = []
    save = EvalState.save

    def noted(self: EvalState, tally: Tally, share: Share) -> None:
        save(self, tally, share)
        saved.append(int(tally.done.sum()))

    monkeypatch.setattr(EvalState, "save", noted)
    run(EvalPlan("voc", tmp_path), task)
    assert saved == [1, 2, 3, 4, 5, 6, 7, 7]


def test_tallies(task: Task) -> None:
    tally = run(EvalPlan("voc", keep_going=True), task, Noise(faulty=("p02",)))
    again = unpack_tally(pack_tally(tally))
    assert same(again, tally)
    assert again.seconds == tally.seconds
    with pytest.raises(ValueError, match="count twice"):
        again.add(tally)
    with pytest.raises(ValueError, match="different datasets"):
        again.add(empty_tally(3, 20))


_KILLED = """
import os, sys
from san_cli.evaluate import run as eval_run
from san_cli.evaluate.state import EvalState
eval_run._SAVE_EVERY_S = 0
save = EvalState.save
def killed(self, tally, share):
    save(self, tally, share)
    if tally.done.sum() == 3:
        os.kill(os.getpid(), 9)
EvalState.save = killed
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

    monkeypatch.setattr("san_cli.evaluate.map_source.ensemble_label_map", stop)
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
    both = ensemble_label_map(members, resized, size, vocabulary, lambda: None)
    best = total.topk(2, dim=0)
    clear = (best.values[0] - best.values[1] > 1e-5).numpy()
    assert clear.mean() > 0.99
    assert np.array_equal(both[clear], best.indices[0].numpy()[clear])
    alone = ensemble_label_map(members[:1], resized, size, vocabulary, lambda: None)
    made = members[0].segmenter.segment_resized([resized], [size], vocabulary)[0].label_map
    assert np.array_equal(alone, made)
    assert not np.array_equal(alone, both)
    members[1].segmenter.preset = dataclasses.replace(members[1].segmenter.preset, input_size=128)
    with pytest.raises(SanError, match="can't be added: input_size is 64 and 128"):
        check_members(members)


def test_published_numbers_stand_only_beside_comparable_ones(task: Task) -> None:
    tally = run(EvalPlan("voc"), task)
    whole = replace(task, expected=len(task.pairs))

    def result(task: Task, tally: Tally = tally, comparable: bool = True) -> EvalResult:
        return result_of(
            task,
            tally,
            model="vit-b-16",
            weights="w",
            weights_sha256="",
            total_seconds=1,
            comparable=comparable,
        )

    assert result(whole).logged == {"mIoU": 93.947, "fwIoU": 94.8517, "mACC": 96.6679, "pACC": 97.156}
    assert result(whole).paper == "94.0 ± 0.21"
    skipped = run(EvalPlan("voc", keep_going=True), task, Noise(faulty=("p02",)))
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
    tally = run(EvalPlan("voc"), hostile)
    result = result_of(
        hostile, tally, model=None, weights="w", weights_sha256=None, total_seconds=1, comparable=False
    )
    text = markdown_report([result], [], {}, [], [("voc", "<b>why")], [])
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
