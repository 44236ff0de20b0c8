"""Ctrl-C and SIGTERM as a request that is granted at the next good moment."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def stop_request(*, quiet: bool) -> Iterator[Callable[[], bool]]:
    """Yield what tells whether we were asked to stop; a second request interrupts at once."""
    asked, us = [0], os.getpid()

    def note(signum: int, frame: object) -> None:
        if os.getpid() != us:  # a process of the loader, started before it has signal handlers of its own
            return
        asked[0] += 1
        if asked[0] > 1:
            raise KeyboardInterrupt
        if not quiet:
            with suppress(OSError):  # not through sys.stderr, which may be in the middle of a write
                os.write(2, b"stopping after this iteration (once more: at once, without a checkpoint)\n")

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
