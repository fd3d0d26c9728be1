"""Right rules with uncommon inputs and outputs: trees, integers, keys, masks, statics, empty
arrays, complex numbers."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from corpus.rule import Rule, normal, rule


class Affine(NamedTuple):
    """Weights; the bias may be None."""

    w: jax.Array
    b: jax.Array | None


def affine(p, x):
    y = x @ p.w
    return y if p.b is None else y + p.b


def affine_forward(p, x):
    return affine(p, x), (p, x)


def affine_backward(residuals, dy):
    p, x = residuals
    return Affine(x.T @ dy, None if p.b is None else dy.sum(0)), dy @ p.w.T


PARAMS = {"in": {"w": normal(0, 3, 4), "b": normal(1, 4)}, "out": (normal(2, 4, 2), normal(3, 2))}


def mlp(params, x):
    h = jnp.tanh(x @ params["in"]["w"] + params["in"]["b"])
    return h @ params["out"][0] + params["out"][1]


def mlp_forward(params, x):
    h = jnp.tanh(x @ params["in"]["w"] + params["in"]["b"])
    return h @ params["out"][0] + params["out"][1], (params, x, h)


def mlp_backward(residuals, dy):
    params, x, h = residuals
    da = (1 - h * h) * (dy @ params["out"][0].T)
    return {"in": {"w": x.T @ da, "b": da.sum(0)}, "out": (h.T @ dy, dy.sum(0))}, da @ params["in"][
        "w"
    ].T


def summary(x):
    """Several outputs, one of them integers."""
    return {"max": x.max(), "argmax": x.argmax(), "rest": (x.mean(), x * x)}


def summary_forward(x):
    return summary(x), x


def summary_backward(x, dy):
    at = jax.nn.one_hot(x.argmax(), x.size, dtype=x.dtype)
    return (at * dy["max"] + dy["rest"][0] / x.size + 2 * x * dy["rest"][1],)


def eigen(a):
    """Values and vectors of diag(a), of which the second is constant."""
    return a, jnp.eye(a.shape[0], dtype=a.dtype)


def take_backward(residuals, dy):
    table, ids = residuals
    return jnp.zeros_like(table).at[ids].add(dy), None


def take_float0(residuals, dy):
    table, ids = residuals
    return jnp.zeros_like(table).at[ids].add(dy), np.zeros(ids.shape, jax.dtypes.float0)


def scatter(x, ids, y):
    return x.at[ids].set(y)


def scatter_backward(ids, dy):
    return dy * jnp.ones_like(dy).at[ids].set(0), None, dy[ids]


def segments(x, ids):
    return jax.ops.segment_sum(x, ids, num_segments=4)


def dropout(x, key):
    return jnp.where(jax.random.bernoulli(key, 0.75, x.shape), x / 0.75, 0)


def dropout_backward(key, dy):
    return jnp.where(jax.random.bernoulli(key, 0.75, dy.shape), dy / 0.75, 0), None


def masked_mean(x, mask):
    return jnp.where(mask, x, 0).sum() / mask.sum()


def masked_mean_backward(mask, dy):
    return jnp.where(mask, dy / mask.sum(), 0), None


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def activate(x, kind, slope):
    """``kind`` is a string and ``slope`` a Python float."""
    return jnp.tanh(x) * slope if kind == "tanh" else jnp.where(x > 0, x, slope * x)


def activate_forward(x, kind, slope):
    return activate(x, kind, slope), x


def activate_backward(kind, slope, x, dy):
    return (
        dy * (slope * (1 - jnp.tanh(x) ** 2) if kind == "tanh" else jnp.where(x > 0, 1, slope)),
    )


activate.defvjp(activate_forward, activate_backward)


def power_forward(x, n, negate):
    return (-1 if negate else 1) * x**n, x


def power_backward(n, negate, x, dy):
    return ((-1 if negate else 1) * n * x ** (n - 1) * dy,)


def apply_forward(function, x):
    return function(x), x


def apply_backward(function, x, dy):
    return (jax.vjp(function, x)[1](dy)[0],)


def scale_float(x, factor):
    return x * factor


def ignored(x, y):
    """Depends on the size of y, never on y."""
    return x * y.shape[0]


def compare(x, y):
    """Depends on y only through a comparison."""
    return jnp.where(y > 0, x, -x)


def compare_backward(positive, dy):
    return jnp.where(positive, dy, -dy), None


def total_of(tree):
    return sum((leaf**2).sum() for leaf in jax.tree.leaves(tree))


def conjugate_product(z, w):
    return z * jnp.conj(w)


def complex_normal(seed, *shape):
    return (normal(seed, *shape) + 1j * normal(seed + 1, *shape)).astype(jnp.complex64)


def power_spectrum(x):
    return jnp.abs(jnp.fft.rfft(x)) ** 2


def power_spectrum_backward(x, dy):
    n = x.shape[0]
    both = jnp.concatenate([dy, jnp.zeros_like(x[dy.shape[0] :])]).astype(x.dtype)
    return (2 * n * jnp.fft.ifft(both * jnp.fft.fft(x)).real,)


def modulus_backward(z, dy):
    # JAX's convention: the cotangent of a holomorphic input is conjugated.
    return (jnp.conj(z) / jnp.abs(z) * dy,)


TABLE, IDS = normal(4, 5, 3), jnp.asarray([3, 1, 3, 0], jnp.int32)
X, V = normal(5, 4, 3), normal(6, 8)
GAINS = np.linspace(0.5, 2, 8, dtype=np.float32)
POWER = rule(power_forward, power_backward, nondiff_argnums=(1, 2))
APPLY = rule(apply_forward, apply_backward, nondiff_argnums=(0,))
MATMUL = rule(lambda a, b: (a @ b, (a, b)), lambda r, dy: (dy @ r[1].T, r[0].T @ dy))
MASK = jnp.asarray([True, False, True, True, False, True, True, False])

RIGHT = [
    Rule("params: a named tuple", rule(affine_forward, affine_backward), (Affine(normal(7, 3, 2), normal(8, 2)), X), affine),
    Rule("params: a named tuple with None", rule(affine_forward, affine_backward), (Affine(normal(7, 3, 2), None), X), affine),
    Rule("params: dicts and tuples", rule(mlp_forward, mlp_backward), (PARAMS, X), mlp),
    Rule("params: an empty dict beside x", rule(lambda p, x: (jnp.sin(x), x), lambda x, dy: ({}, jnp.cos(x) * dy)), ({}, V), lambda p, x: jnp.sin(x)),
    Rule("params: a list of unequal arrays", rule(lambda p: (total_of(p), p), lambda p, dy: (jax.tree.map(lambda leaf: 2 * leaf * dy, p),)), ([normal(9, 2), {"a": normal(10, 1, 3)}, normal(11)],), total_of),
    Rule("outputs: a dict with integers", rule(summary_forward, summary_backward), (V,), summary),
    Rule("outputs: one is constant", rule(lambda a: (eigen(a), None), lambda _, dy: (dy[0],)), (normal(12, 3),), eigen),
    Rule("outputs: one unused by the caller", lambda x: rule(summary_forward, summary_backward)(x)["rest"][1], (V,), lambda x: x * x),
    Rule("outputs: a tuple", rule(lambda x: ((jnp.sin(x), jnp.cos(x)), x), lambda x, dy: (jnp.cos(x) * dy[0] - jnp.sin(x) * dy[1],)), (V,), lambda x: (jnp.sin(x), jnp.cos(x))),
    Rule("gather: None for the indices", rule(lambda t, i: (t[i], (t, i)), take_backward), (TABLE, IDS), lambda t, i: t[i]),
    Rule("gather: float0 for the indices", rule(lambda t, i: (t[i], (t, i)), take_float0), (TABLE, IDS), lambda t, i: t[i]),
    Rule("scatter", rule(lambda x, i, y: (scatter(x, i, y), i), scatter_backward), (normal(13, 6), jnp.asarray([4, 0, 2], jnp.int32), normal(14, 3)), scatter),
    Rule("segment sum with an empty segment", rule(lambda x, i: (segments(x, i), i), lambda i, dy: (dy[i], None)), (normal(15, 5, 2), jnp.asarray([0, 0, 1, 3, 3], jnp.int32)), segments),
    Rule("dropout with a typed key", rule(lambda x, key: (dropout(x, key), key), dropout_backward), (V, jax.random.key(1)), dropout),
    Rule("dropout with a raw key", rule(lambda x, key: (dropout(x, key), key), dropout_backward), (V, jax.random.PRNGKey(2)), dropout),
    Rule("boolean mask", rule(lambda x, m: (masked_mean(x, m), m), masked_mean_backward), (V, MASK), masked_mean),
    Rule("nondiff_argnums: str and float", activate, (V, "leaky", 0.1), lambda x, kind, slope: jnp.where(x > 0, x, slope * x)),
    Rule("nondiff_argnums: int and bool", POWER, (V, 3, True), lambda x, n, negate: -(x**3)),
    Rule("nondiff_argnums: a function", APPLY, (jnp.tanh, V), lambda function, x: function(x)),
    Rule("a Python float that is differentiated", rule(lambda x, c: (x * c, (x, c)), lambda r, dy: (dy * r[1], (r[0] * dy).sum())), (V, 0.7), scale_float),
    Rule("a Python int that is not", rule(lambda x, n: (x * n, n), lambda n, dy: (dy * n, None)), (V, 3), lambda x, n: x * n),
    Rule("None as an argument", rule(lambda x, mask: (2 * x, None), lambda _, dy: (2 * dy, None)), (V, None), lambda x, mask: 2 * x),
    Rule("an input that is only looked at for its shape", rule(lambda x, y: (ignored(x, y), y.shape[0]), lambda n, dy: (n * dy, None)), (V, normal(16, 3, 2)), ignored, note="None where the derivative is zero"),
    Rule("an input that is only compared", rule(lambda x, y: (compare(x, y), y > 0), compare_backward), (V, normal(17, 8)), compare, note="None where the derivative is zero"),
    Rule("a constant of NumPy captured", rule(lambda x: (x * GAINS.astype(x.dtype), None), lambda _, dy: (dy * GAINS.astype(dy.dtype),)), (V,), lambda x: x * GAINS.astype(x.dtype)),
    Rule("empty rows", MATMUL, (jnp.zeros((0, 3), jnp.float32), normal(18, 3, 2)), jnp.matmul),
    Rule("empty inner axis", MATMUL, (jnp.zeros((2, 0), jnp.float32), jnp.zeros((0, 3), jnp.float32)), jnp.matmul, note="both gradients are empty"),
    Rule("scalars", rule(lambda x, y: (x * jnp.exp(y), (x, y)), lambda r, dy: (jnp.exp(r[1]) * dy, r[0] * jnp.exp(r[1]) * dy)), (jnp.float32(1.5), jnp.float32(-0.3)), lambda x, y: x * jnp.exp(y)),
    Rule("axes of size one", MATMUL, (normal(19, 1, 1), normal(20, 1, 5)), jnp.matmul),
    Rule("0-d scale of an array", rule(lambda x, s: (x * s, (x, s)), lambda r, dy: (dy * r[1], (dy * r[0]).sum())), (X, normal(21)), jnp.multiply),
    Rule("broadcast summed back", rule(lambda x, b: (x + b, None), lambda _, dy: (dy, dy.sum((0, 2), keepdims=True)[0])), (normal(22, 2, 4, 3), normal(23, 4, 1)), jnp.add),
    Rule("complex product", rule(lambda z, w: (z * w, (z, w)), lambda r, dy: (dy * r[1], dy * r[0])), (complex_normal(24, 4), complex_normal(26, 4)), jnp.multiply),
    Rule("complex modulus", rule(lambda z: (jnp.abs(z), z), modulus_backward), (complex_normal(28, 5),), jnp.abs),
    Rule("power spectrum", rule(lambda x: (power_spectrum(x), x), power_spectrum_backward), (normal(30, 8),), power_spectrum, note="complex inside"),
]  # fmt: skip
