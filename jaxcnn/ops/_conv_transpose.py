"""Transposed convolution: exactly the input gradient of ``conv`` with the same kernel and settings,
as an op.

    y[n,q,i]  = Σ_{k,o : p·s + k·d − lo = q} x[n,p,o] w[k,i,o]
    dx[n,p,o] = Σ_{k,i} dy[n, p·s + k·d − lo, i] w[k,i,o]
    dw[k,i,o] = Σ_{n,p} dy[n, p·s + k·d − lo, i] x[n,p,o]

The legend is that of ``conv``, whose places p are the input here and whose cells q the output: the
backward of a transpose is the convolution itself. Several sizes of output have the same convolved
size; ``output_size`` picks one (default: s·b for ``SAME``, else the least). ``implementation`` is
that of ``conv``.

Shapes: x (n, *places, o), w (*taps, i/g, o) → (n, *cells, i). Kept: x and w. No kinks. Accumulates
in float32 for 16-bit inputs. Raises ValueError for channels, geometry or an ``output_size`` that do
not fit, TypeError for dtypes that differ. Source: S0.1, S4.1.

>>> import jax.numpy as jnp
>>> x, w = jnp.array([1., 2.]).reshape(1, 2, 1), jnp.array([1., 10., 100.]).reshape(3, 1, 1)
>>> conv_transpose(x, w, stride=2, padding="VALID")[0, :, 0]
Array([  1.,  10., 102.,  20., 200.], dtype=float32)
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxcnn._core.case import Bad, Case, normal, zeros
from jaxcnn._core.contracts import Array, Float
from jaxcnn._core.errors import is_integer, setting_error, shape_error
from jaxcnn._core.op import Op
from jaxcnn._core.space import Choose
from jaxcnn._core.window import Ints, Padding, Window, extent_of, pads_of, per_axis, resolve
from jaxcnn.kernels._choice import check_suits, correlate, input_gradient, weight_gradient
from jaxcnn.kernels._im2col import weight_norms
from jaxcnn.kernels._implementation import Name
from jaxcnn.ops._conv import axes, check_inputs
from jaxcnn.ops._conv import space as convolutions

Residuals = tuple[Float[Array, "n *places o"], Float[Array, "*taps ig o"]]


def forward(
    x: Float[Array, "n *places o"],
    w: Float[Array, "*taps ig o"],
    *,
    stride: Ints = 1,
    padding: Padding = "SAME",
    dilation: Ints = 1,
    groups: int = 1,
    output_size: Ints | None = None,
    implementation: Name | None = None,
) -> tuple[Float[Array, "n *cells i"], Residuals]:
    check_inputs("conv_transpose", x, w, groups)
    if x.shape[-1] != w.shape[-1]:
        raise shape_error(
            "conv_transpose",
            f"`w` gives {w.shape[-1]} channels (its last axis) but `x` has {x.shape[-1]}",
            x=(x, axes("x", x.ndim).replace("i", "o")),
            w=(w, axes("w", x.ndim)),
        )
    if x.shape[-1] % groups:
        raise setting_error(
            "conv_transpose", "groups", f"a divisor of the {x.shape[-1]} channels of `x`", groups
        )
    window = geometry(x, w, stride, padding, dilation, output_size)
    check_suits("conv_transpose", implementation, x, w, window, groups)
    return input_gradient(x, w, window, groups, implementation), (x, w)


def backward(
    residuals: Residuals,
    dy: Float[Array, "n *cells i"],
    /,
    *,
    stride: Ints = 1,
    padding: Padding = "SAME",
    dilation: Ints = 1,
    groups: int = 1,
    output_size: Ints | None = None,
    implementation: Name | None = None,
) -> tuple[Float[Array, "n *places o"], Float[Array, "*taps ig o"]]:
    x, w = residuals
    window = geometry(x, w, stride, padding, dilation, output_size)
    # dx[n,p,o] = Σ_{k,i} dy[n, p·s + k·d − lo, i] w[k,i,o]
    dx = correlate(dy, w, window, groups, implementation)
    # dw[k,i,o] = Σ_{n,p} dy[n, p·s + k·d − lo, i] x[n,p,o]
    dw = weight_gradient(dy, x, window, groups, implementation)
    return dx, dw


def norms(
    residuals: Residuals,
    dy: Float[Array, "n *cells i"],
    /,
    *,
    groups: int = 1,
    implementation: Name | None = None,  # which does not change a norm
    **settings: Any,
) -> tuple[None, Float[Array, " n"]]:
    x, w = residuals
    return None, weight_norms(dy, x, geometry(x, w, **settings), groups)


def geometry(
    x: Array, w: Array, stride: Ints, padding: Padding, dilation: Ints, output_size: Ints | None
) -> Window:
    """The window of the convolution that this op is the transpose of."""
    places, taps = x.shape[1:-1], w.shape[:-2]
    steps = per_axis("conv_transpose", "stride", stride, len(places))
    if padding == "SAME":
        least = [(b - 1) * s + 1 for b, s in zip(places, steps, strict=True)]
        usual = [b * s for b, s in zip(places, steps, strict=True)]
    else:
        extent = extent_of(taps, per_axis("conv_transpose", "dilation", dilation, len(places)))
        ends = zip(
            places, steps, extent, pads_of("conv_transpose", padding, len(places)), strict=True
        )
        least = usual = [max((b - 1) * s + e - lo - hi, 1) for b, s, e, (lo, hi) in ends]
    cells = usual if output_size is None else output_size
    cells = [cells] * len(places) if not isinstance(cells, Sequence) else list(cells)
    wrong_type = len(cells) != len(places) or not all(is_integer(a) and a >= 1 for a in cells)
    window = (
        None
        if wrong_type
        else resolve(
            "conv_transpose", cells, window=taps, stride=stride, padding=padding, dilation=dilation
        )
    )
    if window is None or window.places != tuple(places):
        ranges = ", ".join(f"{low}…{low + s - 1}" for low, s in zip(least, steps, strict=True))
        raise setting_error(
            "conv_transpose",
            "output_size",
            f"in {ranges} (one size for each spatial axis)",
            output_size,
        )
    return window


def reference(
    x: Array,
    w: Array,
    *,
    stride: Ints = 1,
    padding: Padding = "SAME",
    dilation: Ints = 1,
    groups: int = 1,
    output_size: Ints | None = None,
    implementation: Name | None = None,
) -> Array:
    """Each place adds its multiple of the kernel to the cells under it."""
    window = geometry(x, w, stride, padding, dilation, output_size)
    padded = [
        max(a, (b - 1) * s + e) + lo + hi
        for a, b, s, e, (lo, hi) in zip(
            window.cells, window.places, window.stride, window.extent, window.padding, strict=True
        )
    ]
    blocks = w.reshape(*w.shape[:-1], groups, -1)
    by_group = x.reshape(*x.shape[:-1], groups, -1)
    y = jnp.zeros((x.shape[0], *padded, w.shape[-2] * groups), x.dtype)
    for tap in window.offsets():
        part = jnp.einsum("...go,igo->...gi", by_group, blocks[tap]).reshape(*x.shape[:-1], -1)
        under = tuple(
            slice(t * d, t * d + (b - 1) * s + 1, s)
            for t, d, b, s in zip(tap, window.dilation, window.places, window.stride, strict=True)
        )
        y = y.at[(slice(None), *under)].add(part)
    start = [lo for lo, _ in window.padding]
    stop = [lo + a for lo, a in zip(start, window.cells, strict=True)]
    return lax.slice(y, [0, *start, 0], [x.shape[0], *stop, y.shape[-1]])


CASES = (
    Case("2-D, SAME, stride 2", (normal(2, 3, 4, 4), normal(3, 3, 2, 4)), {"stride": 2}),
    Case("2-D, VALID, a chosen size", (normal(2, 3, 2, 3), normal(3, 2, 2, 3)), {"stride": (2, 3), "padding": "VALID", "output_size": (8, 6)}),  # noqa: E501
    Case("1-D", (normal(2, 5, 3), normal(4, 2, 3))),
    Case("1-D, SAME, odd size", (normal(2, 4, 3), normal(3, 2, 3)), {"stride": 2, "output_size": 7}),  # noqa: E501
    Case("2-D, groups, dilation, padding", (normal(1, 4, 4, 4), normal(2, 3, 1, 4)), {"groups": 2, "dilation": 2, "padding": ((1, 0), (0, 2))}),  # noqa: E501
    Case("2-D, depthwise", (normal(2, 3, 3, 3), normal(2, 2, 1, 3)), {"groups": 3, "stride": 2, "padding": "VALID"}),  # noqa: E501
    Case("3-D", (normal(1, 2, 3, 2, 2), normal(2, 2, 3, 2, 2)), {"stride": (1, 2, 1)}),
)  # fmt: skip


def space(choose: Choose) -> Case:
    """The transposes of convolutions, back to the size that these came from."""
    drawn = convolutions(choose)
    settings = {name: value for name, value in drawn.static.items() if name != "flip"}
    x, w = (draw.shape for draw in drawn.inputs if draw)
    geometry = {name: settings[name] for name in ("stride", "padding", "dilation")}
    cells = x[1:-1]
    places = resolve("conv_transpose", cells, window=w[:-2], **geometry).places
    inputs = normal(x[0], *places, w[-1]), normal(*w)
    return Case("drawn", inputs, settings | {"output_size": cells})


BAD = (
    Bad("channels", (zeros(2, 6, 6, 3), zeros(3, 3, 3, 4)), "`w` gives 4 channels (its last axis) but `x` has 3"),  # noqa: E501
    Bad("output_size", (zeros(2, 3, 3, 4), zeros(3, 3, 2, 4)), "setting `output_size` must be in 5…6, 5…6", {"stride": 2, "output_size": 9}),  # noqa: E501
    Bad("groups", (zeros(2, 3, 3, 3), zeros(3, 3, 2, 3)), "a divisor of the 3 channels", {"groups": 2}),  # noqa: E501
    Bad("implementation", (zeros(2, 3, 3, 4), zeros(3, 3, 1, 4)), "conv_transpose: setting `implementation` must be None or one that suits (xla, depthwise); winograd takes", {"groups": 4, "implementation": "winograd"}),  # noqa: E501
)  # fmt: skip

conv_transpose = Op(
    "conv_transpose",
    forward,
    backward,
    reference,
    CASES,
    bad=BAD,
    norms=norms,
    doc=__doc__,
    space=space,
    equation="y[q,i] = Σ x[p,o] w[k,i,o] over p·s + k·d − lo = q",
    keeps="x, w",
)
