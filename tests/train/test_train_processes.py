"""Several processes train one model: to what one process comes to, also where one of them is lost on the way."""

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from program import San
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from train_data import (
    arguments,
    assert_close_training,
    assert_same_training,
    checkpoint_names,
    copy_up_to,
    in_processes,
    make_labelled,
    rows,
    train,
    write_sharp_model,
)

from san_cli.cli.main import main
from san_cli.train.checkpoints import read_state
from san_cli.train.step import Trainer

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are forked"),
    # Python 3.12 and later, where torch's own threads are running already:
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_labelled(tmp_path_factory.mktemp("processes"))
    write_sharp_model(made / "sharp.safetensors")
    return made


def options(folder: Path, out: Path) -> tuple[object, ...]:
    """Six steps of eight images."""
    return ("--init-from", folder / "sharp.safetensors", "--batch", 8, "--iterations", 6, "-o", out)


def test_two_processes_equal_one(san: San, folder: Path, tmp_path: Path, san_home: Path) -> None:
    train(san, folder, *options(folder, tmp_path / "one"), "--eval-every", 3)
    ended = in_processes(
        folder, *options(folder, tmp_path / "two"), "--eval-every", 3, "--save-every", 3,
        world=2, san_home=san_home,
    )  # fmt: skip
    assert [end.code for end in ended] == [0, 0]
    assert ended[1].err == ""  # one of them does the talking
    assert_close_training(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "one" / "best.json").read_text() == (tmp_path / "two" / "best.json").read_text()

    copy_up_to(tmp_path / "two", tmp_path / "fewer", 3)  # one process goes on where two have stopped
    assert train(san, folder, *options(folder, tmp_path / "fewer"), "--resume", "--eval-every", 3).code == 0
    assert_close_training(tmp_path / "one", tmp_path / "fewer")


def test_a_worker_that_is_killed_is_replaced(san: San, folder: Path, tmp_path: Path, san_home: Path) -> None:
    """By torchrun's own agent, with processes that are forks of this one: importing torch in each took 40 s."""
    words = arguments(folder, *options(folder, tmp_path / "two"), "--accumulate", 2, "--save-every", 3)
    agent = multiprocessing.get_context("fork").Process(target=_be_torchrun, args=(words, tmp_path, san_home))
    agent.start()
    agent.join(120)
    assert agent.exitcode == 0, (tmp_path / "agent.txt").read_text()
    lives = sorted(path.name for path in tmp_path.glob("*.log"))
    assert lives == ["0-0.log", "0-1.log", "1-0.log", "1-1.log"]
    assert "going on after iteration 3" in (tmp_path / "1-0.log").read_text()
    train(san, folder, *options(folder, tmp_path / "one"))
    assert_close_training(tmp_path / "one", tmp_path / "two")


def _be_torchrun(words: Sequence[str], logs: Path, san_home: Path) -> None:
    """Run two processes of `san train`, and start both anew once."""
    os.environ["SAN_HOME"] = str(san_home)
    sys.stderr = (logs / "agent.txt").open("w")  # pytest's has no descriptor to hand on
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, max_restarts=1, start_method="fork",
        run_id="test", rdzv_backend="c10d", rdzv_endpoint="localhost:0",
    )  # fmt: skip
    elastic_launch(config, _be_dying_process)(words, logs)


def _be_dying_process(words: Sequence[str], logs: Path) -> None:
    """Be one of them; the second one dies in its first life, like one that the kernel kills for memory."""
    rank, life = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
    step = Trainer.step

    def step_or_die(self: Trainer, number: int, *parts: object, **more: object) -> object:
        if (number, life, rank) == (4, "0", "1"):
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, number, *parts, **more)  # type: ignore[arg-type]

    Trainer.step = step_or_die  # type: ignore[method-assign, assignment]
    torch.set_num_threads(1)
    sys.argv = ["san", *words]
    with (logs / f"{life}-{rank}.log").open("w") as file:
        os.dup2(file.fileno(), 2)
        sys.stderr = file
        try:
            main()
        except SystemExit as ended:
            if ended.code:
                raise


def test_any_of_them_may_be_asked_to_stop(san: San, folder: Path, tmp_path: Path, san_home: Path) -> None:
    def stop_in_third_step(rank: int) -> None:
        step = Trainer.step

        def step_after_signal(self: Trainer, number: int, *parts: object, **more: object) -> object:
            if (rank, number) == (1, 2):
                os.kill(os.getpid(), signal.SIGTERM)
            return step(self, number, *parts, **more)  # type: ignore[arg-type]

        Trainer.step = step_after_signal  # type: ignore[method-assign, assignment]

    out = tmp_path / "two"
    ended = in_processes(
        folder,
        *options(folder, out),
        "--log-every",
        3,
        world=2,
        san_home=san_home,
        prepare=stop_in_third_step,
    )
    assert [end.code for end in ended] == [130, 130]
    assert "stopped after iteration" in ended[0].err and "Traceback" not in ended[0].err + ended[1].err
    name = checkpoint_names(out)[-1]
    assert name in ("step-00000003", "step-00000004")
    assert read_state(out / "checkpoints" / name)[1].step == int(name[-1])
    again = in_processes(
        folder, *options(folder, out), "--resume", "--log-every", 3, world=2, san_home=san_home
    )
    assert [end.code for end in again] == [0, 0]
    whole = tmp_path / "whole"
    in_processes(folder, *options(folder, whole), "--log-every", 3, world=2, san_home=san_home)
    assert_same_training(out, whole)
    assert [row["iteration"] for row in rows(out)] == [3, 6]


def test_the_fault_is_said_once(folder: Path, tmp_path: Path, san_home: Path) -> None:
    """The leading process finds it; the other one, which waits for it, has no traceback to show."""
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    (own / "images/p2.jpg").write_bytes((own / "images/p2.jpg").read_bytes()[:300])
    ended = in_processes(own, *options(own, tmp_path / "out"), world=2, san_home=san_home)
    assert [end.code for end in ended] == [3, 3]
    assert "p2.jpg" in ended[0].err
    assert ended[1].err.startswith("san: lost touch with the other processes")
    assert "Traceback" not in ended[0].err + ended[1].err


def test_a_batch_that_can_not_be_shared_out(folder: Path, tmp_path: Path, san_home: Path) -> None:
    ended = in_processes(
        folder, *options(folder, tmp_path / "out"), "--accumulate", 3, world=2, san_home=san_home
    )
    assert [end.code for end in ended] == [2, 2]
    assert "a batch of 8 can't be split evenly into 2 processes × 3 micro-batches" in ended[0].err
    assert "multiple of 6" in ended[0].err
    assert not (tmp_path / "out").exists()
