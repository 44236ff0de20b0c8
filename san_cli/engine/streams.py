"""Streams: on a CPU, several images at once, each by a thread that has its part of PyTorch's threads.

Threads that share an image out wait for one another at the end of every operation; those that have an image of their
own don't. What there is one of gets all of PyTorch's threads, as ever. Results don't depend on either.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from san_cli.engine.forked import settle_threads
from san_cli.engine.memory import free_memory
from san_cli.engine.segmenter import Segmenter

_MOST = 4  # streams: each holds an image, and what the network makes of it
_STREAM_MB = 1000  # that may be, for an image of the largest size

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def streams_for(segmenter: Segmenter, batch: int) -> int:
    """Tell how many streams a model's batches are segmented in: one, where it has no threads or memory to share."""
    settle_threads()  # or those that were lost in a fork would be shared out
    is_pytorch = segmenter.network is segmenter.model  # not another runtime, nor compiled
    if segmenter.device.type != "cpu" or not is_pytorch:
        return 1
    room = int(min(free_memory(), 1e6) / (_STREAM_MB * batch))
    return max(1, min(_MOST, torch.get_num_threads(), room))


def streamed(
    work: Callable[[_In, int], _Out],
    items: Iterable[_In],
    *,
    streams: int,
    is_alone: Callable[[_In], bool],
) -> Generator[_Out, None, None]:
    """Map `work` over `items`, in order; it is told how many items are worked on at once.

    That is `streams`, in threads of their own, with one further item waiting. An item that `is_alone`, and one that
    lacks memory beside others, and all after that, are worked on in the caller's thread while nothing else is. When
    the iterator is closed, what is worked on is finished and nothing else started.
    """
    threads, crowded = torch.get_num_threads(), streams == 1
    parts = iter([(threads + number) // streams for number in range(streams)])
    # PyTorch's number of threads is each thread's own; threads to come take the one that was set last.
    pool = ThreadPoolExecutor(streams, "san-stream", initializer=lambda: torch.set_num_threads(next(parts)))
    begun: deque[tuple[_In, Future[_Out]]] = deque()  # but for what is alone

    def first() -> _Out:
        nonlocal crowded
        item, future = begun[0]
        error = future.exception()
        begun.popleft()
        if error is None:
            return future.result()
        if not is_out_of_memory(error):
            raise error
        crowded = True
        del error, future  # they keep tensors alive
        wait([future for _, future in begun])
        return work(item, 1)

    try:
        for item in items:
            alone = crowded or is_alone(item)
            if not alone:
                begun.append((item, pool.submit(work, item, streams)))
            while len(begun) > (0 if alone else streams):
                yield first()
            done = [work(item, 1)] if alone else []
            del item  # it may be large, and the next one takes its time
            yield from done
        while begun:
            yield first()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        # By their work, as a second Ctrl-C while threads are joined has Python forget them, and end while they run.
        wait([future for _, future in begun if not future.cancelled()])
        pool.shutdown()
        if streams > 1:
            torch.set_num_threads(threads)


def is_out_of_memory(error: BaseException) -> bool:
    """PyTorch has a class for it on CUDA, and on the CPU a RuntimeError of "can't allocate memory"."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )
