"""The largest value in each window.

    y[n,p,c]  = max_k x[n, p·s + k·d − lo, c]
    m[n,p,c]  = the first k, in row-major order, that attains it
    dx[n,q,c] = Σ_{p : p·s + m[n,p,c]·d − lo = q} dy[n,p,c]

n example, p place, k tap, c channel, q cell, s stride (default: the window, so that windows touch),
d dilation, lo padding in front; x is −∞ outside.

Shapes: x (n, *space, c) → (n, *places, c). Kept: m, one byte an output (two where a window has more
than 256 taps), instead of the input. A window that lies in the padding alone
gives −∞ and passes nothing back. Ties: the whole gradient goes to the first maximum (as in XLA's
select-and-scatter and in PyTorch). NaN counts as largest. The backward writes by comparison,
without scatter, and can be differentiated again: windows may overlap, be padded and dilated, for
which JAX has no second derivative (and, dilated, no first). Raises ValueError for geometry that
does not fit, TypeError for integers. Source, in experiments/README.md: S0.3, S1.4, S4.9.

>>> import jax, jax.numpy as jnp
>>> rows = [[29., 15., 28., 184.], [0., 100., 70., 38.], [12., 12., 7., 2.], [12., 12., 45., 6.]]
>>> x = jnp.array(rows).reshape(1, 4, 4, 1)
>>> max_pool(x)[0, :, :, 0]
Array([[100., 184.],
       [ 12.,  45.]], dtype=float32)
>>> # a tie of four: the first cell gets it all
>>> jax.grad(lambda x: max_pool(x).sum())(x)[0, 2:, :2, 0]
Array([[1., 0.],
       [0., 0.]], dtype=float32)
"""

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn._core.case import Bad, Case, Kink, distinct, zeros
from jaxcnn._core.contracts import Array, Float, Integer
from jaxcnn._core.cotangent import Static
from jaxcnn._core.op import Op
from jaxcnn._core.space import Choose, windows
from jaxcnn._core.window import Ints, Padding, Window, add_taps, taps_of
from jaxcnn.ops._patches import geometry
from jaxcnn.ops._patches import reference as gather

Residuals = tuple[Integer[Array, "n *places c"], Static[Window]]


def forward(
    x: Float[Array, "n *space c"],
    *,
    window: Ints = 2,
    stride: Ints | None = None,
    padding: Padding = "VALID",
    dilation: Ints = 1,
) -> tuple[Float[Array, "n *places c"], Residuals]:
    over = geometry("max_pool", x, window, stride, padding, dilation)
    (_, y), *others = taps_of(x, over, fill=-jnp.inf)
    index = jnp.zeros_like(y, _index_dtype(over))
    for number, (_, seen) in enumerate(others, start=1):
        larger = (seen > y) | (jnp.isnan(seen) & ~jnp.isnan(y))
        y, index = (
            jnp.where(larger, seen, y),
            jnp.where(larger, jnp.array(number, index.dtype), index),
        )
    return y, (index, Static(over))


def backward(
    residuals: Residuals,
    dy: Float[Array, "n *places c"],
    /,
    *,
    window: Ints = 2,
    stride: Ints | None = None,
    padding: Padding = "VALID",
    dilation: Ints = 1,
) -> tuple[Float[Array, "n *space c"]]:
    index, static = residuals
    over = static.value
    # dx[n,q,c] = Σ_{p : p·s + m[n,p,c]·d − lo = q} dy[n,p,c]
    if over.is_tiling and not any(map(any, over.padding)):
        return (_write_tiles(index, dy, over),)
    parts = ((tap, jnp.where(index == number, dy, 0)) for number, tap in enumerate(over.offsets()))
    return (add_taps(parts, over).astype(dy.dtype),)


def _write_tiles(index: Array, dy: Array, over: Window) -> Array:
    """Where windows touch, each cell compares its own place in the window with m: one pass over dx,
    nothing to add."""
    n, c = dy.shape[0], dy.shape[-1]
    spread = [n, *(length for b in over.places for length in (b, 1)), c]  # n, p0, 1, p1, 1, …, c
    full = [
        n,
        *(length for b, k in zip(over.places, over.taps, strict=True) for length in (b, k)),
        c,
    ]
    own = np.arange(np.prod(over.taps)).reshape(
        [1, *(length for k in over.taps for length in (1, k)), 1]
    )
    own = jnp.asarray(own, index.dtype)
    tiles = jnp.where(index.reshape(spread) == own, dy.reshape(spread), 0)
    dx = tiles.reshape(n, *(b * k for b, k in zip(full[1:-1:2], full[2:-1:2], strict=True)), c)
    rest = [(0, a - b * k, 0) for a, b, k in zip(over.cells, over.places, over.taps, strict=True)]
    return lax.pad(dx, jnp.array(0, dx.dtype), [(0, 0, 0), *rest, (0, 0, 0)])


