"""A training that is stopped, interrupted or killed goes on to the very same losses and weights."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from program import San, tree
from train_data import (
    assert_same_training,
    before_step,
    checkpoint_names,
    copy_up_to,
    die,
    die_at,
    in_processes,
    make_labelled,
    micro_preset,
    part_of_batch,
    rows,
    train,
    trainer_of,
)

from san_cli.errors import SanError
from san_cli.runs.lock import locked
from san_cli.train import checkpoints
from san_cli.train import folder as train_folder
from san_cli.train.checkpoints import Position, last, publish, read_state, save
from san_cli.train.log import Interval, MetricsLog
from san_cli.train.step import StepResult, Trainer
from san_cli.weights.checkpoint import Checkpoint, random_checkpoint

OPTIONS = ("--iterations", 7, "--log-every", 3, "--eval-every", 2, "--eval-images", 2, "--save-every", 2)
needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_labelled(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def whole(folder: Path, san_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training comes to that nobody disturbs, all its checkpoints kept."""
    out = tmp_path_factory.mktemp("whole") / "out"
    [ended] = in_processes(folder, *OPTIONS, "-o", out, "--keep", 9, world=1, san_home=san_home)
    assert ended.code == 0, ended.err
    return out


@pytest.mark.parametrize(("signum", "at"), [(signal.SIGINT, 0), (signal.SIGTERM, 3), (signal.SIGINT, 4)])
def test_a_stopped_training_goes_on(
    san: San, folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: int, at: int
) -> None:
    """Also where the stop falls between two lines of the log."""
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        before_step(at, lambda: os.kill(os.getpid(), signum), patch)
        ended = train(san, folder, *OPTIONS, "-o", out)
    assert ended.code == 130
    assert "--resume goes on" in ended.err
    stopped = int(checkpoint_names(out)[-1][-1])
    assert stopped == at + 1
    assert f"stopped after iteration {stopped} of 7" in ended.err
    assert not (out / "model.safetensors").exists()
    again = train(san, folder, *OPTIONS, "-o", out, "--resume")
    assert (again.code, f"going on after iteration {stopped}" in again.err) == (0, True)
    assert_same_training(out, whole)
    assert [row["iteration"] for row in rows(out)] == [3, 6, 7]
    assert (out / "best.json").read_text() == (whole / "best.json").read_text()
    sheets = tree(whole / "sheets")
    assert tree(out / "sheets") == sheets


