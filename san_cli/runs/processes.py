"""Processes that torchrun started together: who we are, and what they tell one another.

They meet at the key-value store that torchrun provides. predict and eval exchange nothing else, and only at the start
and the end of a run, so that processes may run at different speeds for days; train joins a process group besides
(`joined`), for sums in every step.
"""

import os
import pickle
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from san_cli.errors import ExitCode, SanError
from san_cli.runs.shares import WHOLE, Share

if TYPE_CHECKING:
    import torch
    from torch.distributed import Store

_Value = TypeVar("_Value")
_MEET = timedelta(minutes=10)
_PATIENCE = timedelta(
    hours=1
)  # of a training with the leading process, which embeds words and looks at the data
_POLL_S = 0.2
_PIECE = 1 << 22  # bytes: the store takes up to 8 MiB at a time


def own_share() -> Share:
    """Return our share among torchrun's processes, the whole if we are alone. SanError for odd variables."""
    rank, world = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None or world is None or "MASTER_ADDR" not in os.environ or world == "1":
        return WHOLE
    try:
        return Share(int(rank), int(world))
    except (ValueError, SanError) as error:
        raise SanError(
            f"RANK={rank} and WORLD_SIZE={world} are not those of a process of torchrun",
            hint="Unset both to run as a single process.",
        ) from error


def local_rank() -> int:
    """Return our number among torchrun's processes, or srun's tasks, on this machine."""
    text = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID", "0")
    return int(text) if text.isdecimal() else 0


