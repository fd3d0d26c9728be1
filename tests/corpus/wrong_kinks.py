"""Wrong rules of functions with kinks, masks and ties, and of elementwise functions."""

import jax
import jax.numpy as jnp

from corpus.rule import AT_KINK, GRADIENT, Rule, array, normal, rule


def relu(x):
    return jnp.maximum(x, 0)


def relu_reference(x):
    return jnp.where(x > 0, x, 0)


def relu_with(at_zero):
    return rule(
        lambda x: (relu(x), x),
        lambda x, dy: (jnp.where(x > 0, dy, jnp.where(x == 0, at_zero * dy, jnp.zeros_like(dy))),),
    )


def absolute_backward(x, dy):
    return (jnp.where(x == 0, 1.5, jnp.sign(x)) * dy,)


def dropout(x, key):
    return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), 2 * x, 0)


def dropout_backward(key, dy):
    key = jax.random.split(key)[0]
    return jnp.where(jax.random.bernoulli(key, 0.5, dy.shape), 2 * dy, 0), None


def huber(x):
    return jnp.where(jnp.abs(x) <= 0.5, 0.5 * x * x, 0.5 * (jnp.abs(x) - 0.25))


def huber_one_sided(x, dy):
    return (dy * jnp.where(x <= 0.5, x, 0.5 * jnp.sign(x)),)


def huber_other_threshold(x, dy):
    return (dy * jnp.clip(x, -1, 1),)


def clip(x):
    return jnp.clip(x, -1, 1)


def leaky(x):
    return jnp.where(x > 0, x, 0.1 * x)


def leaky_from_output(y, dy):
    # Reads the sign off |y|.
    return (jnp.where(jnp.abs(y) > 0, dy, 0.1 * dy),)


def prelu(x, a):
    return jnp.where(x > 0, x, a * x)


def prelu_backward(residuals, dy):
    x, a = residuals
    return jnp.where(x > 0, dy, a * dy), (x * dy).sum()


def maximum_backward(residuals, dy):
    a, b = residuals
    return jnp.where(a >= b, dy, 0), jnp.where(b >= a, dy, 0)


def max_all_ties(residuals, dy):
    x, y = residuals
    return (jnp.where(x == y[:, None], dy[:, None], 0),)


def row_max(x):
    return x.max(1)


def pool(x):
    """Max of pairs of rows and columns."""
    h, w = x.shape
    return x.reshape(h // 2, 2, w // 2, 2).max((1, 3))


def pool_backward(residuals, dy):
    x, y = residuals
    up = jnp.repeat(jnp.repeat(jnp.stack([y, dy]), 2, 1), 2, 2)
    return (jnp.where(x == up[0], up[1], 0),)


def pool_argmax_backward(residuals, dy):
    # The first of a window's columns always wins.
    x, _ = residuals
    return (jnp.zeros_like(x).at[::2, ::2].set(dy),)


def sort_backward(order, dy):
    return (dy[order],)


def top_two(x):
    return jax.lax.top_k(x, 2)[0]


def top_two_backward(residuals, dy):
    x, index = residuals
    return (jnp.zeros_like(x).at[index[::-1]].set(dy),)


def gelu(x):
    return 0.5 * x * (1 + jnp.tanh(0.7978845608028654 * (x + 0.044715 * x**3)))


def gelu_backward(x, dy):
    c = 0.797
    t = jnp.tanh(c * (x + 0.044715 * x**3))
    return (dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)),)


def swish(x):
    return x * jax.nn.sigmoid(x)


def swish_backward(x, dy):
    s = jax.nn.sigmoid(x)
    return (dy * (s + s * (1 - s)),)


def sinc(x):
    safe = jnp.where(x == 0, 1, x)
    return jnp.where(x == 0, 1, jnp.sin(safe) / safe)


def sinc_backward(x, dy):
    return (dy * (jnp.cos(x) / x - jnp.sin(x) / x**2),)


def softplus_overflow(x, dy):
    return (dy * jnp.exp(x) / (1 + jnp.exp(x)),)


def pow_backward(residuals, dy):
    x, p, y = residuals
    return dy * p * y / x, dy * y


def angle_backward(residuals, dy):
    y, x = residuals
    r = x * x + y * y
    return dy * y / r, -dy * x / r


POINTS = normal(0, 24)
WITH_ZEROS = array(-1.5, 0.0, 0.7, 2.0, 0.0, -0.3)
TIED = array([1.0, 3.0, 3.0], [2.0, -1.0, 0.5], [4.0, 4.0, 4.0])
IMAGE = jnp.round(normal(1, 4, 6) * 2)
DISTINCT = normal(2, 4, 6)

