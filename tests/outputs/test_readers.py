"""`predictions.json` in other programs: as many objects as the label maps have, each with its mask.

pycocotools is always asked, the others where they are installed: `pip install -e '.[test,readers]'`.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from program import San, tree

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_readers.py"


@pytest.mark.parametrize("vocabulary", ["voc", "coco+ade150"])
@pytest.mark.parametrize("reader", ["pycocotools", "fiftyone", "datumaro", "supervision"])
def test_reader_sees_our_masks(
    predict: San, photos: Path, tmp_path: Path, reader: str, vocabulary: str
) -> None:
    if importlib.util.find_spec(reader) is None:
        pytest.skip(f"{reader} is not installed")
    (photos / "p02.jpg").write_bytes(b"a failure among them")
    assert predict(photos, "-o", tmp_path / "out", "--vocab", vocabulary, "--save", "labels,json").code == 3
    before = tree(tmp_path / "out")
    predictions = tmp_path / "out" / "predictions.json"
    asked = subprocess.run(
        [sys.executable, str(SCRIPT), str(predictions), "--images", str(photos), "--reader", reader],
        capture_output=True, text=True,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert asked.stdout.endswith("agrees\n")
    assert tree(tmp_path / "out") == before
