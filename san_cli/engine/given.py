"""Arguments of the Python API: taken as they are, or refused by one sentence that says what is taken."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from san_cli.errors import SanError, WrongType
from san_cli.models.presets import Preset
from san_cli.vocabulary.grammar import Vocabulary, vocabulary_of_names
from san_cli.vocabulary.terms import shown, word_key

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray
Names = Vocabulary | Iterable[str | Sequence[str]]

_IMAGE = "an image is a path, a Pillow image or a uint8 RGB array [H, W, 3]"
_NAMES = "a vocabulary is a list of names, each a string or a list of synonyms"


def check_kind(name: str, value: object, *kinds: type) -> None:
    """Raise WrongType unless the argument `name` is of one of `kinds`."""
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
        raise WrongType(f"{name} is a {wanted}, not {_kind(value)}")


def check_loading(
    model: object, weights: object, device: object, precision: object, templates: object, backend: object
) -> None:
    """Raise WrongType for an argument of `Segmenter.load` that is of no kind it takes."""
    check_kind("model", model, str, Preset, type(None))
    check_kind("weights", weights, str, os.PathLike, type(None))
    check_kind("device", device, str, torch.device)
    check_kind("precision", precision, str)
    check_kind("templates", templates, str, tuple, list)
    check_kind("backend", backend, str)


def given_images(images: Iterable[ImageLike]) -> list[ImageLike]:
    """List the images of any iterable that has an order. Raises WrongType, for one that is no image, too."""
    if isinstance(images, str | os.PathLike | Image.Image) or _is_one_image(images):
        raise WrongType("segment_batch takes several images, not one", hint="Use segment, or a list.")
    if isinstance(images, set | frozenset):
        raise WrongType("a set of images has no order, and the results need one", hint="Use sorted(images).")
    if isinstance(images, Mapping | bytes | bytearray) or not isinstance(images, Iterable):
        raise WrongType(f"segment_batch takes a list of images, not {_kind(images)}")
    return [_given_image(image, f"image {number}: ") for number, image in enumerate(images)]


def given_image(image: ImageLike) -> ImageLike:
    """Return `image`. Raises WrongType unless it is a path, an open Pillow image or a uint8 RGB array [H, W, 3]."""
    return _given_image(image, "")


def check_pixels(array: object) -> None:
    """Raise SanError unless `array` is a uint8 RGB array [H, W, 3] with a pixel in it."""
    if not _is_one_image(array):
        found = (
            f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        )
        raise SanError(f"raw takes a uint8 RGB array [H, W, 3], not {found}")
    if array.size == 0:
        raise SanError("raw was given an empty array")


def given_vocabulary(names: Names) -> Vocabulary:
    """Take a vocabulary as it is, or make one of literal class names (a nested sequence is a set of synonyms).

    Raises WrongType for what holds no names, SanError for a name that can't be one, or comes twice.
    """
    if isinstance(names, Vocabulary):
        return names
    if isinstance(names, str):
        raise WrongType(
            f"{_NAMES}, not one string",
            hint='Write ["cat", "dog"]; what `--vocab` takes is read by san_cli.parse_vocabulary.',
        )
    if isinstance(names, Mapping):
        raise WrongType(
            f"{_NAMES}, not a dict", hint="Use list(names.values()) or list(names), in the ids' order."
        )
    if isinstance(names, bytes | bytearray) or not isinstance(names, Iterable):
        raise WrongType(f"{_NAMES}, not {_kind(names)}")
    if isinstance(names, set | frozenset):
        raise WrongType("a set of names has no order, and class ids need one", hint="Use sorted(names).")
    found = vocabulary_of_names(list(names))
    first: dict[str, int] = {}
    for place, entry in enumerate(found.entries):
        other = first.setdefault(word_key(entry.name), place)
        if other != place:
            raise SanError(
                f"names {other} and {place} are both {shown(entry.name)}: the second would never be found",
                hint="Give each class a name of its own; synonyms of one class are a nested list.",
            )
    return found


def _given_image(image: Any, which: str) -> ImageLike:
    if isinstance(image, Image.Image):
        if _is_closed(image):
            raise WrongType(
                f"{which}the Pillow image is closed", hint="Segment it before it is closed, or give its path."
            )
        return image
    if isinstance(image, str | os.PathLike) or _is_one_image(image):
        return image
    raise WrongType(f"{which}{_IMAGE}, not {_kind(image)}", hint=_conversion(image))


def _is_one_image(image: object) -> TypeGuard[np.ndarray]:
    if not isinstance(image, np.ndarray):
        return False
    return image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def _is_closed(image: Image.Image) -> bool:
    """Tell whether nothing can be read from it any more."""
    if getattr(image, "tile", None):  # not decoded yet
        file = getattr(image, "fp", None)
        return file is None or bool(getattr(file, "closed", False))
    try:
        return image.im is None
    except ValueError:  # Pillow's way to say it
        return True


def _kind(given: object) -> str:
    """Describe `given` in a few words however large it is."""
    if isinstance(given, np.ndarray | Tensor):
        return f"{type(given).__name__} {given.dtype} {list(given.shape)}"
    return "None" if given is None else type(given).__name__


def _conversion(given: object) -> str:
    """Say how to make an image of what is nearly one."""
    if isinstance(given, bytes | bytearray | memoryview) or hasattr(given, "read"):
        file = "file" if hasattr(given, "read") else "io.BytesIO(data)"
        return f"Open it: PIL.Image.open({file})"
    if isinstance(given, list | tuple):
        return "Several images go to segment_batch; nested lists of numbers into numpy.array(…, numpy.uint8)."
    if isinstance(given, Tensor):
        return "Of a uint8 tensor [3, H, W] take tensor.permute(1, 2, 0).cpu().numpy()."
    if not isinstance(given, np.ndarray):
        return ""
    if given.dtype.kind == "f":
        return "Values from 0 to 1 become (array * 255).round().astype(numpy.uint8)."
    if given.dtype != np.uint8:
        return "Scale its values to 0…255 and take .astype(numpy.uint8)."
    if given.ndim == 2 or (given.ndim == 3 and given.shape[2] == 1):
        return "Of a grey image take PIL.Image.fromarray(array.squeeze())."
    if given.ndim == 3 and given.shape[2] == 4:
        return "PIL.Image.fromarray(array) puts transparency over white; array[..., :3] drops it."
    if given.ndim == 3 and given.shape[0] == 3:
        return "Of channels first take array.transpose(1, 2, 0)."
    if given.ndim == 4:
        return "Several images go to segment_batch."
    return ""
