"""Shares of a list of images, where several work on one list."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from san_cli.errors import SanError

WINDOW = 8  # batches whose images are sorted by size together; also what is dealt out to processes


@dataclass(frozen=True)
class Share:
    """Part `index` (from 0) of `count` of a list, dealt out in turn."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        """SanError for a part that isn't there."""
        if not 0 <= self.index < self.count:
            raise SanError(f"there is no part {self.index + 1} of {self.count}")

    def __str__(self) -> str:
        """Return it as people write it: "3/8"."""
        return f"{self.index + 1}/{self.count}"

    def windows(self, images: int, batch: int) -> Iterator[range]:
        """Yield the runs of positions, ascending, in a list of so many images that are this share's.

        Batches never reach beyond such a window, so that they are the same in every share and after a resume.
        """
        length = batch * WINDOW if batch > 1 else 1
        for start in range(self.index * length, images, self.count * length):
            yield range(start, min(start + length, images))

    def positions(self, images: int, batch: int) -> Iterator[int]:
        """Yield the same positions one by one."""
        for window in self.windows(images, batch):
            yield from window


WHOLE = Share()


def parse_shard(text: str) -> Share:
    """Parse the share that `--shard i/n` means, i from 1. SanError for anything else."""
    hint = "Write --shard i/n with i from 1 to n, or auto: what torchrun, Slurm or $SAN_SHARD says."
    return parse_share(text, "--shard", hint)


def parse_share(text: str, who: str, hint: str) -> Share:
    """Parse `i/n`, i from 1; SanError with `hint` for anything else that `who` says."""
    found = re.fullmatch(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise SanError(f"{who} '{text}' is not a part such as 1/4", hint=hint)
    return Share(int(found[1]) - 1, int(found[2]))
