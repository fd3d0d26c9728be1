"""Wrong rules whose mistake lies in how they meet JAX: captures, structure, dtypes, values,
linearity."""

import jax
import jax.numpy as jnp
from jax import lax

from corpus.rule import GRADIENT, LINEAR, Rule, normal, rule

# --- captured tracers


def scaled(x, scale):
    """The rule is built inside, and both of its halves read ``scale``."""
    return rule(lambda x: (jnp.sin(x) * scale, x), lambda x, dy: (jnp.cos(x) * scale * dy,))(x)


def scaled_forward_only(x, scale):
    return rule(
        lambda x: (jnp.sin(x) * scale, (x, jnp.ones_like(x))), lambda r, dy: (jnp.cos(r[0]) * dy,)
    )(x)


def scaled_backward_only(x, scale):
    return (
        rule(lambda x: (jnp.sin(x), x), lambda x, dy: (jnp.cos(x) * dy * scale / scale,))(x) * scale
    )


def masked(x):
    """Only the backward reads the mask, which comes from x."""
    mask = x > 0
    return rule(lambda x: (jnp.maximum(x, 0), None), lambda _, dy: (jnp.where(mask, dy, 0),))(
        x * x * x
    )


def masked_reference(x):
    return jnp.where(x > 0, x * x * x, 0)


def in_loop(x, w):
    """The rule is built in the body of a scan, and reads the carry."""

    def step(carry, x):
        f = rule(lambda x: (x * carry, x), lambda x, dy: (dy * carry,))
        carry = jnp.tanh(f(x) + w)
        return carry, carry

    return lax.scan(step, w, x)[1]


def in_loop_reference(x, w):
    def step(carry, x):
        carry = jnp.tanh(x * carry + w)
        return carry, carry

    return lax.scan(step, w, x)[1]


# --- structure


def dense_forward(x, w):
    return x @ w, (x, w)


def wrong_shape(residuals, dy):
    x, w = residuals
    return dy @ w.T, (x.T @ dy).T


def bare(residuals, dy):
    return dy * jnp.cos(residuals)


# --- dtypes


def in_low(dtype):
    def backward(residuals, dy):
        x, w = (r.astype(dtype) for r in residuals)
        g = dy.astype(dtype)
        return (g @ w.T).astype(dy.dtype), (x.T @ g).astype(dy.dtype)

    return backward


# --- value


def shifted_forward(x):
    return jnp.sin(x) + 1e-3, x


def value_differs():
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(shifted_forward, lambda x, dy: (jnp.cos(x) * dy,))
    return f


def train_eval():
    """Applies dropout only under differentiation."""
    keep = jnp.asarray([True, True, False, True])
    f = jax.custom_vjp(lambda x: 2 * x)
    f.defvjp(
        lambda x: (jnp.where(keep, 2 * x, 0), None), lambda _, dy: (jnp.where(keep, 2 * dy, 0),)
    )
    return f


# --- not linear, not zero at zero


def clipped(x, dy):
    g = jnp.cos(x) * dy
    return (g / jnp.maximum(1, jnp.sqrt((g * g).sum())),)


def decayed(residuals, dy):
    x, w = residuals
    return dy @ w.T, x.T @ dy + 1e-2 * w


# --- trees and outputs

PARAMS = {
    "in": {"w": normal(0, 3, 4), "b": normal(1, 4)},
    "out": {"w": normal(2, 4, 2), "b": normal(3, 2)},
}


def mlp(params, x):
    h = jnp.tanh(x @ params["in"]["w"] + params["in"]["b"])
    return h @ params["out"]["w"] + params["out"]["b"]


def mlp_forward(params, x):
    return mlp(params, x), (params, x, jnp.tanh(x @ params["in"]["w"] + params["in"]["b"]))


def mlp_backward(residuals, dy):
    params, x, h = residuals
    da = (1 - h * h) * (dy @ params["out"]["w"].T)
    first = {"w": x.T @ da, "b": -da.sum(0)}
    return {"in": first, "out": {"w": h.T @ dy, "b": dy.sum(0)}}, da @ params["in"]["w"].T


def moments(x):
    return x.mean(), ((x - x.mean()) ** 2).mean()


def moments_backward(x, dy):
    # Reads the first cotangent where the second belongs.
    return (dy[0] / x.size + dy[0] * 2 * (x - x.mean()) / x.size,)


X, W = normal(4, 5, 3), normal(5, 3, 2)
V = normal(6, 8)
CAPTURED = ("captured tracers", "structure")
# Rounding is not linear either.
LOW = ("structure", "linear in dy", *GRADIENT, "in float32")


