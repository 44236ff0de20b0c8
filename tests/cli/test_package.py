"""The installation, and what our texts tell people to install: nothing forgotten, and no stranger's program."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_OPTIONAL = {
    "tensorboard",
    "pillow-heif",
    "ray",
}  # programs of others that we name without depending on them
# The first thing that such a command installs; what follows may be the sentence around it.
_INSTALL = re.compile(
    r"\b(?:pipx?3?|uvx?|conda)(?: pip| tool)? (?:install|run)(?: +-[\w-]+)* +['\"]?([\w.-]+)"
)


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_folder_of_modules_is_a_package(pyproject: dict[str, Any]) -> None:
    assert pyproject["tool"]["setuptools"]["packages"]["find"] == {
        "include": ["san_cli*"],
        "namespaces": False,
    }
    for folder in {path.parent for path in (ROOT / "san_cli").rglob("*.py")}:
        assert (folder / "__init__.py").is_file()


def test_every_file_that_is_no_module_is_listed(pyproject: dict[str, Any]) -> None:
    listed = set()
    for pattern in pyproject["tool"]["setuptools"]["package-data"]["san_cli"]:
        found = set((ROOT / "san_cli").glob(pattern))
        assert found, f"{pattern} matches nothing"
        listed |= found
    own = {
        path
        for path in (ROOT / "san_cli").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert own <= listed


def test_an_editable_install_is_a_plain_path_for_type_checkers(pyproject: dict[str, Any]) -> None:
    assert pyproject["tool"]["setuptools"]["package-dir"] == {"": "."}


def test_no_text_tells_anyone_to_install_a_name_that_is_not_ours(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    assert (
        project["name"] == "san-seg"
    )  # `san-cli` on the index is somebody else's, and has a command `san`, too
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {re.split(r"[^\w.-]", line)[0].lower() for group in groups for line in group}
    allowed = {".", project["name"], *declared, *_OPTIONAL}
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if files.returncode:
        pytest.skip("not a checkout")
    for name in filter(None, files.stdout.decode().split("\0")):
        data = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        if b"\0" in data or name == "tests/cli/test_package.py":
            continue
        text = data.decode("utf-8")
        assert "san-cli" not in text, name
        strangers = [told[0] for told in _INSTALL.finditer(text) if told[1].lower() not in allowed]
        assert not strangers, name
