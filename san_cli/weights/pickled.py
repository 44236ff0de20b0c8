"""What is in a pickle, with nothing of it run: tensors and plain values; other objects are left out.

Files of other programs hold more than tensors (a scheduler, a history of losses, a configuration) in the same pickle.
Such an object becomes a `LeftOut`, which knows only its class's name.
"""

import mmap
import pickle
import pickletools
import re
import threading
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch.serialization import add_safe_globals, clear_safe_globals, get_safe_globals

_LONGEST = (
    1 << 26
)  # bytes of a pickle of PyTorch's that are looked through; its tensors' numbers lie elsewhere
_one_at_a_time = threading.Lock()  # what PyTorch takes for safe is a setting of the process


class LeftOut:
    """Stands for an object of a class that isn't loaded, and takes whatever is done to it."""

    def __new__(cls, *arguments: object, **named: object) -> "LeftOut":
        return object.__new__(cls)

    def __init__(self, *arguments: object, **named: object) -> None:
        """Keep nothing."""

    def __setstate__(self, state: object) -> None:
        """Keep nothing, nor in those below."""

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        pass

    extend = update = add = append


def load_pickle(path: Path) -> Any:
    """Load what `torch.save` wrote, or a plain pickle of arrays, never running code from it.

    It is memory-mapped where the format allows, the zip format, which is written since 2020. A damaged file raises
    nearly anything.
    """
    is_zip = zipfile.is_zipfile(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except (OSError, EOFError):
        raise
    except Exception as error:  # objects among the tensors, or no file of PyTorch's
        names = words_of_pickle(path)[1]
        if not is_zip and names and not any(name.startswith("torch") for name in names):
            with path.open("rb") as file:
                return _plain(_Arrays(file).load())
        if not names:
            raise error
    with _one_at_a_time:
        before = get_safe_globals()
        add_safe_globals([_stand_in(name) for name in names])
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
        finally:
            clear_safe_globals()
            add_safe_globals(before)


def words_of_pickle(path: Path) -> tuple[list[str], list[str]]:
    """List the texts in a checkpoint, and the classes and functions that it asks for; nothing where it is damaged."""
    texts: list[str] = []
    names: list[str] = []
    try:
        for stream in _pickles(path):
            recent: list[str] = []
            for operation, argument, _ in pickletools.genops(stream):
                if operation.name == "GLOBAL":
                    names.append(_of_python_3(*str(argument).split(" ", 1)))
                elif operation.name == "STACK_GLOBAL":
                    names.append(".".join(recent[-2:]))
                elif isinstance(argument, str):
                    texts.append(argument)
                    recent = [*recent[-1:], argument]
    except Exception:  # likewise
        return [], []
    return texts, sorted(set(names))


def _of_python_3(module: str, name: str) -> str:
    """Translate a name that is written as Python 2 had it, as in all pickles of PyTorch's."""
    return ".".join(NAME_MAPPING.get((module, name)) or (IMPORT_MAPPING.get(module, module), name))


def _pickles(path: Path) -> list[Any]:
    """Return the pickle in an archive of PyTorch's, or those that follow one another in any other file."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if _is_legacy(file):
                return _legacy_pickles(file)
            return [mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)]  # the numbers are in it, too
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        with archive.open(name) as pickled:
            return [pickled.read(_LONGEST)]


def _is_legacy(file: BinaryIO) -> bool:
    """Tell whether the file begins with PyTorch's number, as it was written before 2020."""
    start = file.read(64)
    file.seek(0)
    return b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." in start


def _legacy_pickles(file: BinaryIO) -> list[bytes]:
    """Number, version and system of the machine come first, then the objects; the tensors' numbers aren't read."""
    content, pickles, start = file.read(_LONGEST), [], 0
    for _ in range(4):
        last = start
        for _, _, position in pickletools.genops(content[start:]):
            last = start + (position or 0) + 1
        pickles.append(content[start:last])
        start = last
    return pickles


def _stand_in(name: str) -> type[LeftOut]:
    module, _, of_module = name.rpartition(".")
    return type(of_module, (LeftOut,), {"__module__": module})


class _Dtype:
    """What a pickle says of an array's numbers. NumPy's own would take whatever flags stand there."""

    def __init__(self, code: str = "", *_: object) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: Any) -> None:
        self.order = {"<": "<", ">": ">"}.get(state[1], "=")

    def numpy(self) -> np.dtype[Any]:
        """Return the kind of number; ValueError for what is none."""
        if re.fullmatch("[fiub][1248]", self.code) is None:
            raise ValueError(f"an array of {self.code[:20]!r}")
        return np.dtype(self.order + self.code)


class _Array:
    """An array as NumPy pickles it: made of its shape, its kind and its bytes, by nothing that the pickle names."""

    array: np.ndarray | None = None

    def __init__(self, *_: object) -> None:
        """Wait for the numbers."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, numbers = state
        with suppress(ValueError, TypeError, AttributeError):  # of texts or objects: nothing is kept
            flat = np.frombuffer(bytearray(numbers), dtype.numpy())
            self.array = flat.reshape(shape, order="F" if is_fortran else "C")


def _scalar(dtype: _Dtype, numbers: bytes) -> object:
    try:
        return np.frombuffer(numbers, dtype.numpy())[0]
    except (ValueError, TypeError, AttributeError, IndexError):
        return LeftOut()


def _latin_1(text: str, *_: object) -> bytes:
    return text.encode("latin-1")  # as Python 3 writes bytes for Python 2


def _plain(value: Any) -> Any:
    """Give NumPy's arrays for those of a pickle, in dictionaries and lists."""
    if isinstance(value, _Array):
        return LeftOut() if value.array is None else value.array
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


# NumPy 2 has renamed the module.
_OF_ARRAYS: dict[tuple[str, str], Any] = {
    **dict.fromkeys(
        (("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")), _Array
    ),
    **dict.fromkeys((("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar")), _scalar),
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _latin_1,
    ("collections", "OrderedDict"): OrderedDict,
}


class _Arrays(pickle.Unpickler):
    """Reads NumPy arrays in a pickle, such as detectron2's model zoo has, as tensors are made of them."""

    def find_class(self, module: str, name: str) -> Any:
        return _OF_ARRAYS.get((module, name)) or _stand_in(f"{module}.{name}")
