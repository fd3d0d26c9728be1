"""Where do the wrong elements lie? In one row, at the border, at ties, where the input is negative.

>>> import numpy as np
>>> confined(np.array([[False, True, True], [False, False, False], [False, False, False]])).words
'only row (batch entry) 0 of axis 0'
"""

from typing import NamedTuple

import numpy as np


class Pattern(NamedTuple):
    """How the wrong elements lie, and what that suggests."""

    words: str = ""
    cause: str = ""

    def __bool__(self) -> bool:
        return bool(self.words)


NONE = Pattern()


def confined(off: np.ndarray) -> Pattern:
    """One element, one slice, or the border."""
    if off.all() or off.ndim == 0 or off.size < 3:
        return NONE
    if off.sum() == 1:
        at = [int(i[0]) for i in np.nonzero(off)]
        return Pattern(
            f"only the element at {at}",
            "one element alone is off: an edge of the index range, or an element written twice or"
            " never?",
        )
    for axis, n in enumerate(off.shape):
        rows = np.flatnonzero(off.any(axis=tuple(a for a in range(off.ndim) if a != axis)))
        if len(rows) == 1 and n > 2:
            place = {0: "first", n - 1: "last"}.get(int(rows[0]), f"index {rows[0]}")
            row = "row (batch entry)" if axis == 0 else "slice"
            cause = (
                f"only one {row} is off, the {place} of axis {axis}: an off-by-one at the end, or"
                " an index that forgets the others?"
            )
            return Pattern(f"only {row} {rows[0]} of axis {axis}", cause)
    wide = [a for a in range(off.ndim) if off.shape[a] >= 4]
    for axes in (wide, [a for a in wide if 0 < a < off.ndim - 1]):
        inner = tuple(slice(1, -1) if a in axes else slice(None) for a in range(off.ndim))
        if axes and not off[inner].any():
            return Pattern(
                "only the border",
                "only elements at the border are off: padding, or a window that hangs over the"
                " edge?",
            )
    return NONE


def tied(off: np.ndarray, x: np.ndarray | None) -> Pattern:
    """Where the input ``x`` is 0, equals another element, or has one sign."""
    if x is None or x.shape != off.shape or off.all() or np.iscomplexobj(x):
        return NONE
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    ties, zero = (counts[inverse].reshape(x.shape) > 1) & (x != 0), x == 0
    if off[zero].any() and not off[~zero].any():
        return Pattern(
            "only where the input is 0",
            "only elements where the input is 0 are off: the convention at a kink, or 0/0?",
        )
    if off[ties].any() and not off[~ties].any():
        return Pattern(
            "only ties: elements that equal another",
            "only tied elements are off: does each of them get the whole cotangent?",
        )
    for side, words in ((x > 0, "positive"), (x < 0, "negative")):
        if side.any() and off[side].all() and not off[~side].any():
            return Pattern(
                f"only where the input is {words}",
                f"every element with {words} input is off, the others are right: the wrong branch"
                " or mask?",
            )
    return NONE
