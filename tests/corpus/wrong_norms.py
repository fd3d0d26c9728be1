"""Wrong rules of normalisations: batch, layer, group, instance, RMS, weight and L2."""

import jax.numpy as jnp
from jax import lax

from corpus.rule import GRADIENT, Rule, array, normal, rule

EPS = 1e-3


def layer(x, gamma, beta):
    """Each row to mean 0 and variance 1."""
    mu = x.mean(-1, keepdims=True)
    var = ((x - mu) ** 2).mean(-1, keepdims=True)
    return (x - mu) * lax.rsqrt(var + EPS) * gamma + beta


def layer_forward(x, gamma, beta):
    mu, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    inv = lax.rsqrt(var + EPS)
    hat = (x - mu) * inv
    return hat * gamma + beta, (x, hat, inv, gamma)


def layer_rule(dx, dgamma=lambda x, hat, dy: (hat * dy).sum(0), dbeta=lambda dy: dy.sum(0)):
    def backward(residuals, dy):
        x, hat, inv, gamma = residuals
        return dx(x, hat, inv, dy * gamma), dgamma(x, hat, dy), dbeta(dy)

    return rule(layer_forward, backward)


def mean(x):
    return x.mean(-1, keepdims=True)


def layer_dx(x, hat, inv, g):
    return inv * (g - mean(g) - hat * mean(g * hat))


def batch(x, gamma, beta):
    """Each column to mean 0 and variance 1."""
    mu, var = x.mean(0), x.var(0)
    return (x - mu) / jnp.sqrt(var + EPS) * gamma + beta


def batch_forward(x, gamma, beta):
    inv = 1 / jnp.sqrt(x.var(0) + EPS)
    return batch(x, gamma, beta), ((x - x.mean(0)) * inv, inv, gamma)


def batch_rule(dx):
    def backward(residuals, dy):
        hat, inv, gamma = residuals
        return dx(hat, inv, dy * gamma), (hat * dy).sum(0), dy.sum(0)

    return rule(batch_forward, backward)


def unbiased(hat, inv, g):
    n = g.shape[0]
    return inv * (g - g.mean(0) - hat * (g * hat).sum(0) / (n - 1))


def detached(x, gamma, beta):
    """Batch norm whose statistics are constants to the gradient: not what the reference says."""
    mu, var = lax.stop_gradient(x.mean(0)), lax.stop_gradient(x.var(0))
    return (x - mu) / jnp.sqrt(var + EPS) * gamma + beta


def rms(x):
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + EPS)


def rms_forward(x):
    inv = lax.rsqrt((x * x).mean(-1, keepdims=True) + EPS)
    return x * inv, (x, inv)


def rms_sum(residuals, dy):
    x, inv = residuals
    return (inv * dy - inv**3 * x * (x * dy).sum(-1, keepdims=True),)


def rms_square(residuals, dy):
    x, inv = residuals
    return (inv * dy - inv**2 * x * (x * dy).mean(-1, keepdims=True),)


def group(x):
    """Channels in two groups, each to mean 0 and variance 1."""
    g = x.reshape(x.shape[0], 2, -1)
    hat = (g - g.mean(-1, keepdims=True)) * lax.rsqrt(g.var(-1, keepdims=True) + EPS)
    return hat.reshape(x.shape)


def group_forward(x):
    g = x.reshape(x.shape[0], 2, -1)
    return group(x), (group(x), lax.rsqrt(g.var(-1, keepdims=True) + EPS))


def group_over_all(residuals, dy):
    # Means over all channels, not those of a group.
    hat, inv = residuals
    inner = dy - dy.mean(-1, keepdims=True) - hat * (dy * hat).mean(-1, keepdims=True)
    return ((inv * inner.reshape(*inv.shape[:2], -1)).reshape(hat.shape),)


def instance(x):
    """NHWC: each image and channel over its pixels."""
    mu, var = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    return (x - mu) * lax.rsqrt(var + EPS)


def instance_backward(x, dy):
    # Means over the batch as well.
    inv, hat = lax.rsqrt(x.var((1, 2), keepdims=True) + EPS), instance(x)
    axes = (0, 1, 2)
    return (inv * (dy - dy.mean(axes, keepdims=True) - hat * (dy * hat).mean(axes, keepdims=True)),)


def unit(x):
    return x / jnp.sqrt((x * x).sum(-1, keepdims=True))


def unit_backward(x, dy):
    return (dy / jnp.sqrt((x * x).sum(-1, keepdims=True)),)


def weight_norm(v, g):
    return g * v / jnp.sqrt((v * v).sum(0))


def weight_norm_backward(residuals, dy):
    v, g = residuals
    length = jnp.sqrt((v * v).sum(0))
    direction = v / length
    return g / length * (dy - direction * (dy * direction).sum()), (dy * direction).sum(0)


def length(x):
    """The L2 norm of each row, 0 for a row of zeros, with gradient 0 there."""
    squares = (x * x).sum(-1)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)


def standard(x):
    return (x - x.mean(0)) / jnp.sqrt(x.var(0))


