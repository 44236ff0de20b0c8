"""Turns of large pictures: memory is for one of them at a time."""

from concurrent.futures import CancelledError
from threading import Condition


class Turns:
    """Lets a large picture wait until all images of the batches before its own are saved."""

    def __init__(self) -> None:
        """Begin with none saved."""
        self._changed = Condition()
        self._saved = 0
        self._ended = False

    def wait(self, before: int) -> None:
        """Wait, in a thread that loads, until `before` images are saved. CancelledError if the run ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._saved >= before)
            if self._ended:
                raise CancelledError

    def saved(self) -> None:
        """Count an image, in a thread that saves."""
        with self._changed:
            self._saved += 1
            self._changed.notify_all()

    def end(self) -> None:
        """Let nobody wait any more: what they wait for may not come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
