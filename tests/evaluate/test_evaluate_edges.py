"""Evaluations that end early, share a folder or a name, or have labels at the edge of what is possible."""

import json
import os
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eval_trees import make_pc459, make_voc
from noise import NOISE, Noise, run, same
from PIL import Image
from program import Ended, San, subprocess_environment
from recipe import image
from torch.distributed import HashStore

from san_cli.datasets.labels import read_label
from san_cli.datasets.task import Task, dataset_task
from san_cli.errors import SanError
from san_cli.evaluate import state
from san_cli.evaluate.counting import Counted, Evaluation
from san_cli.evaluate.detectron2_json import image_entries
from san_cli.evaluate.plan import Plan
from san_cli.evaluate.run import count, refuse_unwritable
from san_cli.evaluate.state import Counts, locked
from san_cli.files import _HOST
from san_cli.runs.journal import encode_line
from san_cli.runs.processes import Processes
from san_cli.runs.shares import Share


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pc459(make_voc(tmp_path_factory.mktemp("datasets")))


@pytest.fixture(scope="module")
def task(root: Path) -> Task:
    return dataset_task("voc", root)


@pytest.mark.parametrize("before", ["journal", "sums"])
def test_ctrl_c_in_the_middle_of_an_image(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """Between its predictions and its counts, or with both on disk: it counts once, and has its predictions."""

    def stop(self: Any, image: Counted) -> None:
        if image.position == 3:
            raise KeyboardInterrupt
        add(self, image)

    def stop_journal(line: object, body: str = "") -> bytes:
        if isinstance(line, list) and line[0] == 3:
            raise KeyboardInterrupt
        return encode(line, body)

    add, encode = Counts.add, state.encode_line
    alone = run(Plan(save_predictions=tmp_path / "alone.json"), task)
    plan = Plan(tmp_path / "out", save_predictions=tmp_path / "p.json")
    with monkeypatch.context() as patch:
        if before == "sums":
            patch.setattr(Counts, "add", stop)
        else:
            patch.setattr(state, "encode_line", stop_journal)
        with pytest.raises(KeyboardInterrupt):
            run(plan, task)
    done: list[str] = []
    assert same(run(replace(plan, resume=True), task, Noise(before_image=done.append)), alone)
    assert done == [f"p{number:02d}" for number in range(4 if before == "sums" else 3, 7)]
    assert (tmp_path / "p.json").read_bytes() == (tmp_path / "alone.json").read_bytes()


def test_a_finished_dataset_is_resumed_with_its_predictions(task: Task, tmp_path: Path) -> None:
    """As when the second of two datasets was killed; the file may even be lost."""
    plan = Plan(tmp_path / "out", save_predictions=tmp_path / "p.json")
    run(plan, task)
    written = plan.save_predictions.read_bytes()
    plan.save_predictions.unlink()
    done: list[str] = []
    run(replace(plan, resume=True), task, Noise(before_image=done.append))
    assert done == []
    assert plan.save_predictions.read_bytes() == written


def test_a_mended_image_joins_the_predictions(task: Task, tmp_path: Path) -> None:
    run(Plan(save_predictions=tmp_path / "alone.json"), task)
    plan = Plan(tmp_path / "out", keep_going=True, save_predictions=tmp_path / "p.json")
    run(plan, task, Noise(faulty=("p02",)))
    run(replace(plan, resume=True), task)
    assert (tmp_path / "p.json").read_bytes() == (tmp_path / "alone.json").read_bytes()


def test_predictions_of_an_image_that_no_longer_counts(task: Task, tmp_path: Path) -> None:
    """They are kept before it counts, and it may be at fault when the run goes on."""
    plan = Plan(tmp_path / "out", keep_going=True, save_predictions=tmp_path / "p.json")
    run(plan, task)
    kept = tmp_path / "out/.san-eval/voc.counts"
    kept.write_bytes(kept.read_bytes().split(b"\n")[0] + b"\n")
    run(replace(plan, resume=True), task, Noise(faulty=("p02",)))
    names = {Path(entry["file_name"]).stem for entry in json.loads(plan.save_predictions.read_bytes())}
    assert names == {pair.stem for pair in task.pairs} - {"p02"}


def test_predictions_of_other_settings_are_not_taken_over(task: Task, tmp_path: Path) -> None:
    plan = Plan(tmp_path / "out", save_predictions=tmp_path / "p.json")
    run(plan, task)
    run(
        replace(plan, save_predictions=None), task
    )  # begun anew: what is kept of the first run is no longer true
    with pytest.raises(SanError, match="did not keep all its predictions"):
        run(replace(plan, resume=True), task)


def test_predictions_on_another_machines_disk(task: Task, tmp_path: Path) -> None:
    store, found = HashStore(), []

    def process(rank: int) -> None:
        path = tmp_path / f"machine{rank}" / "p.json"
        plan = Plan(save_predictions=path, processes=Processes(Share(rank, 2), store))
        try:
            count(Evaluation("voc", task, Noise(), NOISE), plan)
        except SanError as error:
            found.append((rank, error.message))

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [(0, "predictions of other processes are missing")]
    assert not (tmp_path / "machine0/p.json").exists()


def test_a_torn_line_among_the_predictions(task: Task, tmp_path: Path) -> None:
    """What a kill leaves beside the file, of a run that keeps no state, is not taken for predictions."""
    run(Plan(save_predictions=tmp_path / "alone.json"), task)
    torn = encode_line(2, "half")[:-3]
    for name in (".p.json.parts", ".p.json.parts-2-of-3"):
        (tmp_path / name).write_bytes(encode_line(1, '{"of": "another run"}') + torn)
    run(Plan(save_predictions=tmp_path / "p.json"), task)
    assert (tmp_path / "p.json").read_bytes() == (tmp_path / "alone.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.json", "p.json"]


@pytest.mark.parametrize("byte", range(0, 2000, 97))
def test_damaged_predictions_are_noticed(task: Task, tmp_path: Path, byte: int) -> None:
    """A bit of what is kept of them: the run doesn't go on with it, or the file is what it would be."""
    plan = Plan(tmp_path / "out", save_predictions=tmp_path / "p.json")
    run(plan, task)
    written = plan.save_predictions.read_bytes()
    kept = next((tmp_path / "out/.san-eval").glob("voc.predictions"))
    data = bytearray(kept.read_bytes())
    data[byte % len(data)] ^= 4
    kept.write_bytes(data)
    plan.save_predictions.unlink()
    with suppress(SanError):
        run(replace(plan, resume=True), task)
    found = plan.save_predictions.read_bytes() if plan.save_predictions.exists() else None
    assert found in (None, written)


def test_what_a_killed_run_left_is_swept(task: Task, tmp_path: Path) -> None:
    left = f".san-tmp-{_HOST}-999999999-00000000-00000000"
    out = tmp_path / "out"
    (out / "voc").mkdir(parents=True)
    places = [out / left, out / "voc" / left, out / ".san-eval" / left, tmp_path / left]
    (out / ".san-eval").mkdir()
    others = [out / "mine.txt", tmp_path / "elsewhere"]
    for path in [*places, *others]:
        path.write_text("half")
    run(Plan(out, save_predictions=tmp_path / "p.json"), task)
    assert not [path for path in places if path.exists()]
    assert all(path.exists() for path in others)


def test_state_that_is_no_state(task: Task, tmp_path: Path) -> None:
    """Deep nesting and pipes in the folder of a run to go on from: refused, and gone when it is begun anew."""
    plan = Plan(tmp_path, resume=True, save_predictions=tmp_path / "p.json")
    run(plan, task)
    state = tmp_path / ".san-eval"
    for name in ("voc.counts-7-of-9", "voc.predictions-7-of-9"):
        os.mkfifo(state / name)
        with pytest.raises(SanError, match="not a file"):
            run(plan, task)
        run(replace(plan, resume=False), task)
    (state / "voc.json").write_text("[" * 100_000)
    with pytest.raises(SanError, match="can't read"):
        run(plan, task)
    (state / "voc.json").unlink()
    os.mkfifo(state / "voc.json")
    with pytest.raises(SanError, match="can't read"):
        run(plan, task)


def test_asking_whether_a_file_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    refuse_unwritable(tmp_path / "sub/p.json")
    assert list((tmp_path / "sub").iterdir()) == []
    with pytest.raises(SanError, match="is a folder"):
        refuse_unwritable(tmp_path / "sub")


def test_a_mistake_shows_before_torch_is_loaded(san_home: Path) -> None:
    """Which takes seconds: a dataset that isn't there is told of at once."""
    code = (
        "import sys\n"
        "from san_cli.cli.main import main\n"
        "sys.argv = ['san', 'eval', 'ade150', '--data-root', sys.argv[1]]\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(san_home)]
    done = subprocess.run(
        command, env=subprocess_environment(san_home), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (4, "False\n"), done.stderr


@pytest.fixture
def evaluate(san: San, tiny_weights: Path, root: Path) -> San:
    def run(*arguments: object) -> Ended:
        weights = (
            [] if "--weights" in arguments or "--predictions" in arguments else ["--weights", tiny_weights]
        )
        data = [] if "--images" in arguments or "--data-root" in arguments else ["--data-root", root]
        return san("eval", *arguments, *weights, *data, "--device", "cpu")

    return run


def own(folder: Path, maps: dict[str, np.ndarray], classes: int) -> list[object]:
    """Own data of these label maps, as options."""
    for name, labels in maps.items():
        for kind in ("images", "labels"):
            (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image(len(name), *labels.shape)).save(folder / "images" / f"{name}.jpg")
        suffix = ".png" if labels.dtype == np.uint8 else ".tif"
        Image.fromarray(labels).save(folder / "labels" / f"{name}{suffix}")
    (folder / "names.txt").write_text("\n".join(f"n{i}" for i in range(classes)))
    return ["--images", folder / "images", "--labels", folder / "labels", "--classes", folder / "names.txt"]


def predicted(folder: Path, maps: dict[str, np.ndarray]) -> Path:
    path = folder / "predictions.json"
    texts = [image_entries(f"{name}.jpg", one.astype(np.int16), None) for name, one in maps.items()]
    path.write_text(f"[{', '.join(texts)}]")
    return path


def test_class_255_of_300_counts(evaluate: San, tmp_path: Path) -> None:
    labels = np.full((64, 64), 255, np.uint16)
    labels[:8] = 299
    options = [*own(tmp_path, {"one": labels}, 300), "--predictions", predicted(tmp_path, {"one": labels})]
    row = json.loads(evaluate(*options, "--json").out)["results"][0]
    assert (row["classes_present"], row["mIoU"]) == (2, 100)
    assert row["per_class"][255]["IoU"] == 100
    told = evaluate(*options, "--ignore", 255)
    assert "own: the pixels of n255 do not count, as 255 is ignored" in told.out
    assert "1/300" in told.out


def test_labels_that_are_ignored_altogether(evaluate: San, root: Path, tmp_path: Path) -> None:
    """Nothing counts: no table of dashes, whether it shows at once or only in the end."""
    options = own(tmp_path, {"one": np.full((64, 64), 255, np.uint8)}, 2)
    ended = evaluate(*options, "-o", tmp_path / "out")
    assert (ended.code, ended.out) == (4, "")
    assert "no pixel that counts" in ended.err
    tree = make_voc(tmp_path / "data", 1)
    label = tree / "VOC2012/annotations_detectron2/val/p00.png"
    Image.fromarray(np.full((72, 96), 255, np.uint8)).save(label)
    ended = evaluate("voc", "--data-root", tree)
    assert (ended.code, ended.out) == (4, "")
    assert "no pixel of voc counts" in ended.err


def test_two_images_of_one_name_cannot_be_matched(evaluate: San, tmp_path: Path) -> None:
    labels = np.zeros((64, 64), np.uint8)
    options = own(tmp_path, {"a/x": labels, "b/x": labels}, 2)
    ended = evaluate(*options, "--predictions", predicted(tmp_path, {"x": labels}))
    assert ended.code == 2
    assert "several images called x" in ended.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["voc", "--ignore", "0"], "--ignore is for labels of your own"),
        (["OWN", "--split", "val"], "--split is for datasets"),
        (["voc", "--predictions", "p.json", "--weights", "w"], "--weights is for models"),
        (
            ["voc", "--predictions", "p.json", "--synonyms", "x", "--vocab", "y"],
            "--vocab and --synonyms are for",
        ),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    evaluate: San, tmp_path: Path, arguments: list[str], told: str
) -> None:
    options: list[object] = (
        own(tmp_path, {"x": np.zeros((64, 64), np.uint8)}, 2) if "OWN" in arguments else []
    )
    ended = evaluate(*options, *(one for one in arguments if one != "OWN"))
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err


def test_several_weights_after_one_option(evaluate: San, tiny_weights: Path) -> None:
    ended = evaluate("voc", "--json", "--limit", 2, "--weights", tiny_weights, tiny_weights, tiny_weights)
    document = json.loads(ended.out)
    assert [row["dataset"] for row in document["results"]] == ["voc"] * 3
    assert document["trials"][0]["trials"] == 3


def spoiled(folder: Path, count: int) -> Path:
    """A tree whose PASCAL-Context-459 has labels that can't be read, the last `count` of 3."""
    make_pc459(make_voc(folder))
    for path in sorted((folder / "pcontext_full/val/label").iterdir())[-count:]:
        path.write_bytes(b"II*\0 no")
    return folder


def test_what_was_found_is_reported_though_a_later_dataset_fails(evaluate: San, tmp_path: Path) -> None:
    tree, out = spoiled(tmp_path / "data", 1), tmp_path / "out"
    ended = evaluate("voc", "pc459", "--data-root", tree, "--worst", 0, "-o", out)
    assert ended.code == 3
    assert "p02.tif" in ended.err
    assert "the dataset pc459 was skipped: " in ended.out
    assert [row["dataset"] for row in json.loads((out / "results.json").read_text())["results"]] == ["voc"]
    assert "**the dataset pc459 was skipped: " in (out / "results.md").read_text()


def test_a_dataset_that_is_faulty_altogether_is_skipped_with_keep_going(
    evaluate: San, tmp_path: Path
) -> None:
    tree = spoiled(tmp_path, 3)
    ended = evaluate("pc459", "voc", "--data-root", tree, "--keep-going", "--json")
    assert ended.code == 3
    document = json.loads(ended.out)
    assert [row["dataset"] for row in document["results"]] == ["voc"]
    assert document["skipped_datasets"][0]["dataset"] == "pc459"
    alone = evaluate("pc459", "--data-root", tree, "--keep-going")
    assert (alone.code, alone.out) == (4, "")
    assert "no image of pc459 could be evaluated" in alone.err


def test_only_the_leader_ends_with_a_code(evaluate: San, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun ends all processes when one of them fails, and the leader may still be writing the report."""
    store = HashStore()
    Processes(Share(0, 2), store).tell("voc/embedded")
    monkeypatch.setattr("san_cli.evaluate.run.count", lambda *_: None)
    monkeypatch.setattr("san_cli.evaluate.run.meet", lambda: Processes(Share(1, 2), store))
    ended = evaluate("ade150", "voc", "--keep-going")
    assert (ended.code, ended.out) == (0, "")


def test_one_evaluation_at_a_time_in_a_folder(evaluate: San, tmp_path: Path) -> None:
    with locked(tmp_path):
        ended = evaluate("voc", "-o", tmp_path)
    assert ended.code == 2
    assert "another san eval is writing to" in ended.err
    assert evaluate("voc", "--limit", 1, "--worst", 0, "-o", tmp_path).code == 0


def test_a_decoders_warnings_stay_in_its_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "label.png"
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15)  # Pillow warns of 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=read_label, args=(path, 2, 255)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert read_label(path, 2, 255).shape == (4, 5)
        with pytest.raises(UserWarning):
            warnings.warn("somebody else's", UserWarning, stacklevel=1)


def test_what_is_replaced_or_not_there_to_go_on_from_is_said(evaluate: San, tmp_path: Path) -> None:
    out = tmp_path / "report"
    began = evaluate("voc", "--limit", 1, "-o", out, "--resume")
    assert (began.code, "nothing to resume" in began.err) == (0, True)
    replaced = evaluate("voc", "--limit", 2, "-o", out)
    assert (replaced.code, "will be replaced" in replaced.err) == (0, True)
    again = evaluate("voc", "--limit", 2, "-o", out, "--resume")
    assert (again.code, "nothing to resume" in again.err, "will be replaced" in again.err) == (
        0,
        False,
        False,
    )


def test_pictures_need_a_folder(evaluate: San) -> None:
    ended = evaluate("voc", "--limit", 1, "--worst", 3)
    assert (ended.code, "--worst is for the report of -o DIR" in ended.err) == (2, True)
