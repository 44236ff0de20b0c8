"""`--json` of the lists: one document on stdout, its keys as docs/outputs.md names them, the table's facts."""

import json
from pathlib import Path
from typing import Any

import pytest
from program import San

from san_cli.vocabulary.class_lists import DATASET_NAMES


def document(san: San, *words: object) -> Any:
    ended = san(*words, "--json")
    assert (ended.code, ended.err) == (0, "")
    return json.loads(ended.out)


def test_vocabularies(san: San) -> None:
    rows = document(san, "vocab", "list")
    assert [row["name"] for row in rows] == list(DATASET_NAMES)
    assert all(set(row) == {"name", "classes", "title"} for row in rows)
    table = san("vocab", "list").out.splitlines()
    assert [" ".join(line.split()) for line in table] == [
        f"{row['name']} {row['classes']} {row['title']}" for row in rows
    ]


def test_weights(san: San, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    rows = {row["model"]: row for row in document(san, "weights", "list")}
    assert all(set(row) == {"model", "file", "bytes", "sha256", "check", "path"} for row in rows.values())
    tiny, large = rows["tiny"], rows["vit-l-14"]
    assert tiny["check"] == "sealed" and Path(tiny["path"]).stat().st_size == tiny["bytes"]
    assert large["path"] is None and large["check"] == "not here" and large["bytes"] == 1_821_680_110

    folder = tmp_path / "weights"  # which has been damaged on its way
    folder.mkdir()
    (folder / "tiny.safetensors").write_bytes(Path(tiny["path"]).read_bytes()[:-1] + b"x")
    rows = {row["model"]: row for row in document(san, "weights", "list")}
    assert rows["tiny"]["check"] == "damaged" and rows["tiny"]["path"] == "weights/tiny.safetensors"


def test_datasets(san: San, tmp_path: Path) -> None:
    rows = {row["name"]: row for row in document(san, "data", "list", "--data-root", tmp_path)}
    assert set(rows) == {*DATASET_NAMES}
    assert all(set(row) == {"name", "title", "classes", "root", "splits", "sources"} for row in rows.values())
    assert rows["coco"]["splits"]["val"] == {"state": "not here", "pairs": None, "known_pairs": 5000}
    assert rows["emoji"]["splits"]["val"] == {"state": "whole", "pairs": 500, "known_pairs": 500}
    assert rows["emoji"]["root"] is None and rows["voc"]["root"] == str(tmp_path)
    assert any("VOCtrainval" in line for line in rows["voc"]["sources"])
