"""What a wheel holds is written down in pyproject.toml: nothing in the tree may be forgotten there."""

from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def setuptools() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_every_folder_of_modules_is_a_listed_package(setuptools: dict[str, Any]) -> None:
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "san_cli").rglob("*.py")}
    packages = {".".join(folder.parts) for folder in folders}
    assert set(setuptools["packages"]) == packages | {"san_cli.bundled"}


def test_every_file_that_is_no_module_is_listed(setuptools: dict[str, Any]) -> None:
    listed = set()
    for package, patterns in setuptools["package-data"].items():
        folder = ROOT / setuptools["package-dir"].get(package, package)
        for pattern in patterns:
            found = set(folder.glob(pattern))
            assert found, f"{package}: {pattern} matches nothing"
            listed |= found
    own = [
        path
        for path in (ROOT / "san_cli").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert set(own) <= listed
    assert ROOT / "weights" / "tiny.safetensors" in listed
