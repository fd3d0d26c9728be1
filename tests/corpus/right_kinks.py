"""Right rules near and at kinks and ties, of every scale, and at the edges of domains."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from corpus.rule import Rule, array, normal, rule, uniform


def relu_forward(x):
    return jnp.maximum(x, 0), x > 0


def relu_backward(positive, dy):
    return (jnp.where(positive, dy, 0),)


def relu(x):
    return jnp.where(x > 0, x, 0)


def half_relu_backward(x, dy):
    return (dy * jnp.where(x > 0, 1, jnp.where(x == 0, 0.5, 0)),)


def absolute_backward(x, dy):
    return (jnp.where(x >= 0, dy, -dy),)  # 1 at 0, as jnp.abs has it


def maximum_backward(residuals, dy):
    a, b = residuals
    share = jnp.where(a > b, 1, jnp.where(a == b, 0.5, 0)).astype(dy.dtype)
    return share * dy, (1 - share) * dy


def first_wins(a, b):
    return jnp.where(a >= b, a, b)


def first_wins_backward(first, dy):
    return jnp.where(first, dy, 0), jnp.where(first, 0, dy)


def row_max_backward(residuals, dy):
    x, y = residuals
    ties = (x == y[:, None]).astype(dy.dtype)
    return (ties / ties.sum(1, keepdims=True) * dy[:, None],)


def pool(x):
    h, w = x.shape
    return x.reshape(h // 2, 2, w // 2, 2).max((1, 3))


def pool_backward(residuals, dy):
    x, y = residuals
    ties = (x == jnp.repeat(jnp.repeat(y, 2, 0), 2, 1)).astype(dy.dtype)
    h, w = x.shape
    count = ties.reshape(h // 2, 2, w // 2, 2).sum((1, 3))
    return (ties * jnp.repeat(jnp.repeat(dy / count, 2, 0), 2, 1),)


def pool_first(x):
    """Max of pairs; of equal ones the first, by argmax."""
    pairs = x.reshape(-1, 2)
    return jnp.take_along_axis(pairs, pairs.argmax(1)[:, None], 1)[:, 0]


def pool_first_forward(x):
    pairs = x.reshape(-1, 2)
    return pool_first(x), pairs.argmax(1)


def pool_first_backward(index, dy):
    return (jax.nn.one_hot(index, 2, dtype=dy.dtype).reshape(-1) * jnp.repeat(dy, 2),)


def clip(x):
    return jnp.where(x < -1, -1, jnp.where(x > 1, 1, x))


def clip_backward(x, dy):
    return (jnp.where((x < -1) | (x > 1), 0, dy),)


def round_through(x):
    return x + lax.stop_gradient(jnp.round(x) - x)


def reversed_gradient(x):
    return lax.stop_gradient(2 * x) - x


def length(x):
    return jnp.sqrt((x * x).sum(-1))


def length_backward(residuals, dy):
    # The length is taken again, of numbers that are nowhere 0: its own derivative would be nan in a
    # row of zeros
    x, y = residuals
    safe = jnp.where((y > 0)[..., None], x, 1)
    return (jnp.where((y > 0)[..., None], x * (dy / length(safe))[..., None], 0),)


def log_forward(x):
    return jnp.log(x), x


def stairs(x):
    """Slope 2 between jumps at the integers."""
    return 2 * x + jnp.floor(x)


def ranked(x):
    """Weights by rank: jumps where two elements change places."""
    return x * jnp.argsort(jnp.argsort(x)).astype(x.dtype)


def ranked_forward(x):
    ranks = jnp.argsort(jnp.argsort(x))
    return x * ranks.astype(x.dtype), ranks


def interpolate(x, table):
    """Linear in a table, the knots at the integers."""
    i = jnp.clip(jnp.floor(x).astype(jnp.int32), 0, table.shape[0] - 2)
    t = x - i
    return (1 - t) * table[i] + t * table[i + 1]


def interpolate_forward(x, table):
    i = jnp.clip(jnp.floor(x).astype(jnp.int32), 0, table.shape[0] - 2)
    return interpolate(x, table), (x, table, i)


def interpolate_backward(residuals, dy):
    x, table, i = residuals
    t = x - i
    d = jnp.zeros_like(table).at[i].add((1 - t) * dy).at[i + 1].add(t * dy)
    return dy * (table[i + 1] - table[i]), d


def total(x):
    return x.sum()


def total_backward(x, dy):
    return (jnp.broadcast_to(dy, x.shape),)


def mean_square_backward(x, dy):
    return (2 / x.size * x * dy,)


def spread(x):
    return x.var()


def spread_backward(x, dy):
    return (2 / x.size * (x - x.mean()) * dy,)


def softplus(x):
    return jnp.logaddexp(x, 0)


def logsumexp_backward(residuals, dy):
    x, y = residuals
    return (jnp.exp(x - y[:, None]) * dy[:, None],)


def logsumexp(x):
    return jax.nn.logsumexp(x, axis=1)


def log_sigmoid_backward(x, dy):
    return (jax.nn.sigmoid(-x) * dy,)


NEAR = array(1e-6, -1e-6, 2e-6, 0.0, 0.5, -0.0, -3e-7, -2.0)
EXTREME = array(-100.0, -20.0, -1e-4, 0.0, 1e-4, 3.0, 20.0, 100.0)
TIED = array([1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [4.0, -1.0, 4.0])
MANY = uniform(0, 100_000, low=0.5, high=1.5)
MIXED = jnp.asarray(
    np.random.default_rng(1).standard_normal(12) * 10.0 ** np.arange(-18, 18, 3), jnp.float32
)
SQUARE = rule(lambda x: (x * x, x), lambda x, dy: (2 * x * dy,))

RIGHT = [
    Rule("relu next to and at zero", rule(relu_forward, relu_backward), (NEAR,), relu),
    Rule("relu, half at zero", rule(lambda x: (jnp.maximum(x, 0), x), half_relu_backward), (NEAR,), lambda x: jnp.maximum(x, 0)),
    Rule("absolute value next to and at zero", rule(lambda x: (jnp.abs(x), x), absolute_backward), (NEAR,), jnp.abs, note="jnp.abs has gradient 1 at zero, not 0"),
    Rule("maximum, ties shared", rule(lambda a, b: (jnp.maximum(a, b), (a, b)), maximum_backward), (array(1.0, 2.0, -1.0, 0.5), array(1.0, 0.0, 3.0, 0.5)), jnp.maximum),
    Rule("maximum, the first wins", rule(lambda a, b: (first_wins(a, b), a >= b), first_wins_backward), (array(1.0, 2.0, -1.0, 0.5), array(1.0, 0.0, 3.0, 0.5)), first_wins),
    Rule("row maximum, ties shared", rule(lambda x: (x.max(1), (x, x.max(1))), row_max_backward), (TIED,), lambda x: x.max(1)),
    Rule("max-pool, ties shared", rule(lambda x: (pool(x), (x, pool(x))), pool_backward), (jnp.round(normal(2, 4, 6) * 2),), pool),
    Rule("max-pool of a constant image", rule(lambda x: (pool(x) * 3, (x, pool(x))), lambda r, dy: pool_backward(r, 3 * dy)), (jnp.zeros((4, 4), jnp.float32),), lambda x: pool(x) * 3),
    Rule("max-pool, the first of equals", rule(pool_first_forward, pool_first_backward), (array(1.0, 1.0, 2.0, 0.0, -1.0, -1.0, 0.0, 5.0),), pool_first),
    Rule("clip at its limits", rule(lambda x: (jnp.clip(x, -1, 1), x), clip_backward), (array(-1.0, 1.0, 0.3, 1.000001, 0.999999, -5.0),), clip),
    Rule("relu6 far from kinks", jax.nn.relu6, (array(-3.0, 2.0, 8.0, 0.7),), lambda x: jnp.minimum(jnp.maximum(x, 0), 6.0)),
    Rule("straight-through rounding", rule(lambda x: (jnp.round(x), None), lambda _, dy: (dy,)), (normal(3, 10),), round_through, needs="reference", note="its gradient is not a derivative: nothing but the reference says that it is wanted"),
    Rule("straight-through sign, clipped", rule(lambda x: (jnp.sign(x), x), lambda x, dy: (jnp.where(jnp.abs(x) <= 1, dy, 0),)), (normal(4, 10),), lambda x: clip(x) + lax.stop_gradient(jnp.sign(x) - clip(x)), needs="reference"),
    Rule("gradient reversal", rule(lambda x: (x, None), lambda _, dy: (-dy,)), (normal(5, 6),), reversed_gradient, needs="reference"),
    Rule("row lengths, zero at a row of zeros", rule(lambda x: (length(x), (x, length(x))), length_backward), (array([3.0, 4.0], [0.0, 0.0], [1.0, -1.0]),), length, note="the reference's own gradient is nan there"),
    Rule("logarithm near zero", rule(log_forward, lambda x, dy: (dy / x,)), (array(1e-5, 1e-3, 0.5, 40.0),), jnp.log),
    Rule("square root near zero", rule(lambda x: (jnp.sqrt(x), jnp.sqrt(x)), lambda y, dy: (dy / (2 * y),)), (array(1e-6, 1e-4, 0.25, 9.0),), jnp.sqrt),
    Rule("arcsine near one", rule(lambda x: (jnp.arcsin(x), x), lambda x, dy: (dy * lax.rsqrt((1 - x) * (1 + x)),)), (array(-0.999, 0.0, 0.5, 0.998),), jnp.arcsin),
    Rule("x log x at zero", jax.scipy.special.xlogy, (array(0.0, 0.5, 2.0), array(1.0, 3.0, 0.1)), jax.scipy.special.xlogy, note="a plain function"),
    Rule("stairs away from their jumps", rule(lambda x: (stairs(x), None), lambda _, dy: (2 * dy,)), (array(-1.5, 0.3, 2.6, 7.1),), stairs),
    Rule("floor", rule(lambda x: (jnp.floor(x), x), lambda x, dy: (jnp.zeros_like(x),)), (array(-1.5, 0.3, 2.6, 7.1),), jnp.floor, note="its derivative is zero"),
    Rule("sign times x²", rule(lambda x: (jnp.sign(x) * x * x, x), lambda x, dy: (2 * jnp.abs(x) * dy,)), (array(-1.5, 0.0, 1e-7, 2.6),), lambda x: jnp.abs(x) * x, note="smooth, though it does not look it"),
    Rule("weights by rank", rule(ranked_forward, lambda ranks, dy: (dy * ranks.astype(dy.dtype),)), (array(0.3, -1.0, 2.0, 0.7, -0.2),), ranked),
    Rule("interpolation between knots", rule(interpolate_forward, interpolate_backward), (array(0.25, 3.5, 1.75, 0.5, 3.9), normal(6, 5)), interpolate),
    Rule("sum of 100 000", rule(lambda x: (total(x), x), total_backward), (MANY,), total),
    Rule("mean of 100 000 squares", rule(lambda x: ((x * x).mean(), x), mean_square_backward), (MANY,), lambda x: (x * x).mean()),
    Rule("variance of 20 000 far from zero", rule(lambda x: (spread(x), x), spread_backward), (MANY[:20_000] + 10,), spread),
    Rule("dot product of 100 000", rule(lambda x, y: (x @ y, (x, y)), lambda r, dy: (r[1] * dy, r[0] * dy)), (MANY, MANY[::-1] + 1), jnp.dot),
    Rule("product with 1e-25", rule(lambda x, y: (x * y, (x, y)), lambda r, dy: (r[1] * dy, r[0] * dy)), (normal(7, 5, scale=1e-25), normal(8, 5)), jnp.multiply),
    Rule("division by 1e20", rule(lambda x, y: (x / y, (x / y, y)), lambda r, dy: (dy / r[1], -dy * r[0] / r[1])), (normal(9, 5, scale=1e20), normal(10, 5, scale=1e10) + 5e10), jnp.divide),
    Rule("square of mixed scales", SQUARE, (MIXED,), lambda x: x**2, note="from 1e-18 to 1e15"),
    Rule("tanh of huge numbers", rule(lambda x: (jnp.tanh(x), jnp.tanh(x)), lambda y, dy: ((1 - y) * (1 + y) * dy,)), (array(-1e20, -3.0, 0.0, 1e-20, 2.0, 1e6),), jnp.tanh),
    Rule("softplus at ±100", rule(lambda x: (jax.nn.softplus(x), x), lambda x, dy: (jax.nn.sigmoid(x) * dy,)), (EXTREME,), softplus),
    Rule("sigmoid at ±100", rule(lambda x: (jax.nn.sigmoid(x), x), lambda x, dy: (jax.nn.sigmoid(x) * jax.nn.sigmoid(-x) * dy,)), (EXTREME,), jax.nn.sigmoid),
    Rule("log-sigmoid at ±100", rule(lambda x: (-jax.nn.softplus(-x), x), log_sigmoid_backward), (EXTREME,), jax.nn.log_sigmoid),
    Rule("log1p and expm1", rule(lambda x: (jnp.log1p(jnp.expm1(x) / 2), x), lambda x, dy: (dy / (1 + jnp.exp(-x)),)), (array(-20.0, -1.0, -1e-8, 0.0, 1e-8, 1.0, 80.0),), lambda x: jnp.log1p(jnp.expm1(x) / 2)),
    Rule("logsumexp at 100 and −100", rule(lambda x: (logsumexp(x), (x, logsumexp(x))), logsumexp_backward), (array([100.0, 99.0, -100.0], [-100.0, -100.0, -101.0], [1.0, 2.0, 3.0]),), logsumexp),
    Rule("logistic with large inputs", lambda x, w: jax.nn.log_sigmoid(x @ w).sum(), (normal(11, 5, 3, scale=60), normal(12, 3)), lambda x, w: -jnp.logaddexp(0, -(x @ w)).sum(), note="a plain function"),
]  # fmt: skip
