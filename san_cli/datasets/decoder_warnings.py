"""Lines that decoders print or warn of by themselves, kept from the terminal: a line there must name its file."""

import ctypes
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

from PIL import _imaging


def silence_decoders() -> None:
    """Keep libtiff and Pillow's log from printing to stderr without a file's name; errors are raised all the same.

    Process-wide. A Pillow that has libtiff built in stays as it is.
    """
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)  # symbols of what it links to are found through it
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


class _Recorder(threading.local):
    """Stands where a filter has its message pattern, and keeps what the present thread is warned of.

    `warnings.catch_warnings` swaps a process-wide list and is useless with several threads; a pattern object
    that matches only in a thread that is decoding hides nothing from anybody else and may stay for good.
    """

    texts: list[str] | None = None

    def match(self, text: str) -> bool:
        if self.texts is None:
            return False
        self.texts.append(text)
        return True


_RECORDER = _Recorder()
_FILTER = ("ignore", _RECORDER, Warning, None, 0)


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """Keep what the present thread is warned of meanwhile, instead of printing it; other threads are left alone."""
    filters = cast("list[Any]", warnings.filters)
    if not filters or filters[0] is not _FILTER:  # not there yet, or somebody has put a filter before it
        filters[:] = [_FILTER, *(item for item in filters if item is not _FILTER)]
    texts: list[str] = []
    _RECORDER.texts = texts
    try:
        yield texts
    finally:
        _RECORDER.texts = None