WRONG = [
    Rule("relu: mask from dy", rule(lambda x: (relu(x), x), lambda x, dy: (jnp.where(dy > 0, dy, 0),)), (POINTS,), relu, ("linear in dy", *GRADIENT)),
    Rule("relu: 2 at zero", relu_with(2.0), (WITH_ZEROS,), relu_reference, AT_KINK),
    Rule("relu: 1 at zero, another convention", relu_with(1.0), (WITH_ZEROS,), relu_reference, ("gradient", "kinks"), needs="reference"),
    Rule("relu: no mask", rule(lambda x: (relu(x), x), lambda x, dy: (dy,)), (POINTS,), relu_reference, GRADIENT),
    Rule("relu: mask of the other side", rule(lambda x: (relu(x), x), lambda x, dy: (jnp.where(x < 0, dy, 0),)), (POINTS,), relu_reference, GRADIENT),
    Rule("absolute value: 1.5 at zero", rule(lambda x: (jnp.abs(x), x), absolute_backward), (WITH_ZEROS,), jnp.abs, AT_KINK),
    Rule("absolute value: no sign", rule(lambda x: (jnp.abs(x), x), lambda x, dy: (dy,)), (POINTS,), jnp.abs, GRADIENT),
    Rule("dropout: another key", rule(lambda x, key: (dropout(x, key), key), dropout_backward), (POINTS, jax.random.key(3)), dropout, GRADIENT),
    Rule("huber: the wrong side of the threshold", rule(lambda x: (huber(x), x), huber_one_sided), (POINTS,), huber, GRADIENT),
    Rule("huber: another threshold", rule(lambda x: (huber(x), x), huber_other_threshold), (POINTS,), huber, GRADIENT),
    Rule("clip: passes outside", rule(lambda x: (clip(x), x), lambda x, dy: (dy,)), (POINTS,), clip, GRADIENT),
    Rule("leaky relu: slope forgotten", rule(lambda x: (leaky(x), leaky(x)), leaky_from_output), (POINTS,), leaky, GRADIENT),
    Rule("prelu: slope's gradient without the mask", rule(lambda x, a: (prelu(x, a), (x, a)), prelu_backward), (POINTS, jnp.float32(0.2)), prelu, GRADIENT),
    Rule("maximum: a tie counted twice", rule(lambda a, b: (jnp.maximum(a, b), (a, b)), maximum_backward), (array(1.0, 2.0, -1.0, 0.5), array(1.0, 0.0, 3.0, 0.5)), jnp.maximum, AT_KINK),
    Rule("row maximum: every tie gets all", rule(lambda x: (row_max(x), (x, row_max(x))), max_all_ties), (TIED,), row_max, AT_KINK),
    Rule("max-pool: every tie gets all", rule(lambda x: (pool(x), (x, pool(x))), pool_backward), (IMAGE,), pool, AT_KINK),
    Rule("max-pool: always the corner", rule(lambda x: (pool(x), (x, pool(x))), pool_argmax_backward), (DISTINCT,), pool, GRADIENT),
    Rule("sort: permuted forwards again", rule(lambda x: (jnp.sort(x), jnp.argsort(x)), sort_backward), (normal(3, 8),), jnp.sort, GRADIENT),
    Rule("top 2: in the wrong order", rule(lambda x: (top_two(x), (x, jax.lax.top_k(x, 2)[1])), top_two_backward), (normal(4, 9),), top_two, GRADIENT, note="the two wrong elements are exchanged"),
    Rule("floor: straight through where the reference is flat", rule(lambda x: (jnp.floor(x), None), lambda _, dy: (dy,)), (POINTS,), jnp.floor, GRADIENT),
    Rule("gelu: a constant cut to 0.1 %", rule(lambda x: (gelu(x), x), gelu_backward), (normal(5, 50),), gelu, GRADIENT),
    Rule("swish: x missing from the second term", rule(lambda x: (swish(x), x), swish_backward), (POINTS,), swish, GRADIENT),
    Rule("square: factor 2 forgotten", rule(lambda x: (x * x, x), lambda x, dy: (x * dy,)), (POINTS,), lambda x: x * x, GRADIENT, "0.5"),
    Rule("cosine: sign", rule(lambda x: (jnp.cos(x), x), lambda x, dy: (jnp.sin(x) * dy,)), (POINTS,), jnp.cos, GRADIENT, "sign"),
    Rule("tanh: 1 − y for 1 − y²", rule(lambda x: (jnp.tanh(x), jnp.tanh(x)), lambda y, dy: ((1 - y) * dy,)), (POINTS,), jnp.tanh, GRADIENT),
    Rule("sigmoid: of x for of y", rule(lambda x: (jax.nn.sigmoid(x), x), lambda x, dy: (x * (1 - x) * dy,)), (POINTS,), jax.nn.sigmoid, GRADIENT),
    Rule("degrees: π rounded to 3.14", rule(lambda x: (x * (jnp.pi / 180), None), lambda _, dy: (dy * (3.14 / 180),)), (POINTS,), lambda x: x * (jnp.pi / 180), (*GRADIENT, "adjoint"), "0.999"),
    Rule("product: gradients in the wrong order", rule(lambda a, b: (a * b, (a, b)), lambda r, dy: (r[0] * dy, r[1] * dy)), (normal(6, 7), normal(7, 7)), jnp.multiply, GRADIENT, "swapped"),
    Rule("power: logarithm forgotten in the exponent's gradient", rule(lambda x, p: (x**p, (x, p, x**p)), pow_backward), (array(0.5, 1.5, 2.0, 3.0), array(2.0, 0.5, 3.0, -1.0)), jnp.power, GRADIENT),
    Rule("arctan2: gradients in the wrong order and signs", rule(lambda y, x: (jnp.arctan2(y, x), (y, x)), angle_backward), (normal(8, 6), normal(9, 6)), jnp.arctan2, GRADIENT),
    Rule("sinc: 0/0 in the backward", rule(lambda x: (sinc(x), x), sinc_backward), (array(-1.0, 0.0, 0.5, 2.0),), sinc, ("NaN and infinity", *GRADIENT)),
    Rule("softplus: overflow in the backward", rule(lambda x: (jax.nn.softplus(x), x), softplus_overflow), (array(-100.0, -1.0, 0.5, 100.0),), jax.nn.softplus, ("NaN and infinity", "in float32", "in bfloat16", *GRADIENT), note="nan in float32, right in float64"),
    Rule("sin and cos: the second cotangent ignored", rule(lambda x: ((jnp.sin(x), jnp.cos(x)), x), lambda x, dy: (jnp.cos(x) * dy[0],)), (POINTS,), lambda x: (jnp.sin(x), jnp.cos(x)), GRADIENT),
]  # fmt: skip
