"""The model that a weights file is of, as far as its header or its hash tells: without its tensors and PyTorch."""

import json
from pathlib import Path

from san_cli.errors import SanError
from san_cli.models.presets import PRESETS, Preset, preset_from_json
from san_cli.weights.file_hash import header_of, states_hash
from san_cli.weights.hub import OFFICIAL

FORMAT = "san-1"


def known_preset(path: Path, sha256: str) -> Preset | None:
    """Return the preset of a published file, or of a whole model that our own file states; None for any other.

    None, too, for one that has a model's name and not its sizes, which is to be told. OSError where the file can't
    be read.
    """
    for official in OFFICIAL.values():
        if sha256 == official.sha256:
            return PRESETS[official.model]
    if path.suffix != ".safetensors" or not states_hash(path):
        return None
    try:
        metadata = json.loads(header_of(path))["__metadata__"]
        preset = preset_from_json(metadata["preset"])
    except (SanError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return preset if metadata.get("format") == FORMAT and PRESETS.get(preset.name, preset) == preset else None
