"""Where an op is searched for faults: cases drawn with their geometry, their settings and their
sizes.

A space is a function that makes a :class:`~jaxcnn._core.case.Case` out of choices. Who draws is not
its concern: a generator of random numbers, or a library that also shrinks what it drew. The first
of several values, and the lowest of several integers, is the simplest: a search for the smallest
failing case goes that way.

>>> import types
>>> simplest = types.SimpleNamespace(integer=lambda low, high: low, among=lambda *each: each[0])
>>> any_shape(simplest).inputs
(Draw(kind='normal', shape=(), scale=1.0, high=0, values=None),)
"""

from typing import Any, Protocol, runtime_checkable

from jaxcnn._core.case import Case, Draw, normal
from jaxcnn._core.window import extent_of


@runtime_checkable
class Choose(Protocol):
    """What a space draws from."""

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both counted."""
        ...

    def among(self, *values: Any) -> Any:
        """One of the values."""
        ...


def windows(
    choose: Choose, *, dilations: bool = True
) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """(cells, window, settings): a window of 1 to 3 axes, with stride, padding and dilation, and a
    spatial shape that it fits into."""
    rank = choose.integer(1, 3)
    most = 3 if rank < 3 else 2  # 27 taps would take long to compile
    taps = tuple(choose.integer(1, most) for _ in range(rank))
    dilation = tuple(choose.integer(1, 2) if dilations else 1 for _ in range(rank))
    stride = tuple(choose.integer(1, 3) for _ in range(rank))
    padding = choose.among("VALID", "SAME", 1, "pairs")
    if padding == "pairs":
        padding = tuple((choose.integer(0, 2), choose.integer(0, 2)) for _ in range(rank))
    cells = tuple(e + choose.integer(0, 4) for e in extent_of(taps, dilation))
    settings = {"stride": stride, "padding": padding}
    return cells, taps, settings | ({"dilation": dilation} if dilations else {})


def some(choose: Choose, most: int = 2, *, least: int = 0) -> tuple[int, ...]:
    """The lengths of ``least`` to ``most`` axes."""
    return tuple(choose.integer(1, 3) for _ in range(choose.integer(least, most)))


def any_shape(choose: Choose, draw: Any = normal) -> Case:
    """One array of 0 to 3 axes."""
    drawn: Draw = draw(*some(choose, 3))
    return Case("drawn", (drawn,), batched=())
