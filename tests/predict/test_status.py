"""`san status` and `--shard auto`: how far a folder is, and which part of its list is ours."""

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
from program import Ended, San

from san_cli.errors import SanError
from san_cli.predict.inputs import Listing
from san_cli.predict.kept_list import digest_of, keep_list, kept_list, list_digest
from san_cli.predict.search import FailedInput, InputImage
from san_cli.predict.status import status_of
from san_cli.runs.lock import locked


def told(ended: Ended) -> dict[str, Any]:
    """The object that --json prints."""
    found: dict[str, Any] = json.loads(ended.out)
    return found


def numbers(one: dict[str, Any]) -> tuple[int, int, int]:
    """Done, failed, missing."""
    return one["done"], one["failed"], one["missing"]


def test_a_run_by_shards_from_its_first_to_its_merging(
    predict: San, san: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "p00.jpg").write_bytes(b"broken")
    out = tmp_path / "out"
    monkeypatch.setenv("SAN_SHARD", "1/3")
    first = predict(photos, "-o", out, "--save", "labels", "--shard", "auto")
    assert "share 1/3, by $SAN_SHARD 1/3" in first.err

    ended = san("status", out, "--json")
    found = told(ended)
    assert (ended.code, ended.err, numbers(found)) == (3, "", (1, 1, 4))
    assert (found["images"], found["running"], found["merged"]) == (6, False, False)
    assert [(one["shard"], *numbers(one)) for one in found["shards"]] == [
        ("1/3", 1, 1, 0), ("2/3", 0, 0, 2), ("3/3", 0, 0, 2),
    ]  # fmt: skip
    assert found["failures"] == [{"input": "p00.jpg", "error": "not an image that san can read"}]
    ended = san("status", out)
    assert ended.out.splitlines()[-1].split() == ["all", "1", "1", "4", "no"]
    assert "failed: p00.jpg: not an image" in ended.err and "4 images missing" in ended.err

    with (
        locked(out / ".san", out, "san predict", shared=True) as lock,
        (out / ".san/journal-1-of-3").open() as own,
    ):
        assert not told(san("status", out, "--json"))["running"]  # shards are known by their own files
        from san_cli.runs.lock import lock_file

        assert lock and lock_file(own.fileno())
        found = told(san("status", out, "--json"))
        assert [one["running"] for one in [found, *found["shards"]]] == [True, True, False, False]

    monkeypatch.delenv("SAN_SHARD")
    assert predict(photos, "-o", out, "--save", "labels").code == 3
    found = told(san("status", out, "--json"))
    assert (*numbers(found), found["merged"], found["shards"]) == (5, 1, 0, True, [])
    assert san("status", out).code == 3
    (photos / "p00.jpg").unlink()
    predict(photos, "-o", out, "--save", "labels")
    ended = san("status", out)
    assert (ended.code, ended.err) == (0, "all is done\n")


def test_merging_and_another_list_count(predict: San, san: San, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out, "--save", "none")
    keep_list(
        out, Listing((InputImage(photos / "p00.jpg", "p00.jpg"),), ())
    )  # a run on one, which was killed
    found = told(san("status", out, "--json"))
    assert (*numbers(found), found["merged"]) == (1, 0, 0, False)
    assert "the files about all images" in san("status", out).err
    (out / ".san" / "inputs").write_bytes(b"damaged")  # or of a san that kept none
    found = told(san("status", out, "--json"))
    assert (*numbers(found), found["merged"]) == (6, 0, 0, True)
    journal = out / ".san" / "journal"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:2]) + b"torn")
    ended = san("status", out)
    assert ended.code == 3 and "isn't known" in ended.err and ended.out.split()[-3:-1] == ["0", "?"]


def test_inputs_that_came_to_no_image_have_failed(
    predict: San, san: San, photos: Path, tmp_path: Path
) -> None:
    predict(photos / "p00.jpg", photos / "nix.jpg", "-o", tmp_path / "out", "--save", "none")
    found = told(san("status", tmp_path / "out", "--json"))
    assert numbers(found) == (1, 1, 0) and "nix.jpg" in found["failures"][0]["input"]


@pytest.mark.parametrize(
    ("state", "named"),
    [
        (None, "no such folder"),
        ("x", "no `san predict`"),
        (".san-eval", "`san eval`"),
        (".san-train", "`san train`"),
    ],
)
def test_what_is_no_folder_of_predict_is_named(
    state: str | None, named: str, san: San, tmp_path: Path
) -> None:
    if state is not None:
        (tmp_path / "out" / state).mkdir(parents=True)
    ended = san("status", tmp_path / "out")
    assert (ended.code, ended.out) == (4, "")
    assert named in ended.err and len(ended.err.splitlines()) == 2
    (tmp_path / "file").touch()
    assert "it is a file" in san("status", tmp_path / "file").err


def test_a_list_comes_back_whatever_its_names(tmp_path: Path) -> None:
    (tmp_path / ".san").mkdir()
    names = ["a/b c.jpg", "zeile\n2.jpg", "\udcff.jpg", "ä.jpg", "/"]
    failures = (FailedInput("x.heic", "HEIC", "/p/x.heic"), FailedInput("/", "", "/"))
    for listing in (
        Listing(tuple(InputImage(Path(name), name) for name in names[:4]), ()),
        Listing((InputImage(Path("a"), "a"),), failures[:1]),
        Listing((), failures[:1]),
    ):
        keep_list(tmp_path, listing)
        found = kept_list(tmp_path)
        assert found is not None
        assert found.names == [image.name for image in listing.images]
        assert found.failures == [(failure.name, failure.cause) for failure in listing.failures]
        assert digest_of(found.text, {"a": 1}) == list_digest(listing, {"a": 1})
    file = tmp_path / ".san" / "inputs"
    kept = file.read_bytes()
    for damaged in (kept[:-1], b"", zlib.compress(b"a"), zlib.compress(b"a\0/\0b\0")):
        file.write_bytes(damaged)
        assert kept_list(tmp_path) is None


def test_auto_needs_somebody_who_says(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_ARRAY_TASK_ID", "SLURM_STEP_ID", "SLURM_STEPID", "SAN_SHARD"):
        monkeypatch.delenv(name, raising=False)
    ended = predict(photos, "-o", tmp_path / "out", "--shard", "auto")
    assert (ended.code, (tmp_path / "out").exists()) == (2, False)
    assert "SAN_SHARD=3/8" in ended.err
    assert "auto" in predict(photos, "--shard", "atuo").err
    monkeypatch.setenv("SAN_SHARD", "1/2")
    assert "--overwrite" in predict(photos, "--shard", "auto", "--overwrite").err
    ended = predict(photos, "-o", tmp_path / "out", "--save", "none", "--limit", "1")
    assert ended.code == 0 and "SAN_SHARD counts with --shard auto" in ended.err


def test_a_journal_that_is_merged_meanwhile_is_read_again(
    predict: San, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    predict(photos, "-o", out, "--save", "none", "--shard", "1/2")
    shutil.copytree(out, tmp_path / "sharded")
    predict(photos, "-o", out, "--save", "none")
    from san_cli.runs.journal import Journal

    files = Journal.files
    looks = iter([["journal-1-of-2"]])
    monkeypatch.setattr(Journal, "files", lambda self: next(looks, None) or files(self))
    assert status_of(out).whole.done == 6
    monkeypatch.setattr(Journal, "files", lambda self: ["journal-9-of-9"])
    with pytest.raises(SanError, match="can't read the journal"):
        status_of(out)
