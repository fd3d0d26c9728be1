"""Large arrays made small enough to be shown or sent: every n-th element along each axis."""

import math
from collections.abc import Sequence

import numpy as np

TILES = 16  # this many of an array of pictures are kept before the pictures themselves are thinned


def thin(
    array: np.ndarray, limit: int, keep: Sequence[int] = ()
) -> tuple[np.ndarray, tuple[int, ...]]:
    """At most ``limit`` elements of ``array``, with the one at ``keep`` among them, and the step
    along each axis.

    The element that was at ``keep`` is then at ``keep[i] // steps[i]``.

    >>> thinned, steps = thin(np.arange(10), 4, keep=[7])
    >>> thinned, steps
    (array([3, 7]), (4,))
    """
    steps = [1] * array.ndim
    while (
        math.prod(kept := [math.ceil(n / step) for n, step in zip(array.shape, steps, strict=True)])
        > limit
    ):
        tiles = kept[:-2]
        axes = range(len(tiles)) if math.prod(tiles) > TILES else range(array.ndim)
        steps[max(axes, key=kept.__getitem__)] *= 2
    starts = (
        [k % step for k, step in zip(keep, steps, strict=True)] if len(keep) else [0] * array.ndim
    )
    chosen = array[
        tuple(slice(start, None, step) for start, step in zip(starts, steps, strict=True))
    ]
    return np.asarray(chosen), tuple(steps)  # of an array without axes, indexing makes a scalar