def test_impatience(
    san: San, folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second Ctrl-C ends at once; earlier checkpoints are there."""

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        before_step(3, twice, patch)
        ended = train(san, folder, *OPTIONS, "-o", out)
    assert (ended.code, "Traceback" in ended.err) == (130, False)
    assert "the same command with --resume" in ended.err
    assert checkpoint_names(out) == ["step-00000002"]
    train(san, folder, *OPTIONS, "-o", out, "--resume")
    assert_same_training(out, whole)


MOMENTS: dict[str, Callable[[], None]] = {
    "between two checkpoints": lambda: die_at(Trainer, "step", 6),
    "with half of a checkpoint written": lambda: die_at(checkpoints, "write_stated_hash", 2),
    "with a checkpoint that has no name yet": lambda: _die_before_rename(number=2),
    "before the old checkpoints are dropped": lambda: die_at(checkpoints, "_complete", 4),
    "before the model gets its name": lambda: die_at(checkpoints, "publish", 1),
}


@needs_fork
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_training_goes_on(
    san: San, folder: Path, whole: Path, tmp_path: Path, san_home: Path, moment: str
) -> None:
    out = tmp_path / "out"
    [ended] = in_processes(
        folder, *OPTIONS, "-o", out, world=1, san_home=san_home, prepare=lambda _: MOMENTS[moment]()
    )
    assert ended.code == -signal.SIGKILL
    assert not (out / "model.safetensors").exists()
    newest = [name for name in checkpoint_names(out) if name.startswith("step-")][-1]
    assert {path.name for path in (out / "checkpoints" / newest).iterdir()} == {
        "weights.safetensors", "state.safetensors",
    }  # fmt: skip
    assert train(san, folder, *OPTIONS, "-o", out, "--resume").code == 0
    assert_same_training(out, whole)
    assert not list((out / "checkpoints").glob(".*"))


def _die_before_rename(number: int) -> None:
    """Die when the `number`-th checkpoint is whole, but not called so yet."""
    real, left = Path.replace, [number]

    def dying(self: Path, target: Path) -> Path:
        if self.is_dir():
            left[0] -= 1
            if not left[0]:
                die()
        return real(self, target)

    Path.replace = dying  # type: ignore[method-assign, assignment]


def test_a_line_half_written_is_written_again(san: San, folder: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    copy_up_to(whole, out, 4)
    log = (out / "metrics.jsonl").read_bytes()
    (out / "metrics.jsonl").write_bytes(log[: len(log) - 40])
    (out / "checkpoints" / ".unfinished-step-00000005").mkdir()
    (out / "checkpoints" / ".unfinished-step-00000005" / "state.safetensors").write_bytes(b"half")
    assert train(san, folder, *OPTIONS, "-o", out, "--resume").code == 0
    assert_same_training(out, whole)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [2, 3, 4, 6, 6, 7, 7]


def test_a_training_that_is_done_stays_done(san: San, folder: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / "model.safetensors").unlink()  # killed just before it got its name
    ended = train(san, folder, *OPTIONS, "-o", out, "--resume", "--keep", 9)
    assert (ended.code, "done: " in ended.err) == (0, True)
    assert_same_training(out, whole)


def test_what_does_not_matter_may_change(san: San, folder: Path, whole: Path, tmp_path: Path) -> None:
    """Workers, evaluations, checkpoints, what is kept and shown; parts of a batch up to rounding."""
    out = tmp_path / "out"
    copy_up_to(whole, out, 4)
    other = ("--workers", 1, "--eval-every", 0, "--save-every", 5, "--keep", 1, "-q")
    assert train(san, folder, *OPTIONS, "-o", out, "--resume", *other).code == 0
    assert_same_training(out, whole)
    assert checkpoint_names(out) == ["step-00000007"]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (["--batch", "2"], "recipe.batch"),
        (["--lr", "2e-4"], "recipe.learning_rate"),
        (["--iterations", "9"], "recipe.iterations"),
        (["--recipe", "paper"], "recipe.decay_everything"),
        (["--set", "points=65"], "recipe.points"),
        (["--set", "muon_learning_rate=0.01"], "recipe.muon_learning_rate"),
        (["--seed", "1"], "seed"),
        (["--precision", "bf16"], "precision"),
        (["--set", "fusion=[[0,0]]"], "preset.fusion"),
        (["--limit", "5"], "data.images"),
        (["--ignore", "254", "--ignore", "255"], "data.ignore"),
        (["--templates", "photo"], "templates"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_another_training_is_not_resumed(
    san: San, folder: Path, whole: Path, other: list[str], named: str
) -> None:
    before = tree(whole)
    ended = train(san, folder, *OPTIONS, "-o", whole, "--resume", *other)
    assert ended.code == 2
    assert "holds a training with other settings: " in ended.err
    assert named in ended.err
    assert "Repeat the command that started it" in ended.err
    assert tree(whole) == before


@pytest.mark.parametrize("what", ["words", "images"])
def test_other_data_are_not_resumed_with(
    san: San, folder: Path, whole: Path, tmp_path: Path, what: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    if what == "words":
        (other / "classes.txt").write_text("sky\nstreet\ntree\ncar\n")
    else:
        for kind in ("images/p3.jpg", "labels/p3.png"):
            path = other / kind
            path.rename(path.with_stem("p8"))
    ended = train(san, other, *OPTIONS, "-o", whole, "--resume")
    assert ended.code == 2
    assert "holds a training with other settings: " in ended.err
    assert f"data.{'words' if what == 'words' else 'names'}_sha256" in ended.err


def test_a_folder_with_a_training_is_refused(san: San, folder: Path, whole: Path) -> None:
    before = tree(whole)
    ended = train(san, folder, *OPTIONS, "-o", whole)
    assert (ended.code, "holds a training already" in ended.err) == (2, True)
    assert "Add --resume" in ended.err
    assert tree(whole) == before


@needs_fork
def test_a_killed_training_leaves_no_processes(
    san: San, folder: Path, whole: Path, tmp_path: Path, san_home: Path
) -> None:
    """Neither do those that read images for it stay for ever, nor keep the folder from the next one."""
    out, step = tmp_path / "out", Trainer.step

    def prepare(rank: int) -> None:
        def step_or_die(self: Trainer, number: int, *parts: object, **more: object) -> StepResult:
            if number == 5:
                readers = [str(process.pid) for process in multiprocessing.active_children()]
                (tmp_path / "readers").write_text(" ".join(readers))
                os.kill(os.getpid(), signal.SIGKILL)
            return step(self, number, *parts, **more)  # type: ignore[arg-type]

        Trainer.step = step_or_die  # type: ignore[method-assign]

    [ended] = in_processes(
        folder, *OPTIONS, "-o", out, "--workers", 2, world=1, san_home=san_home, prepare=prepare
    )
    assert ended.code == -signal.SIGKILL
    assert train(san, folder, *OPTIONS, "-o", out, "--resume").code == 0
    assert_same_training(out, whole)
    readers = (tmp_path / "readers").read_text().split()
    assert len(readers) == 2
    deadline = time.monotonic() + 30
    while any(_runs(pid) for pid in readers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_runs(pid) for pid in readers)


def _runs(pid: str) -> bool:
    """Tell whether a process runs; what nobody has taken notice of is dead, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_two_trainings_in_one_folder_are_kept_apart(
    san: San, folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is refused while the first is at work, which doesn't notice."""
    monkeypatch.setattr(train_folder, "_LOCK_WAIT_S", 0.3)
    out, others = tmp_path / "out", []
    copy_up_to(whole, out, 2)
    being_written = out / "checkpoints" / ".unfinished-step-00000004"

    def resume_twice() -> None:
        being_written.mkdir()
        others.append(train(san, folder, *OPTIONS, "-o", out, "--resume"))
        assert being_written.exists()

    with monkeypatch.context() as patch:
        before_step(2, resume_twice, patch)
        assert train(san, folder, *OPTIONS, "-o", out, "--resume").code == 0
    assert [other.code for other in others] == [2] and "another san train is writing to" in others[0].err
    assert_same_training(out, whole)


def test_a_training_that_has_left_nothing_yet_has_the_folder(
    san: San, folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_folder, "_LOCK_WAIT_S", 0.3)
    out = tmp_path / "out"
    (out / ".san-train").mkdir(parents=True)
    with locked(out / ".san-train", out, "san train"):  # it embeds words, or looks at its data
        ended = train(san, folder, *OPTIONS, "-o", out)
    assert (ended.code, "another san train is writing to" in ended.err) == (2, True)
    assert set(tree(out)) == {".san-train/lock"}
    assert train(san, folder, *OPTIONS, "-o", out).code == 0
    assert_same_training(out, whole)


def test_nothing_to_resume_yet(san: San, folder: Path, whole: Path, tmp_path: Path) -> None:
    """So one command does for the first start and for all others; but a finished model is not written over."""
    ended = train(san, folder, *OPTIONS, "-o", tmp_path / "out", "--resume")
    assert (ended.code, "nothing to resume yet: beginning" in ended.err) == (0, True)
    assert_same_training(tmp_path / "out", whole)
    shutil.rmtree(tmp_path / "out" / "checkpoints")
    ended = train(san, folder, *OPTIONS, "-o", tmp_path / "out", "--resume")
    assert (ended.code, "no checkpoint to go on from" in ended.err) == (2, True)
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["state", "weights"])
def test_a_damaged_checkpoint_is_said_to_be(
    san: San, folder: Path, whole: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    copy_up_to(whole, out, 4)
    file = out / "checkpoints" / "step-00000004" / f"{name}.safetensors"
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(content)
    ended = train(san, folder, *OPTIONS, "-o", out, "--resume")
    assert (ended.code, "Traceback" in ended.err) == (2, False)
    assert f"{name}.safetensors" in ended.err and "damaged" in ended.err
    shutil.rmtree(file.parent)
    assert train(san, folder, *OPTIONS, "-o", out, "--resume").code == 0
    assert_same_training(out, whole)


def test_settings_that_are_gone(san: San, folder: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    copy_up_to(whole, out, 2)
    for content in (None, "{", "[]"):
        (out / "settings.json").unlink(missing_ok=True)
        if content is not None:
            (out / "settings.json").write_text(content)
        ended = train(san, folder, *OPTIONS, "-o", out, "--resume")
        assert (ended.code, "settings.json" in ended.err) == (2, True)


# The parts


positions = st.builds(
    Position,
    step=st.integers(0, 10**7),
    skipped=st.integers(0, 10**6),
    loss_scale=st.floats(0, 2.0**40),
    loss_scale_steps=st.integers(0, 2000),
    pending=st.dictionaries(
        st.sampled_from(["ce", "mask_0", "total"]), st.floats(allow_nan=False), max_size=3
    ),
    pending_steps=st.integers(0, 10**4),
)


@cache
def small() -> Checkpoint:
    return random_checkpoint(micro_preset())


@settings(max_examples=20, deadline=None)
@given(position=positions, seed=st.integers(0, 2**30))
def test_a_checkpoint_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, position: Position, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("position")
    generator = torch.Generator().manual_seed(seed)
    moments = {"a.b/exp_avg": torch.randn(3, 2, generator=generator), "a.b/step": torch.tensor(4.0)}
    file = save(folder, small(), moments, position, adapter_only=True, keep=1)
    assert file.parent == last(folder)
    found, where = read_state(file.parent)
    assert where == position
    assert found.keys() == moments.keys()
    assert all(torch.equal(found[name], moments[name]) for name in moments)
    shutil.rmtree(folder)


def test_equal_states_are_equal_bytes(tmp_path: Path) -> None:
    moments = {f"p{number}/exp_avg": torch.full((5,), float(number)) for number in range(20)}
    for name in ("a", "b"):
        save(tmp_path / name, small(), moments, Position(3), adapter_only=False, keep=1)
        moments = dict(reversed(moments.items()))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_moments_of_another_model_are_refused() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter])
    with pytest.raises(SanError, match="another model: it has b"):
        checkpoints.restore_moments([optimizer], {"a": parameter}, {"b/exp_avg": torch.ones(2)})


def test_muon_trains_the_matrices_and_goes_on_where_it_stopped() -> None:
    whole, again = (trainer_of(micro_preset(), muon_learning_rate=0.01) for _ in range(2))
    adamw, muon = whole.optimizers
    names = {id(p): name for name, p in whole.parameters.items()}
    of_muon = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    of_adamw = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert of_muon | of_adamw == whole.parameters.keys() and not of_muon & of_adamw
    assert {name.split(".")[-1] for name in of_muon} == {"weight"}
    inner = ("side_adapter.blocks.0.qkv", "side_adapter.fusions.0.project", "mask_decoder.query_mlp.layers.0")
    assert {f"{name}.weight" for name in inner} <= of_muon
    assert {"side_adapter.patch_embed.weight", "mask_decoder.bias_scaling.weight"} <= of_adamw

    result = whole.step(0, [part_of_batch(0, 1)])
    assert result.updated and result.learning_rate == 1e-4
    moments = {n: t.clone() for n, t in checkpoints.moments_of(whole.optimizers, whole.parameters).items()}
    assert {name.rpartition("/")[0] for name in moments if name.endswith("/momentum_buffer")} == of_muon
    again.model.san.load_state_dict({n: t.clone() for n, t in whole.model.san.state_dict().items()})
    checkpoints.restore_moments(again.optimizers, again.parameters, moments)
    first, second = (trainer.step(1, [part_of_batch(2, 3)]) for trainer in (whole, again))
    assert first == second
    assert [group["lr"] for group in muon.param_groups] == [0.01 * 0.9**0.9] * len(of_muon)
    for name, tensor in whole.model.san.state_dict().items():
        assert torch.equal(tensor, again.model.san.state_dict()[name]), name


@needs_fork
def test_muon_in_processes_resumed_and_planned(
    san: San, san_home: Path, folder: Path, tmp_path: Path
) -> None:
    options = (
        "--iterations",
        3,
        "--log-every",
        1,
        "--eval-every",
        0,
        "--save-every",
        2,
        "--set",
        "muon_learning_rate=0.01",
    )
    ended = in_processes(folder, *options, "-o", tmp_path / "two", world=2, san_home=san_home)
    assert [one.code for one in ended] == [0, 0]
    assert train(san, folder, *options, "-o", tmp_path / "one", "--keep", 9).code == 0
    # Not to the last digits: directions in which there is only rounding noise are as long as all others.
    two, one = ([row["total"] for row in rows(tmp_path / name)] for name in ("two", "one"))
    assert len(one) == 3 and two == pytest.approx(one, rel=0.02)
    copy_up_to(tmp_path / "one", tmp_path / "again", 2)
    assert train(san, folder, *options, "-o", tmp_path / "again", "--resume", "--keep", 9).code == 0
    assert_same_training(tmp_path / "again", tmp_path / "one")
    plan = train(san, folder, *options, "-o", tmp_path / "plan", "--dry-run")
    assert re.search(r"optimiser +Muon at 0\.01 for \d\d matrices, AdamW, weight decay", plan.out)
    assert "rising" not in plan.out
    plan = train(san, folder, *options, "--set", "warm_up=2", "-o", tmp_path / "plan", "--dry-run")
    assert re.search(r"schedule .*, rising over the first 2\n", plan.out)


def test_all_learning_rates_rise_in_a_warm_up() -> None:
    trainer = trainer_of(micro_preset(), warm_up=5, muon_learning_rate=0.01)
    for step, share in ((0, 1 / 5), (1, 2 / 5 * 0.9**0.9)):
        result = trainer.step(step, [part_of_batch(0, 1)])
        assert result.learning_rate == pytest.approx(1e-4 * share)
        rates = {round(group["lr"], 12) for one in trainer.optimizers for group in one.param_groups}
        assert sorted(rates) == pytest.approx([1e-4 * share, 0.01 * share])


def test_pytorch_without_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(SanError, match=r"muon_learning_rate needs PyTorch 2\.9"):
        trainer_of(micro_preset(), muon_learning_rate=0.01)
    assert trainer_of(micro_preset()).step(0, [part_of_batch(0, 1)]).updated


def test_publishing_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").write_bytes(b"new")
    (tmp_path / "model").write_bytes(b"old")

    def refuse(*_: object) -> None:
        raise OSError("no hard links here")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        publish(tmp_path / "weights", tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == b"new"
    publish(tmp_path / "weights", tmp_path / "model")
    assert {path.name for path in tmp_path.iterdir()} == {"weights", "model"}


lines_of_a_log = st.lists(
    st.fixed_dictionaries(
        {"iteration": st.integers(1, 30)},
        optional={"total": st.floats(), "evaluation": st.text(max_size=5), "mIoU": st.floats(0, 100)},
    ),
    max_size=12,
)


@settings(deadline=None)
@given(lines=lines_of_a_log, up_to=st.integers(0, 30), cut=st.integers(0, 60))
def test_a_log_is_taken_up(
    tmp_path_factory: pytest.TempPathFactory, lines: list[dict[str, object]], up_to: int, cut: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    log = MetricsLog(path, 0)
    for line in lines:
        log.write(line)
    content = path.read_bytes()
    for line in content.splitlines():
        json.loads(line, parse_constant=pytest.fail)  # strict JSON
    whole = content[: max(0, len(content) - cut)]
    path.write_bytes(whole)
    complete = [json.loads(line) for line in content.splitlines()][: whole.count(b"\n")]
    if whole and not whole.endswith(b"\n") and content[len(whole) : len(whole) + 1] == b"\n":
        complete = [json.loads(line) for line in whole.splitlines()]  # only the line's end is missing
    MetricsLog(path, up_to).write({"iteration": up_to + 1})
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert kept == [line for line in complete if line["iteration"] <= up_to] + [{"iteration": up_to + 1}]


def test_a_log_that_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(SanError, match="can't write"):
        MetricsLog(tmp_path, 0)
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(SanError, match="can't be written"):
        log.write({"iteration": 1})


def test_an_interval_counts_what_was_updated() -> None:
    interval = Interval()
    assert interval.means() == {}
    for total, updated in ((1.0, True), (float("nan"), False), (3.0, True)):
        interval.add(StepResult({"total": total}, 2 * total, 1e-4, updated, (), False))
    assert interval.means() == {"total": 2.0, "gradient_norm": 4.0}