def standard_backward(residuals, dy):
    hat, inv = residuals
    return ((dy - dy.mean(0) - hat * (dy * hat).mean(0)) * inv,)


def standard_other_value(x):
    """Divides by the sample deviation (n − 1); consistent with itself."""
    return (x - x.mean(0)) / x.std(0, ddof=1)


LAYER = (normal(0, 4, 6), 1 + normal(1, 6, scale=0.3), normal(2, 6))
BATCH = (normal(3, 6, 4, scale=2), 1 + normal(4, 4, scale=0.3), normal(5, 4))
# Variances near eps, or leaving it out would not show.
SMALL = (normal(6, 4, 6, scale=0.03), *LAYER[1:])
ROWS = normal(7, 4, 6)

WRONG = [
    Rule("layer norm: mean term missing", layer_rule(lambda x, hat, inv, g: inv * (g - hat * mean(g * hat))), LAYER, layer, GRADIENT),
    Rule("layer norm: variance term missing", layer_rule(lambda x, hat, inv, g: inv * (g - mean(g))), LAYER, layer, GRADIENT),
    Rule("layer norm: sums for means", layer_rule(lambda x, hat, inv, g: inv * (g - 6 * mean(g) - 6 * hat * mean(g * hat))), LAYER, layer, GRADIENT),
    Rule("layer norm: eps missing", layer_rule(lambda x, hat, inv, g: layer_dx(x, hat, lax.rsqrt(x.var(-1, keepdims=True)), g)), SMALL, layer, GRADIENT),
    Rule("layer norm: gamma forgotten in dx", rule(layer_forward, lambda r, dy: (layer_dx(r[0], r[1], r[2], dy), (r[1] * dy).sum(0), dy.sum(0))), LAYER, layer, GRADIENT),
    Rule("layer norm: dgamma of x for x̂", layer_rule(layer_dx, dgamma=lambda x, hat, dy: (x * dy).sum(0)), (LAYER[0] * 2 + 1, *LAYER[1:]), layer, GRADIENT),
    Rule("layer norm: dgamma and dbeta in the wrong order", rule(layer_forward, lambda r, dy: (layer_dx(r[0], r[1], r[2], dy * r[3]), dy.sum(0), (r[1] * dy).sum(0))), LAYER, layer, GRADIENT, "swapped"),
    Rule("layer norm: dbeta the mean", layer_rule(layer_dx, dbeta=lambda dy: dy.mean(0)), LAYER, layer, GRADIENT),
    Rule("batch norm: statistics taken as constants", batch_rule(lambda hat, inv, g: inv * g), BATCH, batch, GRADIENT),
    Rule("batch norm: statistics detached", detached, BATCH, batch, GRADIENT, note="plain JAX with stop_gradient, not a custom_vjp"),
    Rule("batch norm: mean term missing", batch_rule(lambda hat, inv, g: inv * (g - hat * (g * hat).mean(0))), BATCH, batch, GRADIENT),
    Rule("batch norm: n − 1 for n", batch_rule(unbiased), BATCH, batch, GRADIENT),
    Rule("batch norm: over the features for the batch", batch_rule(lambda hat, inv, g: inv * (g - mean(g) - hat * mean(g * hat))), BATCH, batch, GRADIENT),
    Rule("rms norm: sum for mean", rule(rms_forward, rms_sum), (ROWS,), rms, GRADIENT),
    Rule("rms norm: square for cube", rule(rms_forward, rms_square), (ROWS,), rms, GRADIENT),
    Rule("group norm: means over all channels", rule(group_forward, group_over_all), (normal(8, 3, 8),), group, GRADIENT),
    Rule("instance norm: means over the batch as well", rule(lambda x: (instance(x), x), instance_backward), (normal(9, 2, 3, 3, 2),), instance, GRADIENT, note="right for a batch of one"),
    Rule("unit vectors: projection missing", rule(lambda x: (unit(x), x), unit_backward), (ROWS,), unit, GRADIENT),
    Rule("weight norm: projected over all columns", rule(lambda v, g: (weight_norm(v, g), (v, g)), weight_norm_backward), (normal(10, 5, 3), normal(11, 3)), weight_norm, GRADIENT),
    Rule("row lengths: 0/0 at a row of zeros", rule(lambda x: (length(x), (x, length(x))), lambda r, dy: (dy[:, None] * r[0] / r[1][:, None],)), (array([3.0, 4.0], [0.0, 0.0], [1.0, -1.0]),), length, ("NaN and infinity", "gradient", "kinks")),
    Rule("row lengths: square root forgotten", rule(lambda x: (length(x), (x, length(x))), lambda r, dy: (dy[:, None] * r[0] / r[1][:, None] ** 2,)), (ROWS,), length, GRADIENT),
    Rule("standardise: 1/σ twice", rule(lambda x: (standard(x), (standard(x), 1 / x.var(0))), standard_backward), (BATCH[0],), standard, GRADIENT),
    Rule("standardise: sample deviation, value differs from the reference", standard_other_value, (BATCH[0],), standard, ("value",), needs="reference"),
]  # fmt: skip
