"""Convolution over 1, 2 or 3 spatial axes, channels last.

    y[n,p,o]  = Σ_{k,i} x[n, p·s + k·d − lo, i] w[k,i,o]
    dx[n,q,i] = Σ_{k,o : p·s + k·d − lo = q} dy[n,p,o] w[k,i,o]
    dw[k,i,o] = Σ_{n,p} x[n, p·s + k·d − lo, i] dy[n,p,o]

n example, p output place, q input cell, k tap, i and o channels, s stride, d dilation, lo padding
in front; x is 0 outside. With ``groups`` = g the channels fall into g blocks that do not mix (w has
i/g input channels; g = i is depthwise). ``flip=True`` reads the kernel backwards, which makes it
the true convolution of mathematics; the default is cross-correlation, as in every CNN library.
``implementation`` names one of ``jaxcnn.kernels.IMPLEMENTATIONS``, to be used on any platform as it
is; by default the fastest that suits is chosen (kernels/README.md).

Shapes: x (n, *space, i), w (*taps, i/g, o) → (n, *places, o). Kept: x and w, both alive anyway.
Linear in each input: no kinks. Accumulates in float32 for 16-bit inputs. Raises ValueError for
channel counts or geometry that do not fit, TypeError for dtypes that differ.
Source, in experiments/README.md: S0.1, S0.2, S1.6, S4.6–S4.8.

>>> import jax.numpy as jnp
>>> x, w = jnp.array([1., 1., 0., 0., 0.]).reshape(1, 5, 1), jnp.array([0.1, -0.1]).reshape(2, 1, 1)
>>> conv(x, w, padding="VALID")[0, :, 0]                        # the filter of S1.7
Array([0. , 0.1, 0. , 0. ], dtype=float32)
>>> conv(x, w, padding="VALID", flip=True)[0, :, 0]
Array([ 0. , -0.1,  0. ,  0. ], dtype=float32)
"""

from typing import Any

import jax.numpy as jnp

from jaxcnn._core.case import Bad, Case, normal, zeros
from jaxcnn._core.contracts import Array, Float
from jaxcnn._core.errors import (
    check_counts,
    check_rank,
    check_same_dtype,
    setting_error,
    shape_error,
)
from jaxcnn._core.op import Op
from jaxcnn._core.space import Choose, windows
from jaxcnn._core.window import Ints, Padding, resolve, taps_of
from jaxcnn.kernels._choice import check_suits, correlate, input_gradient, weight_gradient
from jaxcnn.kernels._im2col import weight_norms
from jaxcnn.kernels._implementation import Name
from jaxcnn.kernels._xla import flip_taps

Residuals = tuple[Float[Array, "n *space i"], Float[Array, "*taps ig o"]]


def forward(
    x: Float[Array, "n *space i"],
    w: Float[Array, "*taps ig o"],
    *,
    stride: Ints = 1,
    padding: Padding = "SAME",
    dilation: Ints = 1,
    groups: int = 1,
    flip: bool = False,
    implementation: Name | None = None,
) -> tuple[Float[Array, "n *places o"], Residuals]:
    check_inputs("conv", x, w, groups)
    if x.shape[-1] != w.shape[-2] * groups:
        per_group = f" a group ({groups} groups)" if groups > 1 else ""
        raise shape_error(
            "conv",
            f"`w` expects {w.shape[-2]} input channels{per_group} but `x` has {x.shape[-1]}",
            x=(x, axes("x", x.ndim)),
            w=(w, axes("w", x.ndim)),
        )
    if w.shape[-1] % groups:
        raise setting_error(
            "conv", "groups", f"a divisor of the {w.shape[-1]} output channels of `w`", groups
        )
    window = resolve(
        "conv",
        x.shape[1:-1],
        window=w.shape[:-2],
        stride=stride,
        padding=padding,
        dilation=dilation,
    )
    check_suits("conv", implementation, x, w, window, groups)
    return correlate(x, flip_taps(w) if flip else w, window, groups, implementation), (x, w)


def backward(
    residuals: Residuals,
    dy: Float[Array, "n *places o"],
    /,
    *,
    stride: Ints = 1,
    padding: Padding = "SAME",
    dilation: Ints = 1,
    groups: int = 1,
    flip: bool = False,
    implementation: Name | None = None,
) -> tuple[Float[Array, "n *space i"], Float[Array, "*taps ig o"]]:
    x, w = residuals
    window = resolve(
        "conv",
        x.shape[1:-1],
        window=w.shape[:-2],
        stride=stride,
        padding=padding,
        dilation=dilation,
    )
    # dx[n,q,i] = Σ_{k,o : p·s + k·d − lo = q} dy[n,p,o] w[k,i,o]
    dx = input_gradient(dy, flip_taps(w) if flip else w, window, groups, implementation)
    # dw[k,i,o] = Σ_{n,p} x[n, p·s + k·d − lo, i] dy[n,p,o]
    dw = weight_gradient(x, dy, window, groups, implementation)
    return dx, flip_taps(dw) if flip else dw


