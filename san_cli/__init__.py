"""Open-vocabulary semantic segmentation with the Side Adapter Network (CVPR 2023).

>>> from san_cli import Segmenter
>>> segmenter = Segmenter.load("vit-b-16", weights="san_vit_b_16.pth")
>>> result = segmenter.segment("photo.jpg", vocabulary=["cat", "dog"])
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["MapOptions", "Preset", "RawOutput", "SanError", "Segmentation", "Segmenter", "__version__"]

if TYPE_CHECKING:
    from san_cli.engine.segmenter import MapOptions, RawOutput, Segmentation, Segmenter
    from san_cli.errors import SanError
    from san_cli.models.presets import Preset

_HOME = {
    "Segmenter": "san_cli.engine.segmenter",
    "Segmentation": "san_cli.engine.segmenter",
    "MapOptions": "san_cli.engine.segmenter",
    "RawOutput": "san_cli.engine.segmenter",
    "Preset": "san_cli.models.presets",
    "SanError": "san_cli.errors",
}


def __getattr__(name: str) -> Any:
    """Import the public classes on first use, so that `import san_cli` stays free of torch (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'san_cli' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
