"""Right rules of layers: convolutions, normalisations, attention, pooling, movements of data."""

import jax
import jax.numpy as jnp
from jax import lax

from corpus.rule import Rule, normal, rule

NHWC = ("NHWC", "HWIO", "NHWC")


def conv(x, w, *, strides=(1, 1), padding="SAME", dilation=(1, 1), groups=1):
    return lax.conv_general_dilated(
        x,
        w,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=NHWC,
        feature_group_count=groups,
    )


def conv_rule(**how):
    """The two transposes, asked of JAX (the convolution is linear in each)."""

    def forward(x, w):
        return conv(x, w, **how), (x, w)

    def backward(residuals, dy):
        x, w = residuals
        (dx,) = jax.linear_transpose(lambda x: conv(x, w, **how), x)(dy)
        (dw,) = jax.linear_transpose(lambda w: conv(x, w, **how), w)(dy)
        return dx, dw

    return rule(forward, backward), lambda x, w: conv(x, w, **how)


def valid_backward(residuals, dy):
    # Written out: dx the full correlation with the flipped kernel, dw the correlation with x, batch
    # for channel.
    x, w = residuals
    h, v = w.shape[0] - 1, w.shape[1] - 1
    flipped = w[::-1, ::-1].swapaxes(2, 3)
    dx = lax.conv_general_dilated(dy, flipped, (1, 1), [(h, h), (v, v)], dimension_numbers=NHWC)
    dw = lax.conv_general_dilated(
        x, dy, (1, 1), "VALID", dimension_numbers=("CHWN", "IHWO", "HWNC")
    )
    return dx, dw


EDGES = jnp.asarray([[-1.0, 0.0, 1.0]] * 3, jnp.float32)


def edges(x):
    """Only for float32: lax refuses to mix dtypes."""
    return lax.conv_general_dilated(x[None, None], EDGES[None, None], (1, 1), "SAME")[0, 0]


def edges_backward(_, dy):
    return (
        lax.conv_general_dilated(dy[None, None], EDGES[::-1, ::-1][None, None], (1, 1), "SAME")[
            0, 0
        ],
    )


def edges_reference(x):
    p = jnp.pad(x, 1)
    n, m = x.shape
    return sum(p[i : i + n, 2 : 2 + m] - p[i : i + n, :m] for i in range(3))


# --- normalisations


def normalise(x, axes, eps=1e-5):
    return (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + eps)


def normalise_rule(axes):
    def forward(x):
        inv = lax.rsqrt(x.var(axes, keepdims=True) + 1e-5)
        hat = (x - x.mean(axes, keepdims=True)) * inv
        return hat, (hat, inv)

    def backward(residuals, dy):
        hat, inv = residuals
        return (
            inv * (dy - dy.mean(axes, keepdims=True) - hat * (dy * hat).mean(axes, keepdims=True)),
        )

    return rule(forward, backward), lambda x: normalise(x, axes)


def group(x):
    return normalise(x.reshape(x.shape[0], 2, -1), -1).reshape(x.shape)


def group_forward(x):
    return group(x), x


def group_backward(x, dy):
    g, dg = x.reshape(x.shape[0], 2, -1), dy.reshape(x.shape[0], 2, -1)
    inv = lax.rsqrt(g.var(-1, keepdims=True) + 1e-5)
    hat = (g - g.mean(-1, keepdims=True)) * inv
    inner = dg - dg.mean(-1, keepdims=True) - hat * (dg * hat).mean(-1, keepdims=True)
    return ((inv * inner).reshape(x.shape),)


def train_norm(x, running):
    """Batch norm in training: also returns the new running mean, which takes no gradient back."""
    mu = x.mean(0)
    return (x - mu) / jnp.sqrt(x.var(0) + 1e-5), lax.stop_gradient(0.9 * running + 0.1 * mu)


def train_norm_forward(x, running):
    y, new = train_norm(x, running)
    return (y, new), (y, lax.rsqrt(x.var(0) + 1e-5), running)


def train_norm_backward(residuals, dy):
    hat, inv, running = residuals
    dy, _ = dy
    return inv * (dy - dy.mean(0) - hat * (dy * hat).mean(0)), jnp.zeros_like(running)


def rms(x, g):
    return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * g


def rms_forward(x, g):
    inv = lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)
    return x * inv * g, (x * inv, inv, g)


def rms_backward(residuals, dy):
    hat, inv, g = residuals
    dh = dy * g
    return inv * (dh - hat * (dh * hat).mean(-1, keepdims=True)), (dy * hat).sum(0)


# --- attention


def attention(q, k, v, blocked=-jnp.inf):
    scores = q @ k.T / q.shape[-1] ** 0.5
    causal = jnp.tril(jnp.ones(scores.shape, bool))
    return jax.nn.softmax(jnp.where(causal, scores, blocked)) @ v


def attention_rule(blocked):
    def probabilities(q, k):
        scores = q @ k.T / q.shape[-1] ** 0.5
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape, bool)), scores, blocked)
        e = jnp.exp(scores - scores.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def forward(q, k, v):
        a = probabilities(q, k)
        return a @ v, (q, k, v, a)

    def backward(residuals, dy):
        q, k, v, a = residuals
        da = dy @ v.T
        ds = a * (da - (a * da).sum(-1, keepdims=True)) / q.shape[-1] ** 0.5
        return ds @ k, ds.T @ q, a.T @ dy

    return rule(forward, backward)


def minus_infinity_logits(logits):
    """Softmax of logits some of which are −∞."""
    return jax.nn.softmax(logits)


def softmax_backward(s, dy):
    return (s * (dy - (s * dy).sum(-1, keepdims=True)),)


def rotary(x, angle):
    """Pairs rotated by position times angle."""
    t = jnp.arange(x.shape[0])[:, None] * angle
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * jnp.cos(t) - b * jnp.sin(t), a * jnp.sin(t) + b * jnp.cos(t)], -1)


