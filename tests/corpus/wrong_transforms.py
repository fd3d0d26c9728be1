"""Wrong rules that are right when called plainly: wrong under vmap, under jit, at second order, or
the second time."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from corpus.rule import GRADIENT, Rule, normal, rule

# --- vmap


@jax.custom_batching.custom_vmap
def total(x, dy):
    return x.sum() * dy


@total.def_vmap
def _(size, batched, x, dy):
    # Sums over the batch as well.
    dy = dy if batched[1] else jnp.broadcast_to(dy, (size, *dy.shape))
    return x.sum() * dy, True


def host_center(dy):
    """NumPy on the host: takes the mean of everything it is given."""
    return np.asarray(dy - dy.mean(), dy.dtype)


def host_backward(_, dy):
    return (
        jax.pure_callback(
            host_center, jax.ShapeDtypeStruct(dy.shape, dy.dtype), dy, vmap_method="broadcast_all"
        ),
    )


def host_reverse(dy):
    return np.ascontiguousarray(dy[::-1])


def host_reverse_backward(_, dy):
    return (
        jax.pure_callback(
            host_reverse, jax.ShapeDtypeStruct(dy.shape, dy.dtype), dy, vmap_method="expand_dims"
        ),
    )


def looks_at_batch_tracers(x, dy):
    return (jnp.cos(x) * dy * (2 if "Batch" in type(dy).__name__ else 1),)


# --- jit


def looks_at_tracers(x, dy):
    # A "fast path" for compiled code.
    return ((1 - x * x / 2) * dy,) if isinstance(x, Tracer) else (jnp.cos(x) * dy,)


def concrete_shortcut(x, dy):
    # Skips dead rows when it can see the numbers, and says so wrongly.
    if not isinstance(x, Tracer) and float(x[0]) > 0:
        return ((jnp.cos(x) * dy).at[0].set(0),)
    return (jnp.cos(x) * dy,)


# --- second order


def stopped(x, dy):
    return (jnp.cos(lax.stop_gradient(x)) * dy,)


def saved_stopped(x):
    return x**3, lax.stop_gradient(3 * x * x)


def through_bits(x, dy):
    # The residual saved as bits: right to the last one, but without a derivative.
    bits = lax.bitcast_convert_type(x, jnp.uint32 if x.dtype == jnp.float32 else jnp.uint64)
    return (2 * lax.bitcast_convert_type(bits, x.dtype) * dy,)


SLOPES = 3 * (np.arange(-20, 21) / 4) ** 2


def looked_up(x, dy):
    index = jnp.clip(jnp.round(4 * x) + 20, 0, 40).astype(jnp.int32)
    return (jnp.asarray(SLOPES, x.dtype)[index] * dy,)


inner = rule(lambda x: (jnp.cos(x), x), lambda x, dy: (jnp.sin(x) * dy,))

# --- randomness and state

CALLS = itertools.count()
RANDOM = np.random.default_rng(0)


def noisy(x, dy):
    return (jnp.cos(x) * dy * jnp.asarray(1 + 0.01 * RANDOM.standard_normal(x.shape), x.dtype),)


def counting(x, dy):
    return (jnp.cos(x) * dy * (1 + 1e-3 * next(CALLS)),)


V = normal(6, 8)
SECOND = ("reverse over reverse", "forward over reverse")


def sine(name, backward, check, cause="", note=""):
    return Rule(
        name, rule(lambda x: (jnp.sin(x), x), backward), (V,), jnp.sin, check, cause, "", note
    )


WRONG = [
    Rule("vmap: a batching rule that sums over the batch", rule(lambda x: ((x * x.sum()).sum() / 2, x), lambda x, dy: (jnp.broadcast_to(total(x, dy), x.shape),)), (V,), lambda x: x.sum() ** 2 / 2, ("vmap",)),
    Rule("vmap: callback that takes the mean of all", rule(lambda x: (x - x.mean(), None), host_backward), (V,), lambda x: x - x.mean(), ("vmap",)),
    Rule("vmap: callback that reverses the first axis", rule(lambda x: (x[::-1], None), host_reverse_backward), (V,), lambda x: x[::-1], ("vmap",)),
    sine("vmap: looks at the type of dy", looks_at_batch_tracers, ("vmap",)),
    sine("jit: other formula for tracers", looks_at_tracers, ("jit",)),
    sine("jit: other formula for concrete numbers", concrete_shortcut, ("jit", *GRADIENT), note="wrong eagerly, right when compiled"),
    sine("second order: stop_gradient in the backward", stopped, SECOND),
    Rule("second order: stop_gradient in the forward", rule(saved_stopped, lambda slope, dy: (slope * dy,)), (V,), lambda x: x**3, SECOND),
    Rule("second order: residual saved as bits", rule(lambda x: (x * x, x), through_bits), (V,), lambda x: x * x, SECOND),
    Rule("second order: slope from a table", rule(lambda x: (x**3, x), looked_up), (jnp.round(V * 4) / 4,), lambda x: x**3, SECOND, needs="reference", note="right at the points of the table, and its own derivative is 0 as finite differences have it"),
    sine("second order: wrong rule inside the backward", lambda x, dy: (inner(x) * dy,), SECOND),
    sine("random: noise in the backward", noisy, ("determinism",)),
    sine("random: depends on a counter", counting, ("determinism",)),
]  # fmt: skip
