"""A bar for notebooks and scripts; the commands have their own, see `cli/progress.py`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(total: int, *, shown: bool) -> Iterator[Callable[[int], object]]:
    """Show how many images of `total` are done; the function given takes how many more."""
    if not shown:
        yield lambda _: None
        return
    from tqdm.auto import tqdm  # only now: in a notebook without widgets the import itself warns

    with tqdm(total=total, unit="image") as shown_bar:
        yield shown_bar.update