def rotary_backward(residuals, dy):
    x, angle = residuals
    y = rotary(x, angle)
    a, b = jnp.split(y, 2, -1)
    da, db = jnp.split(dy, 2, -1)
    return rotary(dy, -angle), (jnp.arange(x.shape[0])[:, None] * (a * db - b * da)).sum(0)


def depth_to_space(x):
    h, w, _ = x.shape
    return x.reshape(h, w, 2, 2).transpose(0, 2, 1, 3).reshape(2 * h, 2 * w)


def space_to_depth(_, dy):
    h, w = dy.shape
    return (dy.reshape(h // 2, 2, w // 2, 2).transpose(0, 2, 1, 3).reshape(h // 2, w // 2, 4),)


def average(x):
    return lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4


def average_forward(x):
    # One row is left over by the windows.
    return average(x), None


def average_odd_backward(_, dy):
    return (jnp.pad(jnp.repeat(jnp.repeat(dy, 2, 1), 2, 2) / 4, ((0, 0), (0, 1), (0, 0), (0, 0))),)


def bilinear(a, w, b):
    return jnp.einsum("bi,oij,bj->bo", a, w, b)


def bilinear_backward(residuals, dy):
    a, w, b = residuals
    return (
        jnp.einsum("bo,oij,bj->bi", dy, w, b),
        jnp.einsum("bo,bi,bj->oij", dy, a, b),
        jnp.einsum("bo,bi,oij->bj", dy, a, w),
    )


IMAGE = normal(0, 2, 5, 6, 2)
STRIDED, STRIDED_REFERENCE = conv_rule(strides=(2, 1), padding=((1, 0), (2, 1)))
DILATED, DILATED_REFERENCE = conv_rule(dilation=(2, 1), padding="VALID")
DEPTHWISE, DEPTHWISE_REFERENCE = conv_rule(groups=2)
BATCH, BATCH_REFERENCE = normalise_rule(0)
LAYER, LAYER_REFERENCE = normalise_rule(-1)
INSTANCE, INSTANCE_REFERENCE = normalise_rule((1, 2))
HEADS = (normal(1, 5, 4), normal(2, 5, 4), normal(3, 5, 3))
LOGITS = normal(4, 3, 5).at[0, 2].set(-jnp.inf).at[2, :4].set(-jnp.inf)

RIGHT = [
    Rule("conv, written out", rule(lambda x, w: (conv(x, w, padding="VALID"), (x, w)), valid_backward), (IMAGE, normal(5, 3, 2, 2, 3)), lambda x, w: conv(x, w, padding="VALID")),
    Rule("conv with strides and uneven padding", STRIDED, (IMAGE, normal(6, 3, 3, 2, 2)), STRIDED_REFERENCE),
    Rule("conv with dilation", DILATED, (IMAGE, normal(7, 2, 3, 2, 2)), DILATED_REFERENCE),
    Rule("depthwise conv", DEPTHWISE, (IMAGE, normal(8, 3, 3, 1, 4)), DEPTHWISE_REFERENCE),
    Rule("conv with a float32 kernel captured", rule(lambda x: (edges(x), None), edges_backward), (normal(9, 5, 6),), edges_reference, single=True),
    Rule("batch norm", BATCH, (normal(10, 6, 3),), BATCH_REFERENCE),
    Rule("batch norm of a batch of one", BATCH, (normal(11, 1, 4),), BATCH_REFERENCE, note="all gradients are zero"),
    Rule("layer norm", LAYER, (normal(12, 3, 7),), LAYER_REFERENCE),
    Rule("layer norm of nearly constant rows", LAYER, (normal(13, 3, 7, scale=1e-3) + 1,), LAYER_REFERENCE, note="the variance is below eps"),
    Rule("instance norm", INSTANCE, (normal(14, 2, 3, 4, 2),), INSTANCE_REFERENCE),
    Rule("group norm", rule(group_forward, group_backward), (normal(15, 3, 8),), group),
    Rule("batch norm with running mean", rule(train_norm_forward, train_norm_backward), (normal(16, 6, 3), normal(17, 3)), train_norm, needs="reference", note="the running mean is an output without gradient"),
    Rule("rms norm", rule(rms_forward, rms_backward), (normal(18, 4, 6), normal(19, 6)), rms),
    Rule("causal attention with −∞", attention_rule(-jnp.inf), HEADS, attention),
    Rule("causal attention with −1e9", attention_rule(-1e9), HEADS, lambda q, k, v: attention(q, k, v, -1e9)),
    Rule("softmax of logits with −∞", rule(lambda x: (minus_infinity_logits(x), minus_infinity_logits(x)), softmax_backward), (LOGITS,), minus_infinity_logits, note="an input that is infinite"),
    Rule("rotary embedding", rule(lambda x, a: (rotary(x, a), (x, a)), rotary_backward), (normal(20, 5, 4), normal(21, 2)), rotary),
    Rule("depth to space and back", rule(lambda x: (depth_to_space(x), None), space_to_depth), (normal(22, 2, 3, 4),), depth_to_space),
    Rule("average pool with a row left over", rule(average_forward, average_odd_backward), (IMAGE,), average),
    Rule("bilinear layer by einsum", rule(lambda *a: (bilinear(*a), a), bilinear_backward), (normal(23, 4, 2), normal(24, 3, 2, 5), normal(25, 4, 5)), bilinear),
]  # fmt: skip
