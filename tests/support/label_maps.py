"""Random label maps of every nasty shape: single pixels, lines, nested holes, touches at corners, odd sizes."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray


def label_maps(*, lowest: int = -1, highest: int = 2, side: int = 14) -> st.SearchStrategy[NDArray[np.int16]]:
    """Maps [H, W] int16 of up to `side` blocks of 1 to 3 pixels; -1 is unlabelled."""

    def enlarged(blocks: NDArray[np.int16], scale: tuple[int, int]) -> NDArray[np.int16]:
        return np.repeat(np.repeat(blocks, scale[0], axis=0), scale[1], axis=1)

    shapes = st.tuples(st.integers(1, side), st.integers(1, side))
    blocks = shapes.flatmap(lambda shape: arrays(np.int16, shape, elements=st.integers(lowest, highest)))
    return st.builds(enlarged, blocks, st.tuples(st.integers(1, 3), st.integers(1, 3)))
