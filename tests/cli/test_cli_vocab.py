"""`san vocab`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from san_cli.cli.vocab import app
from san_cli.vocabulary.class_lists import DATASET_NAMES, load_dataset_vocabulary
from san_cli.vocabulary.grammar import parse_vocabulary

runner = CliRunner()


def test_list() -> None:
    result = runner.invoke(app, ["list"])
    assert result.exit_code == 0
    rows = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    sizes = [(name, len(load_dataset_vocabulary(name).classes)) for name in DATASET_NAMES]
    assert [(name, int(count)) for name, count, _ in rows] == sizes


@pytest.mark.parametrize("name", DATASET_NAMES)
def test_show_prints_a_names_file(name: str, tmp_path: Path) -> None:
    result = runner.invoke(app, ["show", name])
    assert (result.exit_code, result.stderr) == (0, "")
    (tmp_path / "names.txt").write_bytes(result.stdout_bytes)
    vocabulary = parse_vocabulary([f"@{tmp_path / 'names.txt'}"])
    notes = vocabulary.notes
    assert vocabulary == parse_vocabulary([name])
    assert notes == (f"names.txt: read as one name a line, {len(vocabulary)} classes",)


def test_show_puts_notes_on_stderr() -> None:
    result = runner.invoke(app, ["show", 'Cat|kitten+"a|b"', "cat"])
    assert (result.exit_code, result.stdout) == (0, 'Cat|kitten\n"a|b"\n')
    assert result.stderr == "note: named more than once, counted once: cat\n"


def test_show_as_json() -> None:
    result = runner.invoke(app, ["show", "--json", "zèbre|zebra,dog"])
    assert json.loads(result.stdout_bytes) == [
        {"name": "zèbre", "words": ["zèbre", "zebra"]},
        {"name": "dog", "words": ["dog"]},
    ]


def test_the_command_itself_in_a_plain_locale() -> None:
    command = [sys.executable, "-m", "san_cli", "vocab", "show"]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*command, 'voc+-person+"斑马"'], capture_output=True, env=environment, check=True)
    assert done.stdout.decode("utf-8").splitlines()[-1] == "斑马"
    assert len(done.stdout.splitlines()) == 20
    failed = subprocess.run([*command, "voc20"], capture_output=True, env=environment, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith("san: There is no dataset 'voc20'.\nWrite voc for the dataset")


def test_no_heavy_import() -> None:
    heavy = "{'torch', 'numpy', 'PIL', 'open_clip'}"
    code = f"import sys, san_cli.cli.vocab; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
