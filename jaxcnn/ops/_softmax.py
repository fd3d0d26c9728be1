"""Softmax and its logarithm along one axis.

    softmax:      y[k] = e^{x[k]} / Σ_j e^{x[j]}        dx[k] = y[k] (dy[k] − Σ_j y[j] dy[j])
    log_softmax:  y[k] = x[k] − ln Σ_j e^{x[j]}         dx[k] = dy[k] − e^{y[k]} Σ_j dy[j]

k, j run along ``axis``; the first rule is the product with diag(y) − y yᵀ. The largest entry is
subtracted first, so scores of any finite size are safe; −∞ masks a score out. Small components
beside large ones keep their digits: what is lost in x − max x is put back, and δ is taken from that
of the largest y, m, which Σ y = 1 allows:

    dx[k] = y[k] ((dy[k] − dy[m]) − Σ_j y[j] (dy[j] − dy[m]))

as 1 − y[m], which has none of them left, is then a sum of the others; log_softmax does the same at
m. The errors are then a few units in the last place of each component, for one-hot dy; of Σ |terms|
for others; of log_softmax's, as many more as x lies below its maximum. +∞, scores that are
all −∞, and NaN give NaN, as in ``jax.nn``. Shapes: any, the same out as in. Kept: y. No kinks. Sums
in float32 for 16-bit inputs. Raise ValueError for an axis that is not there, TypeError for
integers. Source, in experiments/README.md: S0.5, S3.4, S4.5.

>>> import jax.numpy as jnp
>>> softmax(jnp.array([1.0, 1.0])), log_softmax(jnp.array([1e4, -1e4]))
(Array([0.5, 0.5], dtype=float32), Array([     0., -20000.], dtype=float32))
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn._core.case import Bad, Case, normal, values, zeros
from jaxcnn._core.contracts import Array, Float
from jaxcnn._core.errors import check_floating, is_integer, setting_error
from jaxcnn._core.op import Op
from jaxcnn._core.space import Choose, some
from jaxcnn._core.upcast import upcast


def _shifted(op: str, x: Array, axis: int) -> Array:
    check_floating(op, x=x)
    if not is_integer(axis) or not -x.ndim <= axis < x.ndim:
        raise setting_error(op, "axis", f"an integer from {-x.ndim} to {x.ndim - 1}", axis)
    if x.shape[axis] == 0:
        return upcast(x)
    # Any constant gives the same answer, so the maximum is one: no derivative flows through it.
    x = upcast(x)
    return x - lax.stop_gradient(x.max(axis, keepdims=True))


def _rest_of_shift(x: Array, shifted: Array, axis: int) -> Array:
    """(x − max x) − ``shifted``, exactly (Knuth's two-sum); no derivative flows through it."""
    if not x.shape[axis]:
        return jnp.zeros_like(x)
    x, shifted = lax.stop_gradient((x, shifted))
    largest = x.max(axis, keepdims=True)
    back = shifted - x
    rest = (x - (shifted - back)) - (largest + back)
    return jnp.where(jnp.isfinite(shifted), rest, 0)


def softmax_forward(
    x: Float[Array, "*n"], *, axis: int = -1
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    shifted = _shifted("softmax", x, axis)
    weights = jnp.exp(shifted) * (1 + _rest_of_shift(upcast(x), shifted, axis))
    y = (weights / weights.sum(axis, keepdims=True)).astype(x.dtype)
    return y, y


def softmax_backward(
    y: Float[Array, "*n"], dy: Float[Array, "*n"], /, *, axis: int = -1
) -> tuple[Float[Array, "*n"]]:
    # dx[k] = y[k] (dy[k] − Σ_j y[j] dy[j]), with dy[m] taken from every dy
    dtype, y, dy = y.dtype, upcast(y), upcast(dy)
    if y.shape[axis]:
        dy -= jnp.take_along_axis(dy, y.argmax(axis, keepdims=True), axis)
    return ((y * (dy - (y * dy).sum(axis, keepdims=True))).astype(dtype),)


def log_softmax_forward(
    x: Float[Array, "*n"], *, axis: int = -1
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    shifted = _shifted("log_softmax", x, axis)
    rest = _rest_of_shift(upcast(x), shifted, axis)
    # ln Σ_j e^{x[j] − max} = ln(1 + Σ_{j≠m}), as the largest gives e⁰ = 1
    weights = jnp.where(
        _is_largest(x, axis), jnp.expm1(shifted), jnp.exp(shifted) * (1 + rest)
    )  # 0 at the largest, with its derivative
    y = shifted - jnp.log1p(weights.sum(axis, keepdims=True)) + rest
    return y.astype(x.dtype), y.astype(x.dtype)


def _is_largest(x: Array, axis: int) -> Array:
    """True at the largest entry along the axis, the first of several."""
    if not x.shape[axis]:
        return jnp.zeros(x.shape, bool)
    where = lax.broadcasted_iota(jnp.int32, x.shape, axis % x.ndim)
    return where == x.argmax(axis, keepdims=True).astype(jnp.int32)


def log_softmax_backward(
    y: Float[Array, "*n"], dy: Float[Array, "*n"], /, *, axis: int = -1
) -> tuple[Float[Array, "*n"]]:
    # dx[k] = dy[k] − p[k] Σ_j dy[j],  p = e^y, and at the largest
    # dx[m] = dy[m] Σ_{j≠m} p[j] − p[m] Σ_{j≠m} dy[j]
    dtype, largest, p, dy = y.dtype, _is_largest(y, axis), jnp.exp(upcast(y)), upcast(dy)
    others_p, others_dy = (jnp.where(largest, 0, part).sum(axis, keepdims=True) for part in (p, dy))
    dx = dy - p * dy.sum(axis, keepdims=True)
    return (jnp.where(largest, dy * others_p - p * others_dy, dx).astype(dtype),)


def softmax_reference(x: Array, *, axis: int = -1) -> Array:
    return jax.nn.softmax(x, axis)


def log_softmax_reference(x: Array, *, axis: int = -1) -> Array:
    return jax.nn.log_softmax(x, axis)


CASES = (
    Case("rows", (normal(4, 5),), ulps=8),
    Case("axis 1 of 3", (normal(2, 4, 3),), {"axis": 1}, ulps=8),
    Case("large scores", (values([[1e4, 0.0, -1e4], [9e3, 1e4 - 1, 1e4]]),)),
    Case("one class", (normal(3, 1),)),
    Case("one vector", (normal(4),), batched=(), ulps=8),
    Case(
        "small beside large", (values([[9.0, 0.0, -12.0, 8.5], [30.0, 1.0, 0.5, -40.0]]),), ulps=8
    ),
)


def space(choose: Choose) -> Case:
    shape = some(choose, 3, least=1)
    return Case("drawn", (normal(*shape),), {"axis": choose.integer(0, len(shape) - 1)})


def _bad(op: str) -> tuple[Bad, ...]:
    return (
        Bad(
            "axis",
            (zeros(2, 3),),
            f"{op}: setting `axis` must be an integer from -2 to 1",
            {"axis": 2},
        ),
        Bad(
            "dtype",
            (zeros(3, dtype="int32"),),
            f"{op}: `x` must be a floating-point array",
            error=TypeError,
        ),
    )


softmax = Op(
    "softmax",
    softmax_forward,
    softmax_backward,
    softmax_reference,
    CASES,
    bad=_bad("softmax"),
    doc=__doc__,
    space=space,
    equation="y[k] = e^x[k] / Σ_j e^x[j]",
    keeps="y",
)
log_softmax = Op(
    "log_softmax",
    log_softmax_forward,
    log_softmax_backward,
    log_softmax_reference,
    CASES,
    bad=_bad("log_softmax"),
    doc=__doc__,
    space=space,
    equation="y[k] = x[k] − ln Σ_j e^x[j]",
    keeps="y",
)
