"""The house as docs/architecture.md draws it: which room may import which, and what stays out of `--help`."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from program import subprocess_environment

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "san_cli"

# From the top down: a room imports only from rooms below its line. Rooms on one line don't know one another.
LAYERS = (
    ("__init__", "__main__"),
    ("cli",),
    ("predict", "convert", "evaluate", "train", "learn", "prepare", "fps", "export", "doctor"),
    ("runs",),
    ("engine",),
    ("datasets", "outputs"),
    ("regions",),
    ("vocabulary", "weights"),
    ("models",),
    ("errors", "text", "files"),
)
LEVELS = {room: len(LAYERS) - number for number, rooms in enumerate(LAYERS) for room in rooms}
# What stands above nothing: anyone may ask for it.
FOR_ALL = ("san_cli.__version__",)

LONGEST = 400  # lines of a file
MOST_PARAMETERS = 7  # of any function but a command, whose options they are
COMMANDS = (
    *("cli/predict.py: predict", "cli/convert.py: convert", "cli/eval.py: evaluate"),
    *("cli/train.py: train", "cli/fps.py: fps", "cli/learn.py: learn"),
    "engine/segmenter.py: load",  # what a command's options are in Python
)
# Distributions that are imported under another name.
IMPORTED_AS = {"open_clip_torch": "open_clip", "pillow": "PIL", "pyyaml": "yaml"}
# Dependencies that nothing imports, each with its reason, and the other way round.
FOR_USERS = {
    "pycocotools": "opens predictions.json for whoever goes on with it (tests/outputs/test_readers.py)"
}
WHERE_THERE = {
    "certifi": "its certificates are used beside the system's where it is installed",
}


def _imported(path: Path) -> Iterator[str]:
    """Yield the full name of all that a file imports: at run time, in functions, and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)


IMPORTS = {path.relative_to(PACKAGE): sorted(set(_imported(path))) for path in PACKAGE.rglob("*.py")}


def test_every_room_has_its_place() -> None:
    assert {path.parts[0].removesuffix(".py") for path in IMPORTS} == set(LEVELS)


def _names_at_top(path: Path) -> set[str]:
    """Give the names that a file defines, or imports, for whoever imports it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {name.asname or name.name for name in node.names}
    return names


@pytest.mark.parametrize("script", sorted([*ROOT.glob("scripts/*.py"), *ROOT.glob("examples/*.py")]), ids=str)
def test_scripts_import_what_is_there(script: Path) -> None:
    """No test runs them, and type checkers don't read them."""
    for name in _imported(script):
        if name.startswith("san_cli."):
            module, _, wanted = name.removeprefix("san_cli.").rpartition(".")
            place = PACKAGE / module.replace(".", "/")
            file = place.with_suffix(".py") if module and not place.is_dir() else place / "__init__.py"
            is_file = (place / f"{wanted}.py").is_file() or (place / wanted).is_dir()
            assert is_file or wanted in _names_at_top(file), name


def test_imports_point_down() -> None:
    against = [
        f"{path} imports {name}"
        for path, names in IMPORTS.items()
        for name in names
        if name.startswith("san_cli.") and name not in FOR_ALL
        for room, other in [(path.parts[0].removesuffix(".py"), name.split(".")[1])]
        if room != other and LEVELS[room] <= LEVELS[other]
    ]
    assert not against, "\n".join(against)


def test_help_loads_no_torch(san_home: Path) -> None:
    """Every page in one process: torch takes seconds to load, and so do NumPy and Pillow some tenths."""
    code = (
        "import contextlib, io, json, sys, typer\n"
        "from san_cli.cli.main import app, main\n"
        "def pages(command, words):\n"
        "    yield words\n"
        "    for name, other in getattr(command, 'commands', {}).items():\n"
        "        yield from pages(other, [*words, name])\n"
        "shown = []\n"
        "for words in pages(typer.main.get_command(app), []):\n"
        "    sys.argv = ['san', *words, '--help']\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as page:\n"
        "        main()\n"
        "    assert 'Usage: ' in page.getvalue(), words\n"
        "    shown.append(' '.join(words))\n"
        "heavy = [m for m in ('torch', 'numpy', 'PIL', 'open_clip', 'scipy') if m in sys.modules]\n"
        "print(json.dumps([shown, heavy]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=subprocess_environment(san_home),
        capture_output=True,
        text=True,
        check=True,
    )
    shown, heavy = json.loads(done.stdout)
    assert {"", "predict", "eval", "train", "fps", "data prepare", "vocab similarity"} <= set(shown)
    assert heavy == []


def test_every_dependency_is_imported() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[^\w.-]", line)[0] for line in project["dependencies"]]
    loaded = {name.split(".")[0] for found in IMPORTS.values() for name in found}
    assert {name for name in names if IMPORTED_AS.get(name, name) not in loaded} == set(FOR_USERS)


def test_every_import_is_a_dependency() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for_users = ("report", "table", "geo", "onnx", "openvino")
    lines = [*project["dependencies"], *(line for extra in for_users for line in extras[extra])]
    declared = {re.split(r"[^\w.-]", line)[0] for line in lines}
    known = {IMPORTED_AS.get(name, name) for name in declared} | set(sys.stdlib_module_names) | {"san_cli"}
    strangers = {name.split(".")[0] for found in IMPORTS.values() for name in found} - known
    assert strangers == set(WHERE_THERE)


def test_files_are_short_enough_to_read() -> None:
    lengths = {path.as_posix(): len((PACKAGE / path).read_bytes().splitlines()) for path in IMPORTS}
    assert [path for path, lines in lengths.items() if lines > LONGEST] == []


def test_functions_take_few_values() -> None:
    many = [
        f"{path.as_posix()}: {node.name}"
        for path in IMPORTS
        for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        for given in [[*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]
        if len([one for one in given if one.arg not in ("self", "cls")]) > MOST_PARAMETERS
    ]
    assert set(many) <= set(COMMANDS)


def test_the_picture_of_the_house_names_its_rooms() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = text.split("```")[1]
    assert set(re.findall(r"(\w+)/ ", picture)) == {path.parts[0] for path in IMPORTS if len(path.parts) > 1}
    for file in re.findall(r"`(?:san_cli/)?(\w+/\w+)`", text):
        assert (PACKAGE / f"{file}.py").is_file(), file
