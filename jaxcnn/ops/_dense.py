"""Fully connected layer on the last axis.

    y[…,o]  = Σ_i x[…,i] w[i,o] + b[o]
    dx[…,i] = Σ_o dy[…,o] w[i,o]
    dw[i,o] = Σ_… x[…,i] dy[…,o]
    db[o]   = Σ_… dy[…,o]

… any leading axes (the batch), i input and o output features; without ``b`` the bias is left out.

Shapes: x (…, i), w (i, o), b (o) → (…, o). Kept: x and w, both alive anyway. No kinks. Accumulates
in float32 for 16-bit inputs. Raises ValueError for shapes that do not fit, TypeError for dtypes
that differ. Source, in experiments/README.md: S0.5, S2.1, S3.7.

>>> import jax.numpy as jnp
>>> dense(jnp.array([1.0, 2.0]), jnp.array([[1.0, 0.0], [0.0, 10.0]]), jnp.array([0.5, 0.5]))
Array([ 1.5, 20.5], dtype=float32)
"""

import math

import jax.numpy as jnp
from jax import lax

from jaxcnn._core.case import Bad, Case, normal, zeros
from jaxcnn._core.contracts import Array, Float
from jaxcnn._core.errors import check_axis_size, check_rank, check_same_dtype, shape_error
from jaxcnn._core.norms import of_outer_products, of_rows
from jaxcnn._core.op import Op
from jaxcnn._core.space import Choose, some
from jaxcnn._core.upcast import matmul, upcast

Residuals = tuple[Float[Array, "*n i"], Float[Array, "i o"], Float[Array, " o"] | None]


def forward(
    x: Float[Array, "*n i"], w: Float[Array, "i o"], b: Float[Array, " o"] | None = None
) -> tuple[Float[Array, "*n o"], Residuals]:
    arrays = {"x": x, "w": w} if b is None else {"x": x, "w": w, "b": b}
    check_same_dtype("dense", **arrays)
    check_rank("dense", "x", x, "i", at_least=True)
    check_rank("dense", "w", w, "i o")
    if x.shape[-1] != w.shape[0]:
        raise shape_error(
            "dense",
            f"`w` expects {w.shape[0]} input features but `x` has {x.shape[-1]}",
            x=(x, "… i"),
            w=(w, "i o"),
        )
    y = matmul(x, w)
    if b is not None:
        check_rank("dense", "b", b, "o")
        check_axis_size("dense", "b", b, "o", 0, w.shape[1], "`w` has outputs")
        y = y + lax.broadcast_to_rank(upcast(b), y.ndim)
    return y.astype(x.dtype), (x, w, b)


def backward(
    residuals: Residuals,
    dy: Float[Array, "*n o"],
    /,
) -> tuple[Float[Array, "*n i"], Float[Array, "i o"], Float[Array, " o"] | None]:
    x, w, b = residuals
    # dx[…,i] = Σ_o dy[…,o] w[i,o]
    dx = matmul(dy, w.T)
    # dw[i,o] = Σ_… x[…,i] dy[…,o]
    count = math.prod(x.shape[:-1])  # which -1 cannot tell where there are no features
    rows, drows = x.reshape(count, x.shape[-1]), dy.reshape(count, dy.shape[-1])
    dw = matmul(rows.T, drows)
    # db[o] = Σ_… dy[…,o]
    db = None if b is None else drows.sum(0)
    return dx.astype(x.dtype), dw.astype(w.dtype), db


def norms(
    residuals: Residuals, dy: Float[Array, "*n o"], /
) -> tuple[None, Float[Array, " n"], Float[Array, " n"] | None]:
    x, _, b = residuals
    n, places = dy.shape[0], math.prod(dy.shape[1:-1])
    x, dy = x.reshape(n, places, x.shape[-1]), dy.reshape(n, places, dy.shape[-1])
    return None, of_outer_products(x, dy), None if b is None else of_rows(upcast(dy).sum(1))


def reference(x: Array, w: Array, b: Array | None = None) -> Array:
    y = jnp.einsum("...i,io->...o", x, w)
    return y if b is None else y + jnp.broadcast_to(b, y.shape)


CASES = (
    Case("bias", (normal(5, 3), normal(3, 4), normal(4))),
    Case("no bias", (normal(5, 3), normal(3, 4), None)),
    Case("two leading axes", (normal(2, 3, 4), normal(4, 2), normal(2))),
    Case("one vector", (normal(3), normal(3, 4), normal(4)), batched=()),
    Case("one feature", (normal(4, 1), normal(1, 1), normal(1))),
)


def space(choose: Choose) -> Case:
    (i, o), leading = some(choose, least=2), some(choose, 3)
    biases = choose.among(normal(o), None)
    return Case("drawn", (normal(*leading, i), normal(i, o), biases))


BAD = (
    Bad("features", (zeros(5, 3), zeros(4, 2)), "dense: `w` expects 4 input features but `x` has 3 (x: (5, 3) … i; w: (4, 2) i o)"),  # noqa: E501
    Bad("bias", (zeros(5, 3), zeros(3, 2), zeros(3)), "dense: `b` must have o = 2 as `w` has outputs, got 3"),  # noqa: E501
    Bad("rank of w", (zeros(5, 3), zeros(3)), "dense: `w` must have 2 axes (i o)"),
    Bad("dtype", (zeros(5, 3), zeros(3, 2, dtype="int32")), "dense: `w` must be a floating-point array", error=TypeError),  # noqa: E501
    Bad("too many", (zeros(5, 3), zeros(3, 2), zeros(2), zeros(2)), "dense: takes 3 inputs (x, w, b), got 4", error=TypeError),  # noqa: E501
    Bad("missing", (zeros(5, 3),), "dense: missing input `w`", error=TypeError),
)  # fmt: skip

dense = Op(
    "dense",
    forward,
    backward,
    reference,
    CASES,
    bad=BAD,
    norms=norms,
    doc=__doc__,
    space=space,
    equation="y[o] = Σ x[i] w[i,o] + b[o]",
    keeps="x, w",
)
