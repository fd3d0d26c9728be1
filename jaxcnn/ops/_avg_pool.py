"""The mean of each window.

    y[n,p,c]  = 1/N[p] · Σ_k x[n, p·s + k·d − lo, c]
    dx[n,q,c] = Σ_{p,k : p·s + k − lo = q} dy[n,p,c] / N[p]

n example, p place, k tap, c channel, q cell, s stride (default: the window), lo padding in front; x
is 0 outside. N is the number of taps, or with ``count_include_pad=False`` the number of taps that
fall inside the image.

Shapes: x (n, *space, c) → (n, *places, c). Kept: nothing but the input's shape. No kinks. Raises
ValueError for geometry that does not fit, and with ``count_include_pad=False`` for a window that
lies in the padding alone; TypeError for integers. Source, in experiments/README.md: S0.4.

>>> import jax.numpy as jnp
>>> rows = [[31., 15., 28., 184.], [0., 100., 70., 38.], [12., 12., 7., 2.], [12., 12., 45., 6.]]
>>> x = jnp.array(rows).reshape(1, 4, 4, 1)
>>> avg_pool(x)[0, :, :, 0]
Array([[36.5, 80. ],
       [12. , 15. ]], dtype=float32)
"""

import jax.numpy as jnp
import numpy as np

from jaxcnn._core.case import Bad, Case, normal, zeros
from jaxcnn._core.contracts import Array, Float
from jaxcnn._core.cotangent import Static
from jaxcnn._core.op import Op
from jaxcnn._core.space import Choose, windows
from jaxcnn._core.upcast import upcast
from jaxcnn._core.window import Ints, Padding, Window, add_taps, resolve, taps_of
from jaxcnn.ops._patches import geometry
from jaxcnn.ops._patches import reference as gather


def forward(
    x: Float[Array, "n *space c"],
    *,
    window: Ints = 2,
    stride: Ints | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
) -> tuple[Float[Array, "n *places c"], Static[Window]]:
    over = geometry("avg_pool", x, window, stride, padding, 1)
    total = sum(seen for _, seen in taps_of(upcast(x), over))
    return (total * _weights(over, count_include_pad, upcast(x).dtype)).astype(x.dtype), Static(
        over
    )


def backward(
    residuals: Static[Window],
    dy: Float[Array, "n *places c"],
    /,
    *,
    window: Ints = 2,
    stride: Ints | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
) -> tuple[Float[Array, "n *space c"]]:
    over = residuals.value
    share = upcast(dy) * _weights(over, count_include_pad, upcast(dy).dtype)
    # dx[n,q,c] = Σ_{p,k : p·s + k − lo = q} dy[n,p,c] / N[p]
    return (add_taps(((tap, share) for tap in over.offsets()), over).astype(dy.dtype),)


def _weights(over: Window, count_include_pad: bool, dtype: np.dtype) -> Array:
    """1/N[p], shaped to multiply (n, *places, c)."""
    count = np.full((1,) * (len(over.places) + 2), np.prod(over.taps))
    if not count_include_pad:
        for axis, (a, b, k, s, (lo, _)) in enumerate(
            zip(over.cells, over.places, over.taps, over.stride, over.padding, strict=True)
        ):
            start = np.arange(b) * s - lo
            inside = np.minimum(start + k, a) - np.maximum(start, 0)
            count = (
                count * inside.reshape([-1 if i == axis + 1 else 1 for i in range(count.ndim)]) / k
            )
        if (count <= 0).any():
            raise ValueError(
                "avg_pool: with count_include_pad=False every window must touch the input, but"
                f" padding {over.padding} leaves some outside (input {over.cells}, window"
                f" {over.taps}); use less padding"
            )
    return jnp.asarray(1 / count, dtype)


def reference(
    x: Array,
    *,
    window: Ints = 2,
    stride: Ints | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
) -> Array:
    def total(cells: Array) -> Array:
        gathered = gather(cells, window=window, stride=stride, padding=padding)
        rank = x.ndim - 2
        return gathered.sum(tuple(range(1 + rank, 1 + 2 * rank)))

    taps = jnp.ones_like(x) if not count_include_pad else None
    rank = x.ndim - 2
    size = np.prod((window,) * rank if isinstance(window, int) else window)
    return total(x) / (size if taps is None else total(taps))


CASES = (
    Case("2-D, 2×2", (normal(2, 6, 4, 3),)),
    Case("2-D, overlapping, padded", (normal(2, 6, 7, 2),), {"window": 3, "stride": 2, "padding": "SAME"}),  # noqa: E501
    Case("2-D, padding not counted", (normal(2, 6, 7, 2),), {"window": 3, "stride": 2, "padding": "SAME", "count_include_pad": False}),  # noqa: E501
    Case("2-D, cells left over", (normal(2, 7, 5, 2),), {"window": (3, 2)}),
    Case("1-D, asymmetric padding, not counted", (normal(3, 6, 2),), {"window": 3, "padding": ((2, 1),), "count_include_pad": False}),  # noqa: E501
    Case("3-D", (normal(1, 4, 5, 6, 2),), {"window": (2, 2, 3), "stride": (2, 1, 2), "padding": 1}),
)  # fmt: skip


def space(choose: Choose) -> Case:
    cells, window, settings = windows(choose, dilations=False)
    x = normal(choose.integer(1, 3), *cells, choose.integer(1, 2))
    over = resolve("avg_pool", cells, window=window, dilation=1, **settings)
    ends = zip(cells, window, over.stride, over.places, over.padding, strict=True)
    touches = all(lo < k and (b - 1) * s - lo < a for a, k, s, b, (lo, _) in ends)
    counted = choose.among(True, False) if touches else True
    return Case("drawn", (x,), {"window": window, **settings, "count_include_pad": counted})


BAD = (
    Bad("window", (zeros(1, 3, 3, 1),), "avg_pool: the window covers 4 cells", {"window": 4}),
    Bad("all padding", (zeros(1, 3, 1),), "avg_pool: with count_include_pad=False every window must touch the input", {"padding": 2, "count_include_pad": False}),  # noqa: E501
)  # fmt: skip

avg_pool = Op(
    "avg_pool",
    forward,
    backward,
    reference,
    CASES,
    bad=BAD,
    doc=__doc__,
    space=space,
    equation="y[p,c] = 1/N Σ_k x[p·s + k − lo, c]",
    keeps="nothing",
)
