"""The versions of what computes, for reports."""

import platform
from importlib.metadata import PackageNotFoundError, version

from san_cli import __version__

_PACKAGES = ("torch", "numpy", "pillow", "open_clip_torch")


def versions() -> dict[str, str]:
    """Names and versions: ours, Python's, and of the packages that the numbers may depend on."""
    found = {"san": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
