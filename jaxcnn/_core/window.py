"""The arithmetic of a sliding window: size, stride, padding and dilation, once, for convolution and
pooling.

Along one axis of length ``a`` a window of ``k`` taps, ``d`` apart, covers ``e = (k − 1)·d + 1``
cells. With ``lo`` and ``hi`` cells of padding and stride ``s`` it stops at
``b = ⌊(a + lo + hi − e) / s⌋ + 1`` places, and tap ``t`` at place ``p`` reads cell
``p·s + t·d − lo``.

``SAME`` pads so that ``b = ⌈a / s⌉``, with the odd cell behind; ``VALID`` does not pad; an integer
pads both ends; a sequence gives one entry an axis, each an integer or a pair ``(lo, hi)``.

>>> # S4.7: a 9×9 image, padding 2, stride 2, 3×3 kernel
>>> resolve("conv", (9, 9), window=3, stride=2, padding=2, dilation=1).places
(6, 6)
"""

import itertools
import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxcnn._core.contracts import Array
from jaxcnn._core.errors import setting_error
from jaxcnn._core.upcast import upcast

LARGEST = 2**31 - 1  # what 32-bit indices reach; beyond 2^63, XLA ends the process
PADDING_IS = (
    "'SAME', 'VALID', an integer ≥ 0, or one integer or (lo, hi) pair for each spatial axis, at"
    " most 2147483647"
)
Ints = int | Sequence[int]
Padding = str | int | Sequence[int | Sequence[int]]


class Window(NamedTuple):
    """One resolved geometry; every field has one entry for each spatial axis."""

    cells: tuple[int, ...]
    taps: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    places: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """Cells from the first tap to the last, both counted."""
        return extent_of(self.taps, self.dilation)

    @property
    def is_tiling(self) -> bool:
        """Whether windows touch without overlapping or gaps: each cell belongs to at most one
        window."""
        return self.taps == self.stride and all(d == 1 for d in self.dilation)

    def offsets(self) -> Iterator[tuple[int, ...]]:
        """The taps in row-major order."""
        return itertools.product(*map(range, self.taps))


def resolve(
    op: str, cells: Sequence[int], *, window: Ints, stride: Ints, padding: Padding, dilation: Ints
) -> Window:
    """Settings of ``op`` as a :class:`Window` over ``cells`` (the spatial shape), or the reason why
    there is none."""
    rank = len(cells)
    taps = per_axis(op, "window", window, rank)
    steps = per_axis(op, "stride", stride, rank)
    gaps = per_axis(op, "dilation", dilation, rank)
    extent = extent_of(taps, gaps)
    if padding == "SAME":
        totals = [
            max((-(-a // s) - 1) * s + e - a, 0)
            for a, e, s in zip(cells, extent, steps, strict=True)
        ]
        pads = tuple((total // 2, total - total // 2) for total in totals)
    else:
        pads = pads_of(op, padding, rank)
    padded = math.prod(
        max(a + lo + hi, e) for a, e, (lo, hi) in zip(cells, extent, pads, strict=True)
    )
    if padded > LARGEST:
        raise ValueError(
            f"{op}: the padded input and the window must lie within {LARGEST} cells, got {padded} "
            f"(input {tuple(cells)}, window {taps}, dilation {gaps}, padding {pads}); "
            "use a smaller window, dilation or padding"
        )
    places = []
    for axis, (a, e, s, (lo, hi)) in enumerate(zip(cells, extent, steps, pads, strict=True)):
        if a + lo + hi < e:
            raise ValueError(
                f"{op}: the window covers {e} cells along spatial axis {axis} but the padded input"
                f" has {a + lo + hi} (input {tuple(cells)}, window {taps}, dilation {gaps}, padding"
                f" {pads}); use a smaller window or dilation, or more padding"
            )
        places.append((a + lo + hi - e) // s + 1)
    return Window(tuple(cells), taps, steps, pads, gaps, tuple(places))


def extent_of(taps: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Cells from the first tap to the last, both counted, along each axis."""
    return tuple((k - 1) * d + 1 for k, d in zip(taps, dilation, strict=True))


def per_axis(op: str, name: str, value: Ints, rank: int) -> tuple[int, ...]:
    """The setting as one integer from 1 to LARGEST for each axis."""
    values = (value,) * rank if not isinstance(value, Sequence) else tuple(value)
    expected = (
        f"an integer ≥ 1 or {rank} of them (the input has {rank} spatial"
        f" {'axis' if rank == 1 else 'axes'}), at most {LARGEST}"
    )
    if (
        isinstance(value, str)
        or len(values) != rank
        or not all(_is_int(v) and 1 <= v <= LARGEST for v in values)
    ):
        raise setting_error(op, name, expected, value)
    return tuple(map(operator.index, values))


def _is_int(value: object) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def pads_of(op: str, padding: Padding, rank: int) -> tuple[tuple[int, int], ...]:
    """``(lo, hi)`` for each axis, of a padding that does not depend on the input (all but
    ``SAME``)."""
    if padding == "VALID":
        return ((0, 0),) * rank
    entries = (padding,) * rank if not isinstance(padding, Sequence) else tuple(padding)
    pairs: tuple[tuple[Any, ...], ...] = tuple(
        (p, p) if not isinstance(p, Sequence) else tuple(p) for p in entries
    )
    good = len(pairs) == rank and all(
        len(p) == 2 and all(_is_int(v) and 0 <= v <= LARGEST for v in p) for p in pairs
    )
    if isinstance(padding, str) or not good:
        raise setting_error(op, "padding", PADDING_IS, padding)
    return tuple((operator.index(lo), operator.index(hi)) for lo, hi in pairs)


def taps_of(x: Array, window: Window, fill: float = 0.0) -> Iterator[tuple[tuple[int, ...], Array]]:
    """For each tap, in row-major order, what it reads at every place: ``x`` (n, *cells, c) gives
    (n, *places, c)."""
    padded = lax.pad(
        x,
        jnp.array(fill, x.dtype),
        [(0, 0, 0), *((lo, hi, 0) for lo, hi in window.padding), (0, 0, 0)],
    )
    for tap in window.offsets():
        start = [t * d for t, d in zip(tap, window.dilation, strict=True)]
        stop = [
            o + (b - 1) * s + 1 for o, b, s in zip(start, window.places, window.stride, strict=True)
        ]
        yield (
            tap,
            lax.slice(
                padded, [0, *start, 0], [x.shape[0], *stop, x.shape[-1]], [1, *window.stride, 1]
            ),
        )


def add_taps(parts: Iterator[tuple[tuple[int, ...], Array]], window: Window) -> Array:
    """The adjoint of :func:`taps_of`: lay what each tap read back over the input's cells, and add
    where they meet.

    16-bit parts are added, and returned, in float32. Zero padding with holes (``lax.pad``) places a
    part; there is no scatter, and every step can be differentiated again."""
    laid = []
    for tap, part in parts:
        config = [(0, 0, 0)]
        for t, d, s, b, a, (lo, _) in zip(
            tap,
            window.dilation,
            window.stride,
            window.places,
            window.cells,
            window.padding,
            strict=True,
        ):
            first = t * d - lo
            config.append((first, a - first - (b - 1) * s - 1, s - 1))
        part = upcast(part)
        laid.append(lax.pad(part, jnp.array(0, part.dtype), [*config, (0, 0, 0)]))
    return sum(laid[1:], laid[0])
