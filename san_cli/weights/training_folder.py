"""Which model a folder of `san train` offers, by the names that `train/checkpoints` and `train/best` give them."""

import re
from collections.abc import Callable
from pathlib import Path

_STEP = re.compile(r"step-\d{8}")


def model_of_training(folder: Path, *, say: Callable[[str], None]) -> Path | None:
    """Choose a training's best model, else its last; `say` is told which. None for a folder that is no training's.

    That is `best.safetensors`, `model.safetensors` (written at the end), or the newest checkpoint's weights; of a
    checkpoint's own folder they are its weights.
    """
    steps = sorted(path for path in folder.glob("checkpoints/step-*") if _STEP.fullmatch(path.name))
    known = ("best.safetensors", "metrics.jsonl")
    is_training = bool(steps) or any((folder / name).is_file() for name in known) or _is_checkpoint(folder)
    if not is_training:
        return None
    chosen = [
        (folder / "best.safetensors", "the best model so far of that training"),
        (folder / "model.safetensors", "that training's last model: none is marked as its best"),
        *((step / "weights.safetensors", "that training's last checkpoint") for step in reversed(steps)),
        (folder / "weights.safetensors", "that checkpoint's weights"),
    ]
    for path, what in chosen:
        if path.is_file():
            say(f"'{folder}': taking {path.relative_to(folder)}, {what}")
            return path
    return None


def _is_checkpoint(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("weights.safetensors", "state.safetensors"))
