"""Losses: one value an example (the caller takes the mean or the sum), each with the gradient
written on the scores.

    op                     loss of one example                      cotangents (times the loss's d)

    softmax_cross_entropy  −Σ_k t[k] ln p[k],  p = softmax z        dz = p·Σt − t,  dt = −ln p
    sigmoid_cross_entropy  −Σ_k t ln σ(z) + (1 − t) ln(1 − σ(z))    dz = σ(z) − t,  dt = −z
    kl_divergence          Σ_k p[k] (ln p[k] − ln q[k]),            dz = q·Σp − p,
                           q = softmax z                            dp = ln p + 1 − ln q
                                                                    (−ln q at 0)
    squared_error          scale · Σ_k (y[k] − t[k])²               dy = 2·scale·(y − t),  dt = −dy
    l2                     ½ Σ w²  (one number in all)              dw = w

k runs along the last axis; all leading axes are examples. ``softmax_cross_entropy`` takes integer
labels (shape of z without its last axis; a label outside [0, k) gives NaN) or rows t, which need
not sum to 1. Targets of a floating dtype have a gradient too; integers have none. Safe for scores
up to ±1e4 and beyond, value and gradient: no logarithm is taken of a number that can round to 0.
Sums in float32 for 16-bit inputs.

Kept: scores and targets; ln q (float32 for 16-bit scores: of many classes 16 bits would lose
q = e^ln q) and p; the difference y − t; w. Kinks: kl_divergence at p = 0, where 0·ln 0
counts as the constant 0. Raise ValueError for shapes that do not fit, TypeError for scores that are
not floating. Source, in experiments/README.md: S1.1, S1.2, S2.2, S3.1.

>>> import jax, jax.numpy as jnp
>>> z = jnp.log(jnp.array([[0.3, 0.7]]))
>>> jax.grad(lambda z: softmax_cross_entropy(z, jnp.array([1])).sum())(z)       # S1.9
Array([[ 0.3, -0.3]], dtype=float32)
>>> squared_error(jnp.array([1.0, 2.0]), jnp.array([0.0, 0.0]), scale=0.5)
Array(2.5, dtype=float32)
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn._core.case import Bad, Case, Kink, integers, normal, rows, values, zeros
from jaxcnn._core.contracts import Array, Float, Shaped
from jaxcnn._core.errors import check_floating, check_rank, is_number, setting_error, shape_error
from jaxcnn._core.op import Op
from jaxcnn._core.space import Choose, any_shape, some
from jaxcnn._core.upcast import upcast
from jaxcnn.ops._softmax import log_softmax, softmax

Scores = Float[Array, "*n k"]
Targets = Shaped[Array, "..."]


def _is_floating(targets: Array) -> bool:
    return jnp.issubdtype(targets.dtype, jnp.floating)


def _check_rows(op: str, first: str, scores: Array, second: str, targets: Array) -> None:
    check_floating(op, **{first: scores})
    check_rank(op, first, scores, "k", at_least=True)
    if targets.shape != scores.shape:
        raise shape_error(
            op,
            f"`{second}` must have the shape of `{first}`",
            **{first: (scores, "… k"), second: (targets, "… k")},
        )


def softmax_cross_entropy_forward(
    logits: Scores, labels: Targets
) -> tuple[Float[Array, "*n"], tuple[Scores, Targets]]:
    op = "softmax_cross_entropy"
    check_floating(op, logits=logits)
    check_rank(op, "logits", logits, "k", at_least=True)
    if _is_floating(labels):
        _check_rows(op, "logits", logits, "labels", labels)
    elif labels.shape != logits.shape[:-1]:
        raise shape_error(
            op,
            "integer `labels` must have the shape of `logits` without its last axis; for rows of"
            " probabilities pass floats",
            logits=(logits, "… k"),
            labels=(labels, "…"),
        )
    if not _is_floating(labels) and logits.shape[-1] == 0:
        raise shape_error(op, "integer `labels` need at least one class", logits=(logits, "… k"))
    log_p, _ = log_softmax.forward(upcast(logits))
    rows_ = labels.astype(log_p.dtype) if _is_floating(labels) else _one_hot(labels, log_p)
    loss = -_weighted(rows_, log_p).sum(-1)
    if not _is_floating(labels):
        loss = jnp.where((labels >= 0) & (labels < logits.shape[-1]), loss, jnp.nan)
    return loss.astype(logits.dtype), (logits, labels)


def softmax_cross_entropy_backward(
    residuals: tuple[Scores, Targets], dy: Float[Array, "*n"], /
) -> tuple[Scores, Targets | None]:
    logits, labels = residuals
    d = upcast(dy)[..., None]
    p, _ = softmax.forward(upcast(logits))
    if not _is_floating(labels):
        # dz = p − t: at the label p − 1 = −Σ of the others, which loses nothing where p is near 1
        t = _one_hot(labels, p)
        others = p * (1 - t)
        return ((others - t * others.sum(-1, keepdims=True)) * d).astype(dy.dtype), None
    # dz = p·Σt − t,  dt = −ln p
    log_p, _ = log_softmax.forward(upcast(logits))
    t = labels.astype(p.dtype)
    dlogits = (p * t.sum(-1, keepdims=True) - t) * d
    return dlogits.astype(dy.dtype), (-log_p * d).astype(labels.dtype)


def _weighted(p: Array, log_q: Array) -> Array:
    """p ln q, and 0 where p = 0 even if q = 0: a class that is masked out (a score of −∞) costs
    nothing."""
    finite = jnp.where((p == 0) & jnp.isinf(log_q), 0, log_q)
    return p * finite


def _one_hot(labels: Array, logits: Array) -> Array:
    classes = lax.broadcast_to_rank(jnp.arange(logits.shape[-1]), logits.ndim)
    return (labels[..., None] == classes).astype(logits.dtype)


def sigmoid_cross_entropy_forward(
    logits: Scores, labels: Targets
) -> tuple[Float[Array, "*n"], tuple[Scores, Targets]]:
    _check_rows("sigmoid_cross_entropy", "logits", logits, "labels", labels)
    z = upcast(logits)
    t = labels.astype(z.dtype)
    # −t ln σ(z) − (1 − t) ln(1 − σ(z)) = ([z > 0] − t) z + ln(1 + e^−|z|)
    loss = _weighted(jnp.where(z > 0, 1 - t, -t), z) + jnp.log1p(jnp.exp(-jnp.abs(z)))
    return loss.sum(-1).astype(logits.dtype), (logits, labels)


def sigmoid_cross_entropy_backward(
    residuals: tuple[Scores, Targets], dy: Float[Array, "*n"], /
) -> tuple[Scores, Targets | None]:
    logits, labels = residuals
    z, d = upcast(logits), upcast(dy)[..., None]
    # dz = σ(z) − t = (1 − t) σ(z) − t σ(−z), which loses nothing where σ is near t;  dt = −z
    t = labels.astype(z.dtype)
    dlogits = ((1 - t) * lax.logistic(z) - t * lax.logistic(-z)) * d
    return dlogits.astype(logits.dtype), (
        (-z * d).astype(labels.dtype) if _is_floating(labels) else None
    )


def kl_divergence_forward(
    logits: Scores, p: Scores
) -> tuple[Float[Array, "*n"], tuple[Scores, Scores]]:
    check_floating("kl_divergence", p=p)
    _check_rows("kl_divergence", "logits", logits, "p", p)
    log_q, _ = log_softmax.forward(upcast(logits))
    wide_p = upcast(p)
    loss = (wide_p * _log_or_zero(wide_p) - _weighted(wide_p, log_q)).sum(-1)
    return loss.astype(logits.dtype), (log_q, p)


def kl_divergence_backward(
    residuals: tuple[Scores, Scores], dy: Float[Array, "*n"], /
) -> tuple[Scores, Scores]:
    log_q, given = residuals
    p, d = upcast(given), upcast(dy)[..., None]
    # dz = q·Σp − p,  dp = ln p + 1 − ln q
    dlogits = (jnp.exp(log_q) * p.sum(-1, keepdims=True) - p) * d
    dp = jnp.where(p > 0, _log_or_zero(p) + 1 - log_q, -log_q) * d
    return dlogits.astype(dy.dtype), dp.astype(given.dtype)


def _log_or_zero(p: Array) -> Array:
    return jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), 0)


def squared_error_forward(
    y: Scores, t: Targets, *, scale: float = 1.0
) -> tuple[Float[Array, "*n"], tuple[Scores, tuple[Targets, ...]]]:
    _check_rows("squared_error", "y", y, "t", t)
    if not is_number(scale):
        raise setting_error("squared_error", "scale", "a number", scale)
    difference = upcast(y) - t.astype(upcast(y).dtype)
    target = (
        (t[..., :0],) if _is_floating(t) else ()
    )  # no numbers: only the dtype that the target's cotangent must have
    loss = scale * jnp.square(difference).sum(-1)
    return loss.astype(y.dtype), (difference.astype(y.dtype), target)


def squared_error_backward(
    residuals: tuple[Scores, tuple[Targets, ...]], d: Float[Array, "*n"], /, *, scale: float = 1.0
) -> tuple[Scores, Targets | None]:
    difference, target = residuals
    # dy = 2·scale·(y − t),  dt = −dy
    dy = 2 * scale * upcast(difference) * upcast(d)[..., None]
    return dy.astype(difference.dtype), -dy.astype(target[0].dtype) if target else None


def l2_forward(w: Float[Array, "*n"]) -> tuple[Float[Array, ""], Float[Array, "*n"]]:
    check_floating("l2", w=w)
    return (jnp.square(upcast(w)).sum() / 2).astype(w.dtype), w


def l2_backward(w: Float[Array, "*n"], dy: Float[Array, ""], /) -> tuple[Float[Array, "*n"]]:
    return (w * dy,)


def softmax_cross_entropy_reference(logits: Array, labels: Array) -> Array:
    t = (
        labels
        if _is_floating(labels)
        else jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    )
    return -(t * (logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True))).sum(-1)


def sigmoid_cross_entropy_reference(logits: Array, labels: Array) -> Array:
    return -(labels * jax.nn.log_sigmoid(logits) + (1 - labels) * jax.nn.log_sigmoid(-logits)).sum(
        -1
    )


def kl_divergence_reference(logits: Array, p: Array) -> Array:
    return (p * jnp.log(p) - p * jax.nn.log_softmax(logits)).sum(-1)


def squared_error_reference(y: Array, t: Array, *, scale: float = 1.0) -> Array:
    return scale * ((y - t) * (y - t)).sum(-1)


def l2_reference(w: Array) -> Array:
    return jnp.vdot(w, w) / 2


def space(choose: Choose, *, targets: tuple[str, ...]) -> Case:
    """Scores, and targets of one of the kinds."""
    shape = some(choose, 3, least=1)
    kinds = {
        "labels": integers(*shape[:-1], high=shape[-1]),
        "bits": integers(*shape, high=2),
        "rows": rows(*shape),
        "numbers": normal(*shape),
    }
    return Case("drawn", (normal(*shape), kinds[choose.among(*targets)]))


def _squared_error_space(choose: Choose) -> Case:
    drawn = space(choose, targets=("numbers", "bits"))
    return Case("drawn", drawn.inputs, {"scale": choose.among(1.0, 0.5)})


_large = values([[1e4, -1e4, 0.0], [-1e4, 9999.0, 1e4]])
_both: Any = {"batched": (0, 1)}
_kl_zero = Kink(
    "p = 0 has the gradient of ln q alone",
    (np.zeros((1, 2)), np.array([[0.0, 1.0]])),
    np.array([[0.5, -0.5]]),
)

BAD = {
    "softmax_cross_entropy": (
        Bad("labels", (zeros(5, 4), zeros(4, dtype="int32")), "softmax_cross_entropy: integer `labels` must have the shape of `logits` without its last axis"),  # noqa: E501
        Bad("rows", (zeros(5, 4), zeros(5)), "softmax_cross_entropy: `labels` must have the shape of `logits` (logits: (5, 4) … k; labels: (5,) … k)"),  # noqa: E501
        Bad("logits", (zeros(5, 4, dtype="int32"), zeros(5, dtype="int32")), "`logits` must be a floating-point array", error=TypeError),  # noqa: E501
    ),
    "sigmoid_cross_entropy": (
        Bad("labels", (zeros(5, 4), zeros(5)), "sigmoid_cross_entropy: `labels` must have the shape of `logits`"),  # noqa: E501
    ),
    "kl_divergence": (
        Bad("p", (zeros(5, 4), zeros(5)), "kl_divergence: `p` must have the shape of `logits`"),
        Bad("integers", (zeros(5, 4), zeros(5, 4, dtype="int32")), "`p` must be a floating-point array", error=TypeError),  # noqa: E501
    ),
    "squared_error": (
        Bad("t", (zeros(5, 4), zeros(5)), "squared_error: `t` must have the shape of `y` (y: (5, 4) … k; t: (5,) … k)"),  # noqa: E501
        Bad("scale", (zeros(5, 4), zeros(5, 4)), "squared_error: setting `scale` must be a number", {"scale": "mean"}),  # noqa: E501
    ),
    "l2": (
        Bad("dtype", (zeros(3, dtype="int32"),), "l2: `w` must be a floating-point array", error=TypeError),  # noqa: E501
    ),
}  # fmt: skip

softmax_cross_entropy = Op(
    "softmax_cross_entropy",
    softmax_cross_entropy_forward,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_reference,
    (
        Case("integer labels", (normal(5, 4), integers(5, high=4)), ulps=8, **_both),
        Case("rows that sum to 1", (normal(5, 4), rows(5, 4)), **_both),
        Case("rows that sum to 3", (normal(2, 4), rows(2, 4, scale=3.0)), **_both),
        Case("two leading axes", (normal(2, 3, 4), integers(2, 3, high=4)), ulps=8, **_both),
        Case("scores of ±1e4", (_large, integers(2, high=3)), **_both),
        Case("one class", (normal(3, 1), integers(3, high=1)), **_both),
        Case("one example", (normal(4), integers(high=4)), batched=()),
    ),
    bad=BAD["softmax_cross_entropy"],
    doc=__doc__,
    space=functools.partial(space, targets=("labels", "rows")),
    equation="−Σ_k t[k] ln softmax(z)[k]",
    keeps="logits, labels",
)
sigmoid_cross_entropy = Op(
    "sigmoid_cross_entropy",
    sigmoid_cross_entropy_forward,
    sigmoid_cross_entropy_backward,
    sigmoid_cross_entropy_reference,
    (
        Case("rows in [0, 1]", (normal(5, 3), rows(5, 3)), **_both),
        Case("integer labels", (normal(4, 3), integers(4, 3, high=2)), ulps=8, **_both),
        Case("scores of ±1e4", (_large, integers(2, 3, high=2)), **_both),
        Case("one example", (normal(4), rows(4)), batched=()),
    ),
    bad=BAD["sigmoid_cross_entropy"],
    doc=__doc__,
    space=functools.partial(space, targets=("rows", "bits")),
    equation="−Σ_k t ln σ(z) + (1 − t) ln(1 − σ(z))",
    keeps="logits, labels",
)
kl_divergence = Op(
    "kl_divergence",
    kl_divergence_forward,
    kl_divergence_backward,
    kl_divergence_reference,
    (
        Case("rows that sum to 1", (normal(5, 4), rows(5, 4)), **_both),
        Case("rows that sum to 2", (normal(3, 2), rows(3, 2, scale=2.0)), **_both),
        Case("scores of ±1e4", (_large, rows(2, 3)), **_both),
        Case("one example", (normal(4), rows(4)), batched=()),
    ),
    (_kl_zero,),
    bad=BAD["kl_divergence"],
    doc=__doc__,
    space=functools.partial(space, targets=("rows",)),
    equation="Σ_k p ln(p / softmax(z))",
    keeps="ln q, p",
)
squared_error = Op(
    "squared_error",
    squared_error_forward,
    squared_error_backward,
    squared_error_reference,
    (
        Case("rows", (normal(5, 3), normal(5, 3)), **_both),
        Case("half", (normal(2, 3, 2), normal(2, 3, 2)), {"scale": 0.5}, **_both),
        Case("integer targets", (normal(4, 3), integers(4, 3, high=2)), **_both),
        Case("one example", (normal(4), normal(4)), batched=()),
    ),
    bad=BAD["squared_error"],
    doc=__doc__,
    space=_squared_error_space,
    equation="scale · Σ_k (y − t)²",
    keeps="y − t",
)
l2 = Op(
    "l2",
    l2_forward,
    l2_backward,
    l2_reference,
    (
        Case("matrix", (normal(4, 3),)),
        Case("kernel", (normal(3, 3, 2, 2),)),
        Case("one number", (normal(),), batched=()),
    ),
    bad=BAD["l2"],
    doc=__doc__,
    space=any_shape,
    equation="½ Σ w²",
    keeps="w",
)