def norms(
    residuals: Residuals,
    dy: Float[Array, "n *places o"],
    /,
    *,
    groups: int = 1,
    flip: bool = False,  # which, like the next, does not change a norm
    implementation: Name | None = None,
    **geometry: Any,
) -> tuple[None, Float[Array, " n"]]:
    x, w = residuals
    window = resolve("conv", x.shape[1:-1], window=w.shape[:-2], **geometry)
    return None, weight_norms(x, dy, window, groups)


def check_inputs(op: str, x: Any, w: Any, groups: int) -> None:
    """What ``conv`` and ``conv_transpose`` ask of their arrays, channel counts apart."""
    check_same_dtype(op, x=x, w=w)
    if x.ndim not in (3, 4, 5):
        raise ValueError(
            f"{op}: `x` must have 3, 4 or 5 axes (n, 1 to 3 spatial, channels), got shape"
            f" {tuple(x.shape)}"
        )
    check_rank(op, "w", w, axes("w", x.ndim))
    check_counts(op, groups=groups)


def axes(name: str, ndim: int) -> str:
    """The symbols of the axes of x or w, for messages."""
    rank = ndim - 2
    return f"n {' '.join('dhw'[-rank:])} i" if name == "x" else f"{' '.join('jkl'[-rank:])} i o"


def reference(
    x: Array,
    w: Array,
    *,
    stride: Ints = 1,
    padding: Padding = "SAME",
    dilation: Ints = 1,
    groups: int = 1,
    flip: bool = False,
    implementation: Name | None = None,
) -> Array:
    """A sum over taps of matrix products, group by group."""
    window = resolve(
        "conv",
        x.shape[1:-1],
        window=w.shape[:-2],
        stride=stride,
        padding=padding,
        dilation=dilation,
    )
    blocks = w.reshape(*w.shape[:-1], groups, -1)
    parts = []
    for tap, seen in taps_of(x, window):
        at = tuple(k - 1 - t for k, t in zip(window.taps, tap, strict=True)) if flip else tap
        by_group = seen.reshape(*seen.shape[:-1], groups, -1)
        parts.append(jnp.einsum("...gi,igo->...go", by_group, blocks[at]))
    y = sum(parts[1:], parts[0])
    return y.reshape(*y.shape[:-2], -1)


CASES = (
    Case("2-D, SAME", (normal(2, 6, 5, 3), normal(3, 3, 3, 4))),
    Case("2-D, stride 2, odd padding", (normal(2, 7, 6, 2), normal(3, 2, 2, 3)), {"stride": 2, "padding": ((1, 0), (0, 2))}),  # noqa: E501
    Case("2-D, large enough for Winograd", (normal(8, 6, 6, 32), normal(3, 3, 32, 32))),
    Case("2-D, large enough for im2col", (normal(8, 6, 6, 32), normal(3, 3, 32, 32)), {"dilation": 2}),  # noqa: E501
    Case("1-D, VALID", (normal(3, 8, 2), normal(3, 2, 3)), {"padding": "VALID"}),
    Case("1-D, true convolution", (normal(2, 7, 2), normal(4, 2, 3)), {"flip": True}),
    Case("1-D, windows miss the last cell", (normal(2, 8, 2), normal(3, 2, 2)), {"stride": 3, "padding": "VALID"}),  # noqa: E501
    Case("2-D, dilation", (normal(2, 8, 7, 2), normal(3, 2, 2, 3)), {"dilation": (2, 3), "padding": 2}),  # noqa: E501
    Case("2-D, groups", (normal(2, 5, 4, 4), normal(3, 3, 2, 6)), {"groups": 2}),
    Case("2-D, depthwise, stride", (normal(2, 6, 6, 3), normal(3, 3, 1, 6)), {"groups": 3, "stride": (2, 1)}),  # noqa: E501
    Case("2-D, flip, groups, stride, dilation", (normal(1, 9, 8, 4), normal(2, 3, 2, 4)),
         {"groups": 2, "stride": 2, "dilation": 2, "flip": True, "padding": (1, 2)}),
    Case("2-D, depthwise, large enough for its kernel", (normal(8, 24, 24, 24), normal(3, 3, 1, 48)), {"groups": 24, "padding": ((1, 0), (0, 2))}),  # noqa: E501
    Case("2-D, 1×1", (normal(2, 4, 3, 3), normal(1, 1, 3, 5))),
    Case("2-D, padding beyond the kernel", (normal(1, 3, 3, 2), normal(2, 2, 2, 2)), {"padding": 3}),  # noqa: E501
    Case("2-D, one example, one channel", (normal(1, 5, 5, 1), normal(5, 5, 1, 1))),
    Case("3-D", (normal(1, 4, 5, 3, 2), normal(2, 3, 2, 2, 2)), {"stride": (1, 2, 1)}),
    Case("2-D, by XLA", (normal(2, 5, 4, 2), normal(3, 3, 1, 4)), {"groups": 2, "implementation": "xla"}),  # noqa: E501
)  # fmt: skip