def _index_dtype(over: Window) -> type:
    count = int(np.prod(over.taps))
    return jnp.uint8 if count <= 2**8 else jnp.uint16


def reference(
    x: Array,
    *,
    window: Ints = 2,
    stride: Ints | None = None,
    padding: Padding = "VALID",
    dilation: Ints = 1,
) -> Array:
    gathered = gather(
        x, window=window, stride=stride, padding=padding, dilation=dilation, fill=-jnp.inf
    )
    rank = x.ndim - 2
    return gathered.max(tuple(range(1 + rank, 1 + 2 * rank)))


CASES = (
    Case("2-D, 2×2", (distinct(2, 6, 4, 3),)),
    Case("2-D, overlapping, padded", (distinct(2, 6, 7, 2),), {"window": 3, "stride": 2, "padding": "SAME"}),  # noqa: E501
    Case("2-D, cells left over", (distinct(2, 7, 5, 2),), {"window": (3, 2)}),
    Case("2-D, dilated", (distinct(1, 7, 8, 2),), {"window": 3, "stride": 1, "dilation": 2}),
    Case("2-D, dilated, overlapping, asymmetric padding", (distinct(2, 6, 5, 2),), {"window": (2, 3), "stride": (1, 2), "padding": ((0, 1), (2, 1)), "dilation": (3, 1)}),  # noqa: E501
    Case("2-D, tiles with padding", (distinct(1, 5, 6, 2),), {"window": 2, "padding": 1}),
    Case("1-D", (distinct(3, 6, 2),)),
    Case("1-D, gaps", (distinct(2, 9, 2),), {"window": 2, "stride": 4}),
    Case("3-D", (distinct(1, 4, 4, 6, 2),), {"window": (2, 2, 3)}),
    Case("2-D, 272 taps", (distinct(1, 18, 16, 1),), {"window": (17, 16), "stride": 1}),
)  # fmt: skip


def space(choose: Choose) -> Case:
    cells, window, settings = windows(choose)
    x = distinct(choose.integer(1, 3), *cells, choose.integer(1, 2))
    return Case("drawn", (x,), {"window": window, **settings})


def _row(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float64).reshape(1, -1, 1)


_square = np.zeros((1, 2, 2, 1))
_first = np.array([1.0, 0, 0, 0]).reshape(1, 2, 2, 1)

KINKS = (
    Kink("all four equal: the first", (_square + 3,), _first),
    Kink("all four zero: the first", (_square,), _first),
    Kink("the second and third equal: the second", (_row(1, 2, 2),), _row(0, 1, 0), {"window": 3}),
    Kink(
        "one cell is the largest of two windows",
        (_row(1, 2, 1),),
        _row(0, 2, 0),
        {"window": 2, "stride": 1},
    ),
    Kink(
        "a tie with the neighbouring window",
        (_row(2, 2, 2),),
        _row(1, 1, 0),
        {"window": 2, "stride": 1},
    ),
)

BAD = (
    Bad(
        "window",
        (zeros(1, 3, 3, 1),),
        "max_pool: the window covers 4 cells along spatial axis 0",
        {"window": 4},
    ),
    Bad(
        "dtype",
        (zeros(1, 3, 3, 1, dtype="int32"),),
        "max_pool: `x` must be a floating-point array",
        error=TypeError,
    ),
    Bad(
        "stride",
        (zeros(1, 3, 3, 1),),
        "setting `stride` must be an integer ≥ 1 or 2 of them",
        {"stride": (1, 2, 3)},
    ),
    Bad(
        "padding",
        (zeros(1, 3, 3, 1),),
        "setting `padding` must be 'SAME', 'VALID'",
        {"padding": -1},
    ),
)

max_pool = Op(
    "max_pool",
    forward,
    backward,
    reference,
    CASES,
    KINKS,
    BAD,
    doc=__doc__,
    space=space,
    equation="y[p,c] = max_k x[p·s + k·d − lo, c]",
    keeps="index of the maximum",
)
