"""Processes that torchrun started together: who we are, and the few words that they exchange.

They meet at the key-value store that torchrun provides; no tensors are exchanged. The start and the end of a
run are the only places where one waits for another, so that they may run at different speeds for days.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from san_cli.errors import ExitCode, SanError
from san_cli.runs.shares import Share

if TYPE_CHECKING:
    from torch.distributed import Store

_MEET = timedelta(minutes=10)
_POLL_S = 0.2


def team_share() -> Share | None:
    """Our share among torchrun's processes, None if we are not one of several. SanError for odd variables."""
    rank, world = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None or world is None or "MASTER_ADDR" not in os.environ or world == "1":
        return None
    try:
        return Share(int(rank), int(world))
    except (ValueError, SanError) as error:
        raise SanError(
            f"RANK={rank} and WORLD_SIZE={world} are not those of a process of torchrun",
            hint="Unset both to run as a single process.",
        ) from error


def local_rank() -> int:
    """Our number among torchrun's processes on this machine."""
    text = os.environ.get("LOCAL_RANK", "0")
    return int(text) if text.isdecimal() else 0


def processes_here() -> int:
    """How many processes torchrun has started on this machine."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, int(text)) if text.isdecimal() else 1


class Team:
    """All processes of one `torchrun`; process 0 leads."""

    def __init__(self, share: Share, store: "Store") -> None:
        self.share = share
        self.leads = share.index == 0
        self._store = store

    @classmethod
    def meet(cls, share: Share) -> "Team":
        """Find the others; SanError if they can't be reached."""
        with _reaching_others():
            from torch.distributed.rendezvous import rendezvous

            # `env://` reads torchrun's variables, its own store included.
            return cls(share, next(iter(rendezvous("env://", timeout=_MEET)))[0])

    def tell(self, what: str, value: bytes = b"") -> None:
        """Let the others know."""
        with _reaching_others():
            self._store.set(f"san/{what}/{self.share.index}", value)  # type: ignore[arg-type]  # bytes pass, too

    def hear(self, what: str, index: int = 0) -> bytes:
        """Wait until process `index` has told `what`, however long that takes, and return it."""
        key = f"san/{what}/{index}"
        with _reaching_others():
            while not self._store.check([key]):  # Store.wait would be deaf to Ctrl-C
                time.sleep(_POLL_S)
            return bytes(self._store.get(key))

    def hear_all(self, what: str) -> None:
        """Wait until everybody has told `what`."""
        for index in range(self.share.count):
            self.hear(what, index)


@contextmanager
def _reaching_others() -> Iterator[None]:
    """Trouble with the store is trouble with a process or the network, and a rerun mends it."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise SanError(
            f"lost touch with the other processes ({reason})",
            hint="What is written is complete: run the same command again to go on. "
            "To run as a single process, unset RANK and WORLD_SIZE.",
            code=ExitCode.SOME_FAILED,
        ) from error
