"""Areas of rings, with a sign that tells outlines from holes."""

import numpy as np
from numpy.typing import NDArray


def ring_areas(points: NDArray[np.number], starts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Areas [R], in pixels, of the rings that begin at `starts` among `points` [N, 2].

    They are above 0 where a ring goes clockwise as seen, as y goes down.
    """
    following = np.concatenate([points[1:], points[:1]])
    following[np.append(starts[1:], len(points)) - 1] = points[starts]
    x, y = points.astype(np.float64).T
    return np.add.reduceat(x * following[:, 1] - following[:, 0] * y, starts) / 2