def sine(name, backward, check, cause="", note=""):
    return Rule(
        name, rule(lambda x: (jnp.sin(x), x), backward), (V,), jnp.sin, check, cause, "", note
    )


WRONG = [
    Rule("captured: forward and backward close over scale", scaled, (V, normal(7, 8)), lambda x, s: jnp.sin(x) * s, CAPTURED, "scale", note="refused by JAX itself where scale is differentiated"),
    Rule("captured: only the forward closes over scale", scaled_forward_only, (V, normal(7, 8)), lambda x, s: jnp.sin(x) * s, (*CAPTURED, *GRADIENT), "scale"),
    Rule("captured: only the backward closes over scale", scaled_backward_only, (V, normal(7, 8)), lambda x, s: jnp.sin(x) * s, CAPTURED, "scale"),
    Rule("captured: a mask made from x", masked, (V,), masked_reference, (*CAPTURED, "jit", "scan", "checkpoint"), "mask", note="works eagerly; refused under jit of vjp of jit, and checkpoint"),
    Rule("captured: the carry of a scan", in_loop, (V, jnp.float32(0.3)), in_loop_reference, CAPTURED, "carry"),
    Rule("structure: a gradient of the wrong shape", rule(dense_forward, wrong_shape), (X, W), jnp.matmul, ("structure",), note="refused by JAX itself"),
    sine("structure: no tuple", bare, ("structure",), note="refused by JAX itself"),
    sine("structure: one gradient too many", lambda x, dy: (jnp.cos(x) * dy, None), ("structure",), note="refused by JAX itself"),
    sine("structure: None for the only input", lambda x, dy: (None,), ("structure", *GRADIENT), "None"),
    sine("dtype: cotangent in float16", lambda x, dy: ((jnp.cos(x) * dy).astype(jnp.float16),), ("structure",), "float16"),
    sine("dtype: cotangent in bfloat16", lambda x, dy: ((jnp.cos(x) * dy).astype(jnp.bfloat16),), ("structure",), "bfloat16"),
    Rule("dtype: backward in bfloat16", rule(dense_forward, in_low(jnp.bfloat16)), (X, W), jnp.matmul, LOW, "bfloat16"),
    Rule("dtype: backward in float16", rule(dense_forward, in_low(jnp.float16)), (X, W), jnp.matmul, LOW, "float16"),
    Rule("value: another under differentiation", value_differs(), (V,), jnp.sin, ("value",)),
    Rule("value: dropout only under differentiation", train_eval(), (normal(8, 4),), lambda x: 2 * x, ("value",)),
    Rule("value: an approximation of the reference", jax.nn.gelu, (V,), lambda x: jax.nn.gelu(x, approximate=False), ("value",), needs="reference", note="consistent with itself"),
    Rule("value: consistent with itself, half the reference", rule(lambda x: (x * x / 2, x), lambda x, dy: (x * dy,)), (V,), lambda x: x * x, ("value",), needs="reference"),
    sine("not linear: gradient clipped", clipped, ("linear in dy", *GRADIENT)),
    sine("not linear: sign of dy", lambda x, dy: (jnp.cos(x) * jnp.sign(dy),), ("linear in dy", *GRADIENT)),
    sine("not linear: dy |dy|", lambda x, dy: (jnp.cos(x) * dy * jnp.abs(dy),), ("linear in dy", *GRADIENT)),
    Rule("zero in: weight decay in the backward", rule(dense_forward, decayed), (X, W), jnp.matmul, ("linear in dy", *GRADIENT)),
    sine("zero in: a constant added", lambda x, dy: (jnp.cos(x) * dy + 1e-3,), ("linear in dy", *GRADIENT)),
    Rule("params: sign of one leaf", rule(mlp_forward, mlp_backward), (PARAMS, X), mlp, GRADIENT, "sign"),
    Rule("outputs: the first cotangent for the second", rule(lambda x: (moments(x), x), moments_backward), (V,), moments, GRADIENT),
    Rule("reversal: the reference does not reverse", rule(lambda x: (x, None), lambda _, dy: (-dy,)), (V,), lambda x: x, LINEAR, "sign"),
    Rule("mean: divided by the rank, not by the size", rule(lambda x: (jnp.tanh(x).mean(), x), lambda x, dy: ((1 - jnp.tanh(x) ** 2) * dy / len(x.shape),)), (V,), lambda x: jnp.tanh(x).mean(), GRADIENT, "sum"),
]  # fmt: skip