def processes_here() -> int:
    """Count the processes that torchrun has started on this machine."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, int(text)) if text.isdecimal() else 1


def default_workers(device_type: str) -> int:
    """Threads for each end of a pipeline: few beside a network on the same cores, enough for a GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = max(1, cores // processes_here())
    return max(1, cores // 4) if device_type == "cpu" else max(1, min(8, cores // 2))


def own_device(device: str) -> str:
    """Return this process's device where `device` ("auto", "cuda") leaves it open which GPU: each has its own."""
    import torch

    gpus = torch.cuda.device_count()
    return f"cuda:{local_rank() % gpus}" if device in ("auto", "cuda") and gpus > 1 else device


def restarted() -> bool:
    """Tell whether torchrun has started us again after a failure, so that the last checkpoint is to be taken up."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") not in ("", "0")


@dataclass(frozen=True)
class Processes:
    """This process among those of one `torchrun`, alone otherwise; process 0 leads: it writes files and talks."""

    share: Share = WHOLE
    store: "Store | None" = None
    _gathered: Iterator[int] = field(default_factory=count, repr=False, compare=False)

    @property
    def rank(self) -> int:
        """Our number, from 0."""
        return self.share.index

    @property
    def world(self) -> int:
        """Return how many there are."""
        return self.share.count

    @property
    def leads(self) -> bool:
        """Tell whether we are process 0."""
        return self.rank == 0

    def tell(self, what: str, value: bytes = b"") -> None:
        """Let the others know."""
        if self.store is None:
            return
        with _reaching_others():
            pieces = range(0, len(value), _PIECE)
            for number, start in enumerate(pieces):
                self.store.set(f"{what}/{self.rank}/{number}", value[start : start + _PIECE])  # type: ignore[arg-type]
            self.store.set(f"{what}/{self.rank}", str(len(pieces)))

    def hear(self, what: str, rank: int = 0) -> bytes:
        """Wait until process `rank` has told `what`, however long that takes, and return it."""
        assert self.store is not None, "there is nobody else"
        key = f"{what}/{rank}"
        with _reaching_others():
            while not self.store.check([key]):  # Store.wait would be deaf to Ctrl-C
                time.sleep(_POLL_S)
            return b"".join(bytes(self.store.get(f"{key}/{n}")) for n in range(int(self.store.get(key))))

    def from_leader(self, what: str, make: Callable[[], bytes]) -> bytes:
        """Return what `make` gives in the leading process."""
        if not self.leads:
            return self.hear(what)
        value = make()
        self.tell(what, value)
        return value

    @contextmanager
    def leader_first(self, what: str) -> Iterator[None]:
        """Let the leading process through the block before the others, which find in a cache what it made."""
        if not self.leads:
            self.hear(what)
        yield
        if self.leads:
            self.tell(what)

    def gather(self, value: _Value) -> list[_Value]:
        """Gather every process's value, by rank; they call this equally often, and wait for one another."""
        if self.world == 1:
            return [value]
        what = f"gathered/{next(self._gathered)}"
        self.tell(what, pickle.dumps(value))
        return [pickle.loads(self.hear(what, rank)) for rank in range(self.world)]

    def together(self, work: Callable[[], _Value]) -> list[_Value]:
        """Have every process do its `work`; returns what came of it in each, by rank.

        A SanError in one ends them all: that one at once, the others when they have done their own.
        """
        if self.world == 1:
            return [work()]
        fault: tuple[str, str] | None = None
        try:
            outcome = work(), fault
        except SanError as error:
            fault = error.message, error.hint
            self.tell(f"gathered/{next(self._gathered)}", pickle.dumps((None, fault)))
            raise
        outcomes = self.gather(outcome)
        for rank, (_, fault) in enumerate(outcomes):
            if fault is not None:
                message, hint = fault
                raise SanError(f"process {rank} stopped: {message}", hint=hint, code=ExitCode.SOME_FAILED)
        return [value for value, _ in outcomes]

    def wait(self) -> None:
        """Wait until all processes have come here."""
        self.gather(None)

    def leave(self) -> None:
        """Be done with the others; the leading process leaves last, as it may be the one that keeps the store."""
        if self.world == 1:
            return
        self.tell("left")
        if self.leads:
            for rank in range(1, self.world):
                self.hear("left", rank)

    def agree(self, what: str, value: str) -> None:
        """Raise SanError where the processes have different values."""
        values = dict.fromkeys(self.gather(value))
        if len(values) > 1:
            raise SanError(
                f"the processes differ in {what}: {', '.join(values)}",
                hint="They need the same command, the same data, and a folder -o that all of them see.",
            )


@dataclass(frozen=True)
class ProcessGroup(Processes):
    """Processes that train together, each on a device of its own, and add up numbers in every step."""

    device: "torch.device" = field(kw_only=True)

    def gather(self, value: _Value) -> list[_Value]:
        """Every process's value, by rank; a process that is lost ends the others' waiting, too."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def sums(self, *values: float) -> list[float]:
        """Sum each value over all processes, in float64."""
        if self.world == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(value) for value in total.cpu()]


ALONE = Processes()


def meet(patience: timedelta = _MEET) -> Processes:
    """Find the other processes of our torchrun; SanError if they can't be reached."""
    share = own_share()
    if share.count == 1:
        return ALONE
    with _reaching_others():
        from torch.distributed.rendezvous import rendezvous

        # `env://` reads torchrun's variables, its own store included.
        store, rank, world = next(iter(rendezvous("env://", timeout=patience)))
        return Processes(Share(rank, world), _of_this_round(store, rank, world, patience))


def _of_this_round(store: "Store", rank: int, world: int, patience: timedelta) -> "Store":
    """Return a part of the store that nobody has used before, the same for all of us.

    torchrun keeps its store when it starts us anew, and in it what our predecessors told, which must not be taken
    for our own. The leading process makes up a name and answers with it whoever asks; it has gone round when all
    have taken notice. What predecessors asked does no harm: nobody waits for those answers any more.
    """
    from torch.distributed import PrefixStore

    if rank:
        question = uuid.uuid4().hex
        store.set(f"san/question/{rank}", question)
        name = store.get(f"san/answer/{question}").decode()  # waits for it
        store.set(f"san/noticed/{name}/{rank}", "")
        return PrefixStore(name, store)
    name, others, started = uuid.uuid4().hex, set(range(1, world)), time.monotonic()
    while others:
        for other in sorted(others):
            if store.check([f"san/question/{other}"]):
                store.set(f"san/answer/{store.get(f'san/question/{other}').decode()}", name)
            if store.check([f"san/noticed/{name}/{other}"]):
                others.remove(other)
        if time.monotonic() - started > patience.total_seconds():
            raise SanError(f"processes {sorted(others)} have not come", code=ExitCode.SOME_FAILED)
        time.sleep(0.05)
    return PrefixStore(name, store)


@contextmanager
def joined(device: "torch.device") -> Iterator[ProcessGroup]:
    """Meet the others and join them in a process group for the length of the block.

    The group talks over nccl on CUDA, where each process has a GPU of its own, otherwise over gloo. SanError where
    one of the processes is lost on the way.
    """
    import torch.distributed as dist

    try:
        if own_share().count > 1 and device.type == "cuda":
            device = _own_gpu(device)
        processes = meet(_PATIENCE)
        if processes.world > 1:
            backend, own = ("nccl", device) if device.type == "cuda" else ("gloo", None)
            dist.init_process_group(
                backend,
                store=processes.store,
                rank=processes.rank,
                world_size=processes.world,
                timeout=_PATIENCE,
                device_id=own,
            )
        yield ProcessGroup(processes.share, processes.store, device=device)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise _lost(
            error,
            "One of them has ended; what it said above, if anything, is the cause. --resume goes on from the last "
            "checkpoint.",
        ) from error
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


def _own_gpu(device: "torch.device") -> "torch.device":
    import torch

    own = local_rank() if device.index is None else device.index
    if own >= torch.cuda.device_count():
        raise SanError(
            f"process {own} of this machine has no GPU of its own: PyTorch sees {torch.cuda.device_count()}",
            hint="Start as many processes as there are GPUs: torchrun --nproc-per-node gpu …",
        )
    device = torch.device("cuda", own)
    torch.cuda.set_device(device)
    return device


@contextmanager
def _reaching_others() -> Iterator[None]:
    """Trouble with the store is trouble with a process or the network, and a rerun mends it."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        raise _lost(
            error,
            "What is written is complete: run the same command again to go on. "
            "To run as a single process, unset RANK and WORLD_SIZE.",
        ) from error


def _lost(error: Exception, hint: str) -> SanError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return SanError(f"lost touch with the other processes ({reason})", hint=hint, code=ExitCode.SOME_FAILED)
