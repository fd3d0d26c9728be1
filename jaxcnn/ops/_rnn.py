"""A recurrent layer, and backpropagation through time written out.

    h[t]  = f(x[t] wx + h[t−1] wh + b),   h[0] = h0,   t = 1 … T
    δ[t]  = (dy[t] + δ[t+1] whᵀ) ⊙ f′(h[t]),   δ[T+1] = 0          (from the last step to the first)
    dx[t] = δ[t] wxᵀ
    dh0   = δ[1] whᵀ
    dwx   = Σ_{n,t} x[t]ᵀ δ[t],   dwh = Σ_{n,t} h[t−1]ᵀ δ[t],   db = Σ_{n,t} δ[t]

n example, i input, h hidden unit; f′ is written in terms of the output h[t], so f is one of tanh,
sigmoid, relu, softplus. The products over x, and all three weight gradients, are one matrix product
over all steps; only the recursion itself is sequential.

Shapes: x (n, t, i), h0 (n, h), wx (i, h), wh (h, h), b (h) → all states (n, t, h). Kept: x, h0, wx,
wh and the states; no pre-activations. Kinks: those of f (relu: 0 at 0). The recursion and all sums
are in float32 for 16-bit inputs. Raises ValueError for shapes or activations that do not fit,
TypeError for dtypes that differ. Source, in experiments/README.md: S4.4.

>>> import jax.numpy as jnp
>>> one = jnp.ones((1, 1))
>>> rnn(jnp.ones((1, 3, 1)), jnp.zeros((1, 1)), one, one, jnp.zeros(1), activation="relu")[0, :, 0]
Array([1., 2., 3.], dtype=float32)
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn._core.case import Bad, Case, Draw, normal, zeros
from jaxcnn._core.contracts import Array, Float
from jaxcnn._core.cotangent import match_varying
from jaxcnn._core.errors import check_axis_size, check_rank, check_same_dtype, setting_error
from jaxcnn._core.norms import of_outer_products, of_rows
from jaxcnn._core.op import Op
from jaxcnn._core.space import Choose
from jaxcnn._core.upcast import matmul, upcast
from jaxcnn.ops._activations import relu, sigmoid, softplus, tanh

# those whose derivative can be had from the output alone
ACTIVATIONS = {op.name: op for op in (tanh, sigmoid, relu, softplus)}
PULLS = {op.name: op.backward for op in (tanh, relu, softplus)}
PULLS["sigmoid"] = functools.partial(sigmoid.backward, keep="y")

Residuals = tuple[
    Float[Array, "n t i"],
    Float[Array, "n h"],
    Float[Array, "i h"],
    Float[Array, "h h"],
    Float[Array, "n t h"],
]


def forward(
    x: Float[Array, "n t i"],
    h0: Float[Array, "n h"],
    wx: Float[Array, "i h"],
    wh: Float[Array, "h h"],
    b: Float[Array, " h"],
    *,
    activation: str = "tanh",
) -> tuple[Float[Array, "n t h"], Residuals]:
    _check(x, h0, wx, wh, b, activation)
    f, recurrent = ACTIVATIONS[activation].forward, upcast(wh)

    def step(h: Array, driven: Array) -> tuple[Array, Array]:
        h, _ = f(driven + h @ recurrent)
        return h, h.astype(x.dtype)

    driven = matmul(x, wx) + lax.broadcast_to_rank(upcast(b), x.ndim)
    _, states = lax.scan(step, match_varying(upcast(h0), driven, wh), driven.swapaxes(0, 1))
    y = states.swapaxes(0, 1)
    return y, (x, h0, wx, wh, y)


def backward(
    residuals: Residuals, dy: Float[Array, "n t h"], /, *, activation: str = "tanh"
) -> tuple[
    Float[Array, "n t i"],
    Float[Array, "n h"],
    Float[Array, "i h"],
    Float[Array, "h h"],
    Float[Array, " h"],
]:
    x, _, wx, _, _ = residuals
    delta, before, dh0 = _through_time(residuals, dy, activation)
    in_wide = functools.partial(jnp.einsum, preferred_element_type=dh0.dtype)
    # dx[t] = δ[t] wxᵀ;  dh0 = δ[1] whᵀ is what the recursion carries out
    dx = matmul(delta, wx.T).astype(x.dtype)
    # dwx = Σ x[t]ᵀ δ[t];  dwh = Σ h[t−1]ᵀ δ[t];  db = Σ δ[t]
    dwx = in_wide("nti,nth->ih", x, delta).astype(x.dtype)
    dwh = in_wide("nth,ntk->hk", before, delta).astype(x.dtype)
    db = delta.sum((0, 1))
    return dx, dh0.astype(x.dtype), dwx, dwh, db


def _through_time(residuals: Residuals, dy: Array, activation: str) -> tuple[Array, Array, Array]:
    """δ (n, t, h), the states before each step, and dh0, still in float32."""
    _, h0, _, wh, y = residuals
    pull, back = PULLS[activation], upcast(wh).T

    def step(carried: Array, at_t: tuple[Array, Array]) -> tuple[Array, Array]:
        h, d = at_t
        (delta,) = pull(upcast(h), upcast(d) + carried)
        return delta @ back, delta.astype(d.dtype)

    # δ[t] = (dy[t] + δ[t+1] whᵀ) ⊙ f′(h[t])
    none_yet = match_varying(jnp.zeros_like(upcast(h0)), dy, y, wh)
    dh0, deltas = lax.scan(step, none_yet, (y.swapaxes(0, 1), dy.swapaxes(0, 1)), reverse=True)
    return deltas.swapaxes(0, 1), jnp.concatenate([h0[:, None], y[:, :-1]], axis=1), dh0


def norms(
    residuals: Residuals, dy: Float[Array, "n t h"], /, *, activation: str = "tanh"
) -> tuple[None, None, Float[Array, " n"], Float[Array, " n"], Float[Array, " n"]]:
    delta, before, _ = _through_time(residuals, dy, activation)
    return (
        None,
        None,
        of_outer_products(residuals[0], delta),
        of_outer_products(before, delta),
        of_rows(upcast(delta).sum(1)),
    )


def _check(x: Array, h0: Array, wx: Array, wh: Array, b: Array, activation: str) -> None:
    check_same_dtype("rnn", x=x, h0=h0, wx=wx, wh=wh, b=b)
    for name, array, symbols in (
        ("x", x, "n t i"),
        ("h0", h0, "n h"),
        ("wx", wx, "i h"),
        ("wh", wh, "h h"),
        ("b", b, "h"),
    ):
        check_rank("rnn", name, array, symbols)
    hidden = h0.shape[1]
    check_axis_size("rnn", "h0", h0, "n h", 0, x.shape[0], "`x` has examples")
    check_axis_size("rnn", "wx", wx, "i h", 0, x.shape[2], "`x` has features")
    check_axis_size("rnn", "wx", wx, "i h", 1, hidden, "`h0` has units")
    check_axis_size("rnn", "wh", wh, "h h", 0, hidden, "`h0` has units")
    check_axis_size("rnn", "wh", wh, "h h", 1, hidden, "`h0` has units")
    check_axis_size("rnn", "b", b, "h", 0, hidden, "`h0` has units")
    if x.shape[1] == 0:
        raise ValueError(
            f"rnn: `x` must have at least one step, got t = 0 (x: {tuple(x.shape)} n t i)"
        )
    if activation not in ACTIVATIONS:
        raise setting_error("rnn", "activation", f"one of {', '.join(ACTIVATIONS)}", activation)


def reference(
    x: Array, h0: Array, wx: Array, wh: Array, b: Array, *, activation: str = "tanh"
) -> Array:
    """One step after the other."""
    f = {
        "tanh": jnp.tanh,
        "sigmoid": jax.nn.sigmoid,
        "relu": jax.nn.relu,
        "softplus": jax.nn.softplus,
    }[activation]
    h, states = h0, []
    for t in range(x.shape[1]):
        h = f(x[:, t] @ wx + h @ wh + jnp.broadcast_to(b, h.shape))
        states.append(h)
    return jnp.stack(states, axis=1)


def _inputs(n: int, t: int, i: int, h: int) -> tuple[Draw, ...]:
    return normal(n, t, i), normal(n, h), normal(i, h), normal(h, h, scale=0.5), normal(h)


CASES = (
    Case("tanh", _inputs(2, 4, 3, 2), batched=(0, 1)),
    Case("sigmoid", _inputs(3, 3, 2, 3), {"activation": "sigmoid"}, batched=(0, 1)),
    Case("relu", _inputs(2, 3, 2, 3), {"activation": "relu"}, batched=(0, 1)),
    Case("softplus", _inputs(2, 3, 2, 2), {"activation": "softplus"}, batched=(0, 1)),
    Case("one step, one unit", _inputs(2, 1, 1, 1), batched=(0, 1)),
)


def space(choose: Choose) -> Case:
    n, t, i, h = (choose.integer(1, most) for most in (3, 5, 3, 3))
    return Case("drawn", _inputs(n, t, i, h), {"activation": choose.among(*ACTIVATIONS)})


_good = (zeros(2, 4, 3), zeros(2, 5), zeros(3, 5), zeros(5, 5), zeros(5))
BAD = (
    Bad("activation", _good, "rnn: setting `activation` must be one of tanh, sigmoid, relu, softplus", {"activation": "gelu"}),  # noqa: E501
    Bad("wx", (*_good[:2], zeros(4, 5), *_good[3:]), "rnn: `wx` must have i = 3 as `x` has features, got 4"),  # noqa: E501
    Bad("h0", (_good[0], zeros(3, 5), *_good[2:]), "rnn: `h0` must have n = 2 as `x` has examples, got 3"),  # noqa: E501
    Bad("no steps", (zeros(2, 0, 3), *_good[1:]), "rnn: `x` must have at least one step"),
    Bad("dtype", (*_good[:4], zeros(5, dtype="float16")), "rnn: `b` has dtype float16 but `x` has float32", error=TypeError),  # noqa: E501
)  # fmt: skip

rnn = Op(
    "rnn",
    forward,
    backward,
    reference,
    CASES,
    bad=BAD,
    norms=norms,
    doc=__doc__,
    space=space,
    equation="h[t] = f(x[t] wx + h[t−1] wh + b)",
    keeps="x, h0, wx, wh, states",
)
