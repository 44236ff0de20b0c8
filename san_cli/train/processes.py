"""The processes that train one model together: who we are, and sums over all of us."""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from san_cli.errors import ExitCode, SanError
from san_cli.runs.team import local_rank, team_share

_Value = TypeVar("_Value")
_PATIENCE = timedelta(hours=1)  # with the leading process, which embeds words and looks at the data for all


@dataclass(frozen=True)
class Processes:
    """This process among those of a `torchrun`; alone otherwise."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes files and talks to the user."""
        return self.rank == 0

    def sums(self, *values: float) -> list[float]:
        """Each value summed over all processes, in float64."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(value) for value in total.cpu()]

    def gather(self, value: _Value) -> list[_Value]:
        """Every process's value, by rank."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def agree(self, what: str, value: str) -> None:
        """SanError where the processes have different values."""
        values = dict.fromkeys(self.gather(value))
        if len(values) > 1:
            raise SanError(
                f"the processes differ in {what}: {', '.join(values)}",
                hint="They need the same command, the same data, and a folder -o that all of them see.",
            )

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.world > 1:
            dist.barrier()


def meet(device: torch.device) -> Processes:
    """Join the others of our torchrun: over nccl on CUDA, each on a GPU of its own, otherwise over gloo."""
    share = team_share()
    if share is None:
        return Processes(0, 1, device)
    if device.type == "cuda":
        own = local_rank() if device.index is None else device.index
        if own >= torch.cuda.device_count():
            raise SanError(
                f"process {own} of this machine has no GPU of its own: PyTorch sees {torch.cuda.device_count()}",
                hint="Start as many processes as there are GPUs: torchrun --nproc-per-node gpu …",
            )
        device = torch.device("cuda", own)
        torch.cuda.set_device(device)
    backend, own_device = ("nccl", device) if device.type == "cuda" else ("gloo", None)
    store, rank, world = next(iter(rendezvous("env://", timeout=_PATIENCE)))
    store = _of_this_round(store, rank, world)
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=world, timeout=_PATIENCE, device_id=own_device
    )
    return Processes(rank, world, device)


def _of_this_round(store: dist.Store, rank: int, world: int) -> dist.Store:
    """A part of the store that nobody has used before, the same for all of us.

    torchrun keeps its store when it starts us anew, and in it the addresses of our predecessors, which we would
    call in vain. The leading process makes up a name and answers with it whoever asks; it has gone round when
    all have taken notice. What predecessors asked does no harm: nobody waits for those answers any more.
    """
    if rank:
        question = uuid.uuid4().hex
        store.set(f"san/question/{rank}", question)
        name = store.get(f"san/answer/{question}").decode()  # waits for it
        store.set(f"san/noticed/{name}/{rank}", "")
        return dist.PrefixStore(name, store)
    name, others, started = uuid.uuid4().hex, set(range(1, world)), time.monotonic()
    while others:
        for other in sorted(others):
            if store.check([f"san/question/{other}"]):
                store.set(f"san/answer/{store.get(f'san/question/{other}').decode()}", name)
            if store.check([f"san/noticed/{name}/{other}"]):
                others.remove(other)
        if time.monotonic() - started > _PATIENCE.total_seconds():
            raise SanError(f"processes {sorted(others)} have not come", code=ExitCode.SOME_FAILED)
        time.sleep(0.05)
    return dist.PrefixStore(name, store)


@contextmanager
def together(device: torch.device) -> Iterator[Processes]:
    """Meet the others for the length of the block. SanError where one of them is lost on the way."""
    try:
        yield meet(device)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        reason = (str(error).splitlines() or [""])[0][:200]
        raise SanError(
            f"lost touch with the other processes ({reason})",
            hint="One of them has ended; what it said above, if anything, is the cause. --resume goes on from the "
            "last checkpoint.",
            code=ExitCode.SOME_FAILED,
        ) from error
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


def restarted() -> bool:
    """Whether torchrun has started us again after a failure, so that the last checkpoint is to be taken up."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") not in ("", "0")
