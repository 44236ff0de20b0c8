"""Ctrl-C and SIGTERM as a request that is granted at the next good moment."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from san_cli.cli import console


@contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Yields what tells whether we were asked to stop; a second request interrupts at once."""
    asked = [0]

    def note(signum: int, frame: object) -> None:
        asked[0] += 1
        if asked[0] > 1:
            raise KeyboardInterrupt
        console.say("stopping after this iteration (once more: at once, without a checkpoint)")

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    try:
        for name, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(getattr(signal, name), note)
        yield lambda: asked[0] > 0
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
