"""Turns of large pictures: memory is for one of them at a time."""

from threading import Condition


class Turns:
    """Lets a large picture wait until all images of the batches before its own are saved."""

    def __init__(self) -> None:
        """Begin with none saved."""
        self._changed = Condition()
        self._saved = 0

    def wait(self, before: int) -> None:
        """Wait until `before` images are saved, all of which have been handed on to be."""
        with self._changed:
            self._changed.wait_for(lambda: self._saved >= before)

    def saved(self) -> None:
        """Count an image, in a thread that saves."""
        with self._changed:
            self._saved += 1
            self._changed.notify_all()
