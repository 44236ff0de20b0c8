"""Several processes on one list: the same bytes as one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from program import San, make_photos, subprocess_environment, tree
from torch.distributed import HashStore

from san_cli.errors import SanError
from san_cli.predict.folder import _agree
from san_cli.predict.inputs import Listing
from san_cli.predict.search import InputImage
from san_cli.predict.settings import settings_file
from san_cli.runs.lock import locked
from san_cli.runs.processes import Processes
from san_cli.runs.settings import write_settings
from san_cli.runs.shares import Share


@pytest.mark.parametrize("batch", [1, 2])
def test_shards_in_any_order(predict: San, photos: Path, tmp_path: Path, batch: int) -> None:
    make_photos(photos, 20)
    (photos / "p04.jpg").write_bytes(b"broken")
    options = ["--batch", batch]
    predict(photos, "-o", tmp_path / "whole", *options)
    out = tmp_path / "out"
    first = predict(photos, "-o", out, *options, "--shard", "2/2", "--jsonl")
    assert "still missing" in first.err
    assert not (out / "predictions.json").exists()
    second = predict(photos, "-o", out, *options, "--shard", "1/2", "--jsonl")
    assert second.code == 3
    assert len(first.out.splitlines()) + len(second.out.splitlines()) == 20
    assert tree(out) == tree(tmp_path / "whole")
    assert "done before" in predict(photos, "-o", out, *options, "--shard", "1/2").err
    assert tree(out) == tree(tmp_path / "whole")


def test_rerun_without_shards_finishes_them(predict: San, photos: Path, tmp_path: Path) -> None:
    predict(photos, "-o", tmp_path / "whole")
    predict(photos, "-o", tmp_path / "out", "--shard", "1/3")
    predict(photos, "-o", tmp_path / "out", "--shard", "2/5")
    ended = predict(photos, "-o", tmp_path / "out")
    assert ended.code == 0
    assert "3 done, 3 done before" in ended.err
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert "nothing new, 3 done before" in predict(photos, "-o", tmp_path / "out", "--shard", "1/2").err
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_shard_beside_a_whole_run_is_refused(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("san_cli.predict.folder._MERGE_S", 0.1)
    predict(photos, "-o", tmp_path / "out", "--shard", "1/2")
    lock = tmp_path / "out" / ".san", tmp_path / "out", "san predict"
    with locked(*lock):
        assert predict(photos, "-o", tmp_path / "out", "--shard", "2/2").code == 2
    with locked(
        tmp_path / "out" / ".san", tmp_path / "out", "san predict", shared=True
    ):  # another shard may run, a whole run may not
        assert predict(photos, "-o", tmp_path / "out").code == 2
        last = predict(photos, "-o", tmp_path / "out", "--shard", "2/2")
    assert last.code == 3
    assert "Run the same command without --shard" in last.err
    assert predict(photos, "-o", tmp_path / "out").code == 0


def team(
    photos: Path, out: Path, weights: Path, env: dict[str, str], *extra: str
) -> list[subprocess.Popen[str]]:
    """Two processes that meet as torchrun's would, without its launcher."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "san_cli", "predict", str(photos), "-o", str(out), "--vocab", "voc"]
    command += ["--weights", str(weights), "--device", "cpu", *extra]
    meeting = {**env, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return [
        subprocess.Popen(command, text=True, env={**meeting, "RANK": rank}, **pipes) for rank in ("0", "1")
    ]


def test_team_gives_the_bytes_of_one(
    predict: San, photos: Path, tmp_path: Path, tiny_weights: Path, san_home: Path
) -> None:
    (photos / "p04.jpg").write_bytes(b"broken")
    predict(photos, "-o", tmp_path / "whole")
    # A process of an earlier team was lost: its share is done now.
    predict(photos, "-o", tmp_path / "out", "--shard", "1/2")
    env = subprocess_environment(san_home)
    processes = team(photos, tmp_path / "out", tiny_weights, env, "--jsonl")
    ended = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [3, 0]
    assert [len(out.splitlines()) for out, _ in ended] == [6, 0]
    assert all(Path(json.loads(line)["input"]).is_file() for line in ended[0][0].splitlines())
    assert "all shares: 6 images, 1 failed" in ended[0][1]
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_processes_that_see_different_inputs_are_told(tmp_path: Path) -> None:
    store = HashStore()
    images = tuple(InputImage(tmp_path / name, name) for name in ("a.jpg", "b.jpg"))
    (tmp_path / ".san").mkdir()
    write_settings(settings_file(tmp_path), {"vocab": ["x"]})
    leader, other = Processes(Share(0, 2), store), Processes(Share(1, 2), store)
    _agree(leader, tmp_path, {"vocab": ["x"]}, Listing(images, ()))
    _agree(other, tmp_path, {"vocab": ["x"]}, Listing(images, ()))
    with pytest.raises(SanError, match="process 1 sees other inputs than process 0"):
        _agree(other, tmp_path, {"vocab": ["x"]}, Listing(images[:1], ()))
    with pytest.raises(SanError, match="other settings: vocab"):
        _agree(other, tmp_path, {"vocab": ["y"]}, Listing(images, ()))
    with pytest.raises(SanError, match="does not see the folder"):
        _agree(other, tmp_path / "elsewhere", {"vocab": ["x"]}, Listing(images, ()))


def test_variables_of_another_program(predict: San, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "x", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setitem(os.environ, name, value)
    ended = predict(photos)
    assert ended.code == 2
    assert "unset" in ended.err.lower()
