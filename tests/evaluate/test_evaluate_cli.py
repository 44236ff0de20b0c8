"""`san eval` from the command line to its report, with the small model on small trees."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from eval_trees import make_coco, make_pc459, make_voc
from PIL import Image
from program import Ended, San

from san_cli.engine.metrics import confusion_of, empty_confusion, metrics_of
from san_cli.engine.segmenter import Segmenter
from san_cli.evaluate.detectron2_json import image_entries
from san_cli.evaluate.sources import own_weights
from san_cli.vocabulary.class_lists import load_dataset_vocabulary


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("datasets")
    return make_coco(make_pc459(make_voc(folder)))


@pytest.fixture
def evaluate(san: San, tiny_weights: Path, root: Path) -> San:
    """Run `san eval` with the small model."""

    def run(*arguments: object) -> Ended:
        defaults: list[object] = []
        if "--weights" not in arguments and "--predictions" not in arguments:
            defaults += ["--weights", tiny_weights]
        if "--images" not in arguments and "--data-root" not in arguments:
            defaults += ["--data-root", root]
        return san("eval", *arguments, *defaults, "--device", "cpu")

    return run


def results(ended: Ended) -> list[dict]:
    assert ended.code == 0, ended.err
    return json.loads(ended.out)["results"]


def labels_of(root: Path, dataset: str) -> list[tuple[Path, np.ndarray]]:
    images, labels = {
        "voc": ("VOC2012/JPEGImages", "VOC2012/annotations_detectron2/val"),
        "coco": ("coco/val2017", "coco/stuffthingmaps_detectron2/val2017"),
        "pc459": ("pcontext_full/val/image", "pcontext_full/val/label"),
    }[dataset]
    return [
        (root / images / f"{path.stem}.jpg", np.asarray(Image.open(path)))
        for path in sorted((root / labels).iterdir())
    ]


def test_json_is_what_the_python_api_gives(evaluate: San, root: Path, tiny_weights: Path) -> None:
    row = results(evaluate("voc", "--json"))[0]
    assert list(row) == [
        "dataset", "model", "weights_sha256", "images", "classes", "classes_present",
        "mIoU", "mIoU_v06", "fwIoU", "mACC", "pACC", "per_class", "seconds",
    ]  # fmt: skip
    names = [one.name for one in load_dataset_vocabulary("voc").classes]
    segmenter = Segmenter.load(weights=tiny_weights, device="cpu", precision="fp32")
    confusion = empty_confusion(20)
    for image, truth in labels_of(root, "voc"):
        confusion += confusion_of(segmenter.segment(image, names).label_map, truth, 20, 255)
    expected = metrics_of(confusion)
    assert (row["dataset"], row["model"], row["images"], row["classes"]) == ("voc", "small", 7, 20)
    assert row["weights_sha256"] == segmenter.weights_sha256
    for name in ("mIoU", "mIoU_v06", "fwIoU", "mACC", "pACC", "classes_present"):
        assert row[name] == getattr(expected, name)
    assert [one["name"] for one in row["per_class"]] == names
    assert [one["IoU"] for one in row["per_class"]] == expected.class_iou.tolist()
    assert list(row["seconds"]) == ["data", "model", "label_map", "metric", "total"]


def test_several_datasets_one_load_and_undefined_classes(evaluate: San) -> None:
    rows = results(evaluate("pc459", "voc", "voc", "--json"))
    assert [row["dataset"] for row in rows] == ["pc459", "voc"]
    assert rows[0]["classes_present"] < 459
    absent = [one for one in rows[0]["per_class"] if one["IoU"] is None]
    assert len(absent) == 459 - rows[0]["classes_present"]
    assert all(one["ACC"] is None for one in absent)


def test_both_rules_are_shown_where_they_differ(evaluate: San, root: Path, tmp_path: Path) -> None:
    pairs = labels_of(root, "pc459")
    seen = np.unique(np.concatenate([truth.ravel() for _, truth in pairs]))
    absent = next(i for i in range(459) if i not in seen)
    texts = []
    for image, truth in pairs:
        label_map = np.where(truth == 65535, absent, truth).astype(np.int16)
        label_map[-8:, -8:] = absent
        texts.append(image_entries(image.name, label_map, None))
    path = tmp_path / "p.json"
    path.write_text(f"[{', '.join(texts)}]")
    row = results(evaluate("pc459", "--predictions", path, "--json"))[0]
    present = row["classes_present"]
    assert row["mIoU_v06"] == pytest.approx(row["mIoU"] * present / (present + 1))
    shown = evaluate("pc459", "--predictions", path).out
    assert f"{row['mIoU_v06']:.2f}" in shown
    assert "mIoU v0.6 divides" in shown
    assert "mIoU %" in shown


def test_limit_takes_the_first(evaluate: San) -> None:
    ended = evaluate("voc", "--limit", 2)
    assert ended.code == 0
    assert "only the first 2 images: not comparable" in ended.out
    assert "official log" not in ended.out


@pytest.mark.parametrize("dataset", ["voc", "coco", "pc459"])
@pytest.mark.parametrize("by_train_id", [False, True])
def test_labels_given_as_predictions_score_100(
    evaluate: San, root: Path, tmp_path: Path, dataset: str, by_train_id: bool
) -> None:
    ids = [one.coco_category_id for one in load_dataset_vocabulary(dataset).classes]
    texts = []
    for image, truth in labels_of(root, dataset):
        label_map = np.where(truth >= len(ids), truth[40, 40], truth).astype(np.int16)
        texts.append(
            image_entries(f"/elsewhere/{image.name}", label_map, None if by_train_id or None in ids else ids)
        )
    path = tmp_path / "predictions.json"
    path.write_text(f"[{', '.join(texts)}]")
    row = results(evaluate(dataset, "--predictions", path, "--json"))[0]
    assert [row[name] for name in ("mIoU", "mIoU_v06", "mACC", "pACC")] == [100] * 4
    assert row["fwIoU"] == pytest.approx(100)
    assert row["model"] is None
    assert row["weights_sha256"] is None
    note = evaluate(dataset, "--predictions", path).err
    assert ("the dataset's own id" in note) == (dataset == "coco" and not by_train_id)


@pytest.mark.parametrize("dataset", ["voc", "coco"])
def test_saved_predictions_score_the_same(evaluate: San, root: Path, tmp_path: Path, dataset: str) -> None:
    path = tmp_path / "of-{dataset}.json"
    first = results(evaluate(dataset, "--save-predictions", path, "--json"))[0]
    path = tmp_path / f"of-{dataset}.json"
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]
    entries = json.loads(path.read_text())
    order = [entry["file_name"] for entry in entries]
    assert list(dict.fromkeys(order)) == [str(image) for image, _ in labels_of(root, dataset)]
    second = results(evaluate(dataset, "--predictions", path, "--json"))[0]
    for name in ("images", "mIoU", "mIoU_v06", "fwIoU", "mACC", "pACC", "per_class"):
        assert first[name] == second[name]


def test_report(evaluate: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    ended = evaluate("voc", "pc459", "-o", out, "--worst", 2, "--paper")
    assert ended.code == 0, ended.err
    assert "12.6 ± 0.44" in ended.out
    assert "quoted" in ended.out
    found = json.loads((out / "results.json").read_text())
    assert found["settings"]["versions"]["torch"]
    assert [row["dataset"] for row in found["results"]] == ["voc", "pc459"]
    markdown = (out / "results.md").read_text()
    assert "mIoU v0.6 divides it by" in markdown
    assert "| mIoU % |" in markdown and "| IoU % |" in markdown
    assert "MaskCLIP" in markdown
    assert found["settings"]["paper"].startswith("quoted from Table 2 of the paper")
    assert "official log" not in found["settings"]  # nothing is compared with it here
    with (out / "per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20 + 459
    assert {row["dataset"] for row in rows} == {"voc", "pc459"}
    names = {p.name.split("-p")[0] for p in (out / "voc").iterdir()}
    assert names == {"iou.png", "confused.png", "worst-01", "worst-02"}
    for picture in (out / "voc").iterdir():
        with Image.open(picture) as image:
            image.load()
    # Fewer worst images, and no matplotlib: nothing of the old pictures of images stays.
    monkeypatch.setattr("san_cli.evaluate.pictures.charts_are_possible", lambda: False)
    ended = evaluate("voc", "-o", out, "--worst", 1)
    assert "pip install matplotlib" in ended.err
    assert len(list((out / "voc").glob("worst-*"))) == 1


def test_only_published_weights_are_called_official() -> None:
    assert own_weights("vit-b-16") == own_weights("vit-l-14") == "official"
    assert "official" not in own_weights("tiny")


def test_other_words(evaluate: San, tmp_path: Path) -> None:
    names = [one.name for one in load_dataset_vocabulary("voc").classes]
    same = tmp_path / "same.txt"
    same.write_text("\n".join(names))
    plain = results(evaluate("voc", "--json"))[0]
    assert results(evaluate("voc", "--vocab", f"@{same}", "--json"))[0]["mIoU"] == plain["mIoU"]
    synonyms = tmp_path / "synonyms.txt"
    lines = [f"{i + 1}:{name},{name} of some kind" for i, name in enumerate(names)]
    synonyms.write_text("0:invalid_class_id\n" + "\n".join(reversed(lines)))
    as_json = tmp_path / "synonyms.json"
    rows = [{"id": i, "synonyms": [name, f"{name} of some kind"]} for i, name in enumerate(names)]
    as_json.write_text(json.dumps({"classes": rows}))
    first = results(evaluate("voc", "--synonyms", synonyms, "--json"))[0]
    assert first["per_class"] == results(evaluate("voc", "--synonyms", as_json, "--json"))[0]["per_class"]
    assert [one["name"] for one in first["per_class"]] == names
    assert first["mIoU"] != plain["mIoU"]


def test_own_data(evaluate: San, root: Path, tmp_path: Path) -> None:
    images, labels = tmp_path / "images/sub", tmp_path / "labels/sub"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for image, truth in labels_of(root, "voc"):
        (images / image.name).write_bytes(image.read_bytes())
        Image.fromarray(truth).save(labels / f"{image.stem}.png")
    classes = tmp_path / "names.txt"
    classes.write_text("# mine\n" + "\n".join(one.name for one in load_dataset_vocabulary("voc").classes))
    options = ["--images", images.parent, "--labels", labels.parent, "--classes", classes]
    row = results(evaluate(*options, "--json"))[0]
    assert row["dataset"] == "own"
    assert row["mIoU"] == results(evaluate("voc", "--json"))[0]["mIoU"]
    told = evaluate(*options, "--ignore", 254)  # 255 is no class
    assert (told.code, "--ignore 254 --ignore 255" in told.err) == (4, True)


def test_several_weights(evaluate: San, tiny_weights: Path) -> None:
    ended = evaluate("voc", "--weights", tiny_weights, "--weights", tiny_weights, "--json")
    document = json.loads(ended.out)
    assert len(document["results"]) == 2
    trials = document["trials"][0]
    assert trials["mIoU"] == {"mean": document["results"][0]["mIoU"], "std": 0}
    assert "± 0.00" in evaluate("voc", "--weights", tiny_weights, "--weights", tiny_weights).out


def test_ensemble_with_itself_changes_nothing_and_with_little_hardly_anything(
    evaluate: San, tiny_weights: Path
) -> None:
    alone = results(evaluate("voc", "--json"))[0]
    doubled = results(evaluate("voc", "--ensemble", f"{tiny_weights}:1.0", "--json"))[0]
    assert doubled["pACC"] == pytest.approx(alone["pACC"], abs=0.05)
    assert "no positive share" in evaluate("voc", "--ensemble", f"{tiny_weights}:-1").err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing to evaluate"),
        (["vok"], "Did you mean voc?"),
        (["voc", "--split", "test"], "no split"),
        (["voc", "--images", "x"], "belong together"),
        (["voc", "--resume"], "-o DIR"),
        (["voc", "--vocab", "cat,dog"], "make 2 classes (cat … dog), the labels of voc have 20"),
        (["voc", "--vocab", "voc", "--synonyms", "x"], "Give one of them"),
        (["voc", "--synonyms", "/nowhere.txt"], "no file"),
        (["voc", "pc459", "--save-predictions", "x.json"], "{dataset}"),
        (["ade150"], "san data prepare ade150"),
        (["voc", "--data-root", "/nowhere"], "/nowhere"),
        (["--images", ".", "--labels", ".", "--classes", "/nowhere"], "one class a line"),
    ],
)
def test_refused_before_anything_is_loaded(
    evaluate: San, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Segmenter, "load", None)
    ended = evaluate(*arguments)
    assert ended.code in (2, 4)
    assert told in ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err


def test_missing_datasets_are_skipped_with_keep_going(evaluate: San, tmp_path: Path) -> None:
    ended = evaluate("ade150", "voc", "--keep-going", "-o", tmp_path)
    assert ended.code == 3
    assert "the dataset ade150 was skipped" in ended.out
    assert "**the dataset ade150 was skipped" in (tmp_path / "results.md").read_text()
    assert evaluate("ade150", "--keep-going").code == 4


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    return make_voc(tmp_path / "faulty", 4)


def spoil(tree: Path, kind: str) -> str:
    label = tree / "VOC2012/annotations_detectron2/val/p02.png"
    image = tree / "VOC2012/JPEGImages/p02.jpg"
    if kind == "value":
        Image.fromarray(np.full((80, 80), 77, np.uint8)).save(label)
        return "77"
    if kind == "size":
        Image.fromarray(np.zeros((80, 81), np.uint8)).save(label)
        return "80×80 pixels (upright), its label"
    if kind == "label":
        label.write_bytes(label.read_bytes()[:60])
        return "p02.png"
    image.write_bytes(image.read_bytes()[:100])
    return "p02.jpg"


@pytest.mark.parametrize("kind", ["value", "size", "label", "image"])
def test_a_bad_pair_ends_the_run_or_is_counted(
    evaluate: San, faulty: Path, tmp_path: Path, kind: str
) -> None:
    told = spoil(faulty, kind)
    ended = evaluate("voc", "--data-root", faulty)
    assert ended.code == 3
    assert told in ended.err
    assert "p02" in ended.err
    assert ended.out == ""
    out = tmp_path / "out"
    ended = evaluate("voc", "--data-root", faulty, "--keep-going", "-o", out, "--worst", 0)
    assert ended.code == 3
    assert "1 of 4 images of voc were skipped and do not count" in ended.out
    assert "**1 of 4 images of voc were skipped" in (out / "results.md").read_text()
    row = json.loads((out / "results.json").read_text())["results"][0]
    assert row["images"] == 3
    assert told in row["skipped"][0]["why"]


def test_missing_predictions_and_gaps(evaluate: San, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    texts = [
        image_entries(str(image), np.zeros(t.shape, np.int16), None) for image, t in labels_of(root, "voc")
    ]
    path.write_text(f"[{', '.join(texts[1:])}]")
    ended = evaluate("voc", "--predictions", path)
    assert ended.code == 3
    assert "has no prediction for p00.jpg" in ended.err
    gap = np.full((72, 96), -1, np.int16)
    gap[0, 0] = 3
    path.write_text(f"[{', '.join([image_entries('p00.jpg', gap, None), *texts[1:]])}]")
    ended = evaluate("voc", "--predictions", path)
    assert ended.code == 0
    assert "pixels have no prediction and count as wrong" in ended.out
