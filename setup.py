"""The one thing that pyproject.toml can't say: a wheel takes the trained `tiny` from weights/ into the package.

A package whose folder is mapped to weights/ would do it too, but then an editable install is an import hook, and
type checkers, which don't run code, find no `san_cli` behind it.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

BUNDLED = ("tiny.safetensors", "tiny-words.npz", "README.md")


class BuildWithWeights(build_py):
    """Copies the shipped weights beside the modules, except into an editable install, which has weights/ itself."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "san_cli", "bundled")
            self.mkpath(str(target))
            for name in BUNDLED:
                self.copy_file(str(Path("weights", name)), str(target / name))


setup(cmdclass={"build_py": BuildWithWeights})
