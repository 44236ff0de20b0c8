"""The packages: their versions, whether those that san can't do without can be imported, which extras are there."""

import importlib
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Any

from san_cli import __version__
from san_cli.doctor.finding import Finding, first_line

DISTRIBUTION = "san-seg"
_DISTRIBUTED_AS = {"open_clip": "open_clip_torch", "PIL": "pillow", "yaml": "pyyaml"}
_FOR_DEVELOPERS = ("test", "readers")
# Imported in this order: what fails first is the cause.
_NEEDED = (
    "numpy",
    "PIL",
    "torch",
    "open_clip",
    "safetensors",
    "scipy",
    "pycocotools",
    "yaml",
    "rich",
    "tqdm",
)


def versions() -> Finding:
    """Name the versions of san and of all that it needs; a fault where one is missing."""
    found = {"san": __version__}
    missing: list[str] = []
    for name in _declared()[""]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            missing.append(name)
    told = ", ".join(f"{name} {number}" for name, number in found.items())
    fault = f"missing: {', '.join(missing)}" if missing else ""
    return Finding(
        "versions",
        told,
        {**found, "missing": missing},
        fault=fault,
        hint=_way_to_install() if missing else "",
    )


def imports() -> Finding:
    """Import what san can't do without; a fault where that fails, with its cure where it is known."""
    failed: dict[str, str] = {}
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except Exception as error:
            failed[name] = first_line(error)
    if not failed:
        return Finding("imports", "fine", {"failed": {}})
    name, reason = next(iter(failed.items()))
    return Finding(
        "imports",
        f"{', '.join(failed)} can't be imported: {reason}",
        {"failed": failed},
        fault=f"{name} can't be imported: {reason}",
        hint=_cure(name, reason),
    )


def _cure(name: str, reason: str) -> str:
    """Return the way out of a failed import."""
    if "torchvision::nms" in reason or "torchvision" in reason:
        return (
            "torch and torchvision are not of one release, or of different builds (CPU, CUDA): install both again "
            "from one place: pip install --force-reinstall torch torchvision"
        )
    if "numpy" in reason.lower() and "1.x" in reason:
        return "A package was built for another NumPy: pip install --upgrade torch torchvision numpy"
    if "libcud" in reason or "libnv" in reason or "libcublas" in reason:
        return "PyTorch's CUDA libraries are incomplete: pip install --force-reinstall torch torchvision"
    if "No module named" in reason:
        return _way_to_install()
    if name == "torch":
        return "Install PyTorch again, as https://pytorch.org says for this machine."
    return f"Install it again: pip install {_DISTRIBUTED_AS.get(name, name)} --force-reinstall"


def torchvision() -> Finding:
    """Name the torchvision that open_clip imports: where that fails is told by `imports`."""
    try:
        number = version("torchvision")
    except PackageNotFoundError:
        return Finding("torchvision", "not installed", {"version": None})
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        reason = first_line(error)
        return Finding("torchvision", f"{number}: {reason}", {"version": number, "error": reason})
    return Finding("torchvision", number, {"version": number, "error": None})


def extras() -> list[Finding]:
    """Tell of each optional extra of ours whether its packages are there, as we declare them ourselves."""
    groups = _declared().items()
    return [_extra(name, packages) for name, packages in groups if name and name not in _FOR_DEVELOPERS]


def _extra(name: str, packages: list[str]) -> Finding:
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    told = ", ".join(f"{package} {number or 'not here'}" for package, number in found.items())
    missing = [package for package, number in found.items() if number is None]
    told += f" (pip install {' '.join(missing)})" if missing else ""
    facts: dict[str, Any] = {"there": not missing, "packages": found}
    return Finding(f"extra {name}", told, facts)


@cache
def _declared() -> dict[str, list[str]]:
    """List the packages that san needs (""), and each extra's: by pyproject.toml in a checkout, else metadata."""
    found = _declared_in_checkout()
    if found is not None:
        return found
    try:
        lines = requires(DISTRIBUTION) or []
        extras = metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return {"": ["torch", "open_clip_torch", "numpy", "pillow", "typer"]}
    found = {"": [], **{name: [] for name in extras}}
    for line in lines:
        asked = re.search(r"""extra\s*==\s*['"]([^'"]+)['"]""", line.partition(";")[2])
        found[asked[1] if asked else ""].append(_name(line))
    return found


def _declared_in_checkout() -> dict[str, list[str]] | None:
    """Read pyproject.toml beside the package; None where there is none of ours, or nothing to read it with."""
    try:
        tomllib = importlib.import_module("tomllib")  # Python 3.11
        text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
        project = tomllib.loads(text)["project"]
    except (ImportError, OSError, ValueError, KeyError):
        return None
    if project.get("name") != DISTRIBUTION:
        return None
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {name: [_name(line) for line in lines] for name, lines in groups.items()}


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement.strip())[0]


def _way_to_install() -> str:
    return "Install san again, with all that it needs: pip install -e . in its checkout, in this environment"