def space(choose: Choose) -> Case:
    cells, taps, settings = windows(choose)
    groups, batch = choose.integer(1, 3), choose.integer(1, 3)
    inputs, outputs = choose.integer(1, 2), groups * choose.integer(1, 2)
    settings |= {"groups": groups, "flip": choose.among(False, True)}
    return Case(
        "drawn",
        (normal(batch, *cells, groups * inputs), normal(*taps, inputs, outputs)),
        settings,
    )


BAD = (
    Bad("channels", (zeros(2, 6, 6, 3), zeros(3, 3, 5, 4)), "conv: `w` expects 5 input channels but `x` has 3 (x: (2, 6, 6, 3) n h w i; w: (3, 3, 5, 4) k l i o)"),  # noqa: E501
    Bad("rank of x", (zeros(6, 3), zeros(3, 3, 3, 4)), "conv: `x` must have 3, 4 or 5 axes"),
    Bad("rank of w", (zeros(2, 6, 6, 3), zeros(3, 3, 4)), "conv: `w` must have 4 axes (k l i o)"),
    Bad("dtype", (zeros(2, 6, 6, 3, dtype="int32"), zeros(3, 3, 3, 4)), "`x` must be a floating-point array", error=TypeError),  # noqa: E501
    Bad("mixed dtypes", (zeros(2, 6, 6, 3), zeros(3, 3, 3, 4, dtype="float16")), "`w` has dtype float16 but `x` has float32", error=TypeError),  # noqa: E501
    Bad("stride", (zeros(2, 6, 6, 3), zeros(3, 3, 3, 4)), "setting `stride` must be an integer ≥ 1 or 2 of them", {"stride": 0}),  # noqa: E501
    Bad("padding", (zeros(2, 6, 6, 3), zeros(3, 3, 3, 4)), "setting `padding` must be 'SAME', 'VALID'", {"padding": "FULL"}),  # noqa: E501
    Bad("groups", (zeros(2, 6, 6, 3), zeros(3, 3, 3, 4)), "`w` expects 3 input channels a group (2 groups)", {"groups": 2}),  # noqa: E501
    Bad("groups and outputs", (zeros(2, 6, 6, 4), zeros(3, 3, 2, 3)), "divisor of the 3 output channels", {"groups": 2}),  # noqa: E501
    Bad("window too large", (zeros(2, 2, 6, 3), zeros(3, 3, 3, 4)), "the window covers 3 cells along spatial axis 0", {"padding": "VALID"}),  # noqa: E501
    Bad("unknown setting", (zeros(2, 6, 6, 3), zeros(3, 3, 3, 4)), "unknown setting `strides`", {"strides": 2}, TypeError),  # noqa: E501
    Bad("implementation", (zeros(2, 6, 6, 3), zeros(3, 3, 3, 4)), "conv: setting `implementation` must be None or one of xla, im2col, winograd, depthwise, got 'fft'", {"implementation": "fft"}),  # noqa: E501
    Bad("Winograd with a stride", (zeros(2, 6, 6, 3), zeros(3, 3, 3, 4)), "conv: setting `implementation` must be None or one that suits (xla, im2col); winograd takes square kernels of 3 or 5 taps", {"stride": 2, "implementation": "winograd"}),  # noqa: E501
    Bad("im2col with groups", (zeros(2, 6, 6, 4), zeros(3, 3, 2, 4)), "(xla); im2col takes one group, got 'im2col'", {"groups": 2, "implementation": "im2col"}),  # noqa: E501
    Bad("depthwise of one group", (zeros(2, 7, 6, 3), zeros(7, 7, 3, 4)), "(xla, im2col); depthwise takes one input channel a group, got 'depthwise'", {"implementation": "depthwise"}),  # noqa: E501
    Bad("no examples", (zeros(0, 6, 6, 3), zeros(3, 3, 3, 4)), "(xla); im2col takes one group, and a batch of known length, not empty, that no mesh cuts", {"implementation": "im2col"}),  # noqa: E501
)  # fmt: skip

conv = Op(
    "conv",
    forward,
    backward,
    reference,
    CASES,
    bad=BAD,
    norms=norms,
    doc=__doc__,
    space=space,
    equation="y[p,o] = Σ x[p·s + k·d − lo, i] w[k,i,o]",
    keeps="x, w",
)
