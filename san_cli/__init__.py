"""Open-vocabulary semantic segmentation with the Side Adapter Network (CVPR 2023).

>>> from san_cli import Segmenter
>>> segmenter = Segmenter.load("vit-b-16", weights="san_vit_b_16.pth")
>>> result = segmenter.segment("photo.jpg", vocabulary=["cat", "dog"])
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "PRESETS",
    "TINY",
    "VIT_B_16",
    "VIT_L_14",
    "BadImage",
    "ClipShape",
    "MapOptions",
    "NotFinite",
    "Preset",
    "RawOutput",
    "Reading",
    "SanError",
    "Segmentation",
    "Segmenter",
    "Vocabulary",
    "WrongType",
    "__version__",
    "parse_vocabulary",
]

if TYPE_CHECKING:
    from san_cli.datasets.bad_image import BadImage
    from san_cli.datasets.reading import Reading
    from san_cli.engine.map_options import MapOptions
    from san_cli.engine.results import NotFinite, RawOutput, Segmentation
    from san_cli.engine.segmenter import Segmenter
    from san_cli.errors import SanError, WrongType
    from san_cli.models.presets import PRESETS, TINY, VIT_B_16, VIT_L_14, ClipShape, Preset
    from san_cli.vocabulary.grammar import Vocabulary, parse_vocabulary

_MODULES = {
    "datasets.bad_image": ("BadImage",),
    "datasets.reading": ("Reading",),
    "engine.map_options": ("MapOptions",),
    "engine.results": ("NotFinite", "RawOutput", "Segmentation"),
    "engine.segmenter": ("Segmenter",),
    "errors": ("SanError", "WrongType"),
    "models.presets": ("PRESETS", "TINY", "VIT_B_16", "VIT_L_14", "ClipShape", "Preset"),
    "vocabulary.grammar": ("Vocabulary", "parse_vocabulary"),
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import san_cli` stays free of torch (PEP 562)."""
    import importlib

    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"san_cli.{module}"), name)
    raise AttributeError(f"module 'san_cli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
