"""The neighbourhood of every place, handed out: the way to any kernel function, not only a weighted
sum.

    y[n,p,k,c]  = x[n, p·s + k·d − lo, c]
    dx[n,q,c]   = Σ_{p,k : p·s + k·d − lo = q} dy[n,p,k,c]

n example, p place, k tap, c channel, q cell, s stride, d dilation, lo padding in front; x is 0
outside.

Shapes: x (n, *space, c) → (n, *places, *window, c), so that
``patches(x, window=3).reshape(n, h, w, -1) @ w.reshape(-1, o)`` is a convolution and ``jnp.median``
over the window axes is the median filter. Kept: nothing but the input's shape. No kinks. Raises
ValueError for geometry that does not fit, TypeError for integers. Source, in experiments/README.md:
S4.11.

>>> import jax.numpy as jnp
>>> patches(jnp.arange(4.0).reshape(1, 4, 1), window=2)[0, :, :, 0]
Array([[0., 1.],
       [1., 2.],
       [2., 3.]], dtype=float32)
"""

import math

import jax.numpy as jnp
import numpy as np

from jaxcnn._core.case import Bad, Case, normal, zeros
from jaxcnn._core.contracts import Array, Float
from jaxcnn._core.cotangent import Static
from jaxcnn._core.errors import check_floating, setting_error
from jaxcnn._core.op import Op
from jaxcnn._core.space import Choose, windows
from jaxcnn._core.window import Ints, Padding, Window, add_taps, per_axis, resolve, taps_of

MOST_TAPS = 2**16


def forward(
    x: Float[Array, "n *space c"],
    *,
    window: Ints,
    stride: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
) -> tuple[Float[Array, "n *patches c"], Static[Window]]:
    over = geometry("patches", x, window, stride, padding, dilation)
    stacked = jnp.stack([seen for _, seen in taps_of(x, over)], axis=-2)
    return stacked.reshape(x.shape[0], *over.places, *over.taps, x.shape[-1]), Static(over)


def backward(
    residuals: Static[Window],
    dy: Float[Array, "n *patches c"],
    /,
    *,
    window: Ints,
    stride: Ints = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
) -> tuple[Float[Array, "n *space c"]]:
    over = residuals.value
    rank = len(over.taps)
    # dx[n,q,c] = Σ_{p,k : p·s + k·d − lo = q} dy[n,p,k,c]
    parts = ((tap, dy[(slice(None),) * (rank + 1) + tap]) for tap in over.offsets())
    return (add_taps(parts, over).astype(dy.dtype),)


def geometry(
    op: str, x: Array, window: Ints, stride: Ints | None, padding: Padding, dilation: Ints
) -> Window:
    """The window of a pooling-like op over x, checked; no ``stride`` means that windows touch."""
    check_floating(op, x=x)
    if x.ndim not in (3, 4, 5):
        raise ValueError(
            f"{op}: `x` must have 3, 4 or 5 axes (n, 1 to 3 spatial, channels), got shape"
            f" {tuple(x.shape)}"
        )
    steps = window if stride is None else stride
    taps = per_axis(op, "window", window, x.ndim - 2)
    if math.prod(taps) > MOST_TAPS:
        raise setting_error(
            op,
            "window",
            f"of at most {MOST_TAPS} taps, each of which is a part of the program",
            window,
        )
    return resolve(op, x.shape[1:-1], window=taps, stride=steps, padding=padding, dilation=dilation)


def reference(
    x: Array,
    *,
    window: Ints,
    stride: Ints | None = 1,
    padding: Padding = "VALID",
    dilation: Ints = 1,
    fill: float = 0.0,
) -> Array:
    """Gather by tables of indices, one axis after the other."""
    over = geometry("patches", x, window, stride, padding, dilation)
    rank = len(over.taps)
    y = jnp.pad(x, ((0, 0), *over.padding, (0, 0)), constant_values=fill)
    for axis in range(rank):
        starts = np.arange(over.places[axis]) * over.stride[axis]
        cells = starts[:, None] + np.arange(over.taps[axis]) * over.dilation[axis]
        y = jnp.take(y, cells, axis=1 + 2 * axis)  # (n, p0, k0, …, cells, …, c)
    places, taps = range(1, 2 * rank, 2), range(2, 2 * rank + 1, 2)
    return y.transpose(0, *places, *taps, 2 * rank + 1)


CASES = (
    Case("2-D", (normal(2, 5, 4, 2),), {"window": 3}),
    Case("2-D, stride, padding, dilation", (normal(2, 7, 6, 2),), {"window": (2, 3), "stride": (2, 1), "padding": ((0, 1), (1, 2)), "dilation": 2}),  # noqa: E501
    Case("1-D, SAME", (normal(3, 5, 2),), {"window": 4, "padding": "SAME"}),
    Case("1-D, gaps", (normal(2, 9, 1),), {"window": 2, "stride": 4}),
    Case("3-D", (normal(1, 3, 4, 3, 2),), {"window": 2, "padding": 1, "stride": 2}),
)  # fmt: skip


def space(choose: Choose) -> Case:
    cells, window, settings = windows(choose)
    x = normal(choose.integer(1, 3), *cells, choose.integer(1, 2))
    return Case("drawn", (x,), {"window": window, **settings})


BAD = (
    Bad(
        "window",
        (zeros(1, 3, 1),),
        "patches: the window covers 4 cells along spatial axis 0",
        {"window": 4},
    ),
    Bad("no window", (zeros(1, 3, 1),), "patches: missing setting `window`", error=TypeError),
    Bad("rank", (zeros(3, 1),), "patches: `x` must have 3, 4 or 5 axes", {"window": 2}),
)

patches = Op(
    "patches",
    forward,
    backward,
    reference,
    CASES,
    bad=BAD,
    doc=__doc__,
    space=space,
    equation="y[p,k,c] = x[p·s + k·d − lo, c]",
    keeps="nothing",
)
