"""A preparation that is interrupted, repeated, or meets files that are there already."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import raw_datasets as raw_trees
from raw_datasets import content

from san_cli.datasets.catalogue import get_dataset, list_pairs
from san_cli.errors import SanError
from san_cli.prepare.run import prepare

NAMES = ["coco", "ade847", "voc", "pc459"]


def _stop_at(count: int):
    def step(done: int, total: int) -> None:
        if done >= count:
            raise KeyboardInterrupt

    return step


@pytest.mark.parametrize("name", NAMES)
def test_interrupted_and_repeated_equals_uninterrupted(name: str, tmp_path: Path) -> None:
    raw_trees.MAKERS[name](tmp_path / "raw")
    dataset, raw = get_dataset(name), [tmp_path / "raw"]
    prepare(dataset, raw, tmp_path / "whole", ["val"])
    with pytest.raises(KeyboardInterrupt):
        prepare(dataset, raw, tmp_path / "root", ["val"], workers=1, step=_stop_at(1))
    with pytest.raises(SanError, match=f"preparation of {name} val .* was interrupted") as caught:
        list_pairs(dataset, "val", tmp_path / "root")
    assert f"san data prepare {name}" in caught.value.hint
    (done,) = prepare(dataset, raw, tmp_path / "root", ["val"])
    assert done.kept >= 1
    assert content(tmp_path / "root") == content(tmp_path / "whole")


@pytest.mark.parametrize("name", NAMES)
def test_repeated_run_writes_nothing(name: str, tmp_path: Path) -> None:
    raw_trees.MAKERS[name](tmp_path / "raw")
    first = prepare(get_dataset(name), [tmp_path / "raw"], tmp_path / "root", ["val"])
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.*") if p.is_file() and ".san" not in p.parts}
    again = prepare(get_dataset(name), [tmp_path / "raw"], tmp_path / "root", ["val"])
    assert [result.written for result in again] == [0]
    assert [result.pairs for result in again] == [result.pairs for result in first]
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_damaged_files_are_made_again(tmp_path: Path) -> None:
    for name in NAMES:
        raw_trees.MAKERS[name](tmp_path / "raw" / name)
        prepare(get_dataset(name), [tmp_path / "raw" / name], tmp_path / name, ["val"])
        before = content(tmp_path / name)
        for path in (p for p in (tmp_path / name).rglob("*.*") if p.is_file() and ".san" not in p.parts):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        prepare(get_dataset(name), [tmp_path / "raw" / name], tmp_path / name, ["val"])
        assert content(tmp_path / name) == before


def test_other_sources_replace_what_differs(tmp_path: Path) -> None:
    """Also if the run that found the other files was interrupted before it came to them."""
    for folder, value in (("one", 5), ("two", 6)):
        raw_trees.make_ade150(tmp_path / folder)
        label = tmp_path / folder / "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png"
        raw_trees.write_grey(label, raw_trees.raw_map([value]))
    dataset = get_dataset("ade150")
    prepare(dataset, [tmp_path / "two"], tmp_path / "expected")
    prepare(dataset, [tmp_path / "one"], tmp_path / "root")
    assert content(tmp_path / "root") != content(tmp_path / "expected")
    with pytest.raises(KeyboardInterrupt):
        prepare(dataset, [tmp_path / "two"], tmp_path / "root", workers=1, step=_stop_at(1))
    prepare(dataset, [tmp_path / "two"], tmp_path / "root")
    assert content(tmp_path / "root") == content(tmp_path / "expected")


def test_prepared_tree_needs_no_raw_files(tmp_path: Path) -> None:
    raw_trees.make_ade150(tmp_path / "raw")
    dataset = get_dataset("ade150")
    prepare(dataset, [tmp_path / "raw"], tmp_path / "root")
    for path in (tmp_path / "root/.san").iterdir():
        path.unlink()  # as if another program had made it
    assert len(list_pairs(dataset, "val", tmp_path / "root")) == 1
    (tmp_path / "empty").mkdir()
    done = prepare(dataset, [tmp_path / "empty"], tmp_path / "root")
    assert [(result.pairs, result.written) for result in done] == [(1, 0), (1, 0)]
    with pytest.raises(SanError, match="prepared already") as caught:
        prepare(dataset, [tmp_path / "root"], tmp_path / "other")
    assert "--data-root" in caught.value.hint


def test_killed_process_leaves_whole_files(tmp_path: Path) -> None:
    folder = tmp_path / "raw/ADEChallengeData2016"
    for n in range(1, 400):
        raw_trees.write_photo(folder / f"images/validation/ADE_val_{n:08d}.jpg", (60, 60), n)
        raw_trees.write_grey(
            folder / f"annotations/validation/ADE_val_{n:08d}.png",
            raw_trees.raw_map(list(range(n % 100, 151)), (60, 60)),
        )
    root = tmp_path / "root"
    labels = root / "ADEChallengeData2016/annotations_detectron2/validation"
    command = [sys.executable, "-m", "san_cli", "data", "prepare", "ade150", "--from", tmp_path / "raw"]
    process = subprocess.Popen(
        [*map(str, command), "--to", str(root)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    give_up = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < give_up:
        if labels.is_dir() and len(list(labels.iterdir())) > 20:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    process.wait()
    dataset = get_dataset("ade150")
    if process.returncode:  # a fast machine may have been done
        with pytest.raises(SanError, match="was interrupted"):
            list_pairs(dataset, "val", root)
    prepare(dataset, [tmp_path / "raw"], tmp_path / "whole", ["val"])
    half = {name: data for name, data in content(root).items() if "/.san-tmp" not in name}
    whole = content(tmp_path / "whole")
    assert all(whole[name] == data for name, data in half.items())
    prepare(dataset, [tmp_path / "raw"], root, ["val"])
    assert content(root) == whole  # and no temporary file


def test_full_disk_or_read_only_root_is_an_error_in_words(tmp_path: Path) -> None:
    raw_trees.make_ade150(tmp_path / "raw")
    (tmp_path / "root").write_text("a file where the root should be")
    with pytest.raises(SanError, match="can't write below"):
        prepare(get_dataset("ade150"), [tmp_path / "raw"], tmp_path / "root")
