"""Work ahead in threads, a bounded way, with the order kept."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def threaded(
    function: Callable[[_In], _Out],
    items: Iterable[_In],
    *,
    threads: int,
    ahead: int,
    at_once: bool = False,
) -> Generator[_Out, None, None]:
    """Map `function` over `items` by `threads` threads, with `ahead` further items begun when one is handed out.

    The results come in order; an exception of `function` is raised in its item's place. `items` is consumed in the
    caller's thread; where a further one takes long, `at_once` hands out what is there before. When the iterator is
    closed, what has begun is finished and nothing else started.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="san")
    pending: deque[Future[_Out]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            del item  # it may be large, and the next one takes its time
            while pending and (len(pending) > ahead or (at_once and pending[0].done())):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
