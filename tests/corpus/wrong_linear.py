"""Wrong rules of linear maps: dense layers, convolutions, gathers, and movements of data."""

import jax
import jax.numpy as jnp
from jax import lax

from corpus.rule import GRADIENT, LINEAR, Rule, normal, rule


def dense(x, w, b):
    return x @ w + b


def dense_forward(x, w, b):
    return dense(x, w, b), (x, w)


def dense_rule(
    dx=lambda x, w, dy: dy @ w.T, dw=lambda x, w, dy: x.T @ dy, db=lambda x, w, dy: dy.sum(0)
):
    """A dense layer with some of its three gradients replaced."""

    def backward(residuals, dy):
        return dx(*residuals, dy), dw(*residuals, dy), db(*residuals, dy)

    return rule(dense_forward, backward)


OBLONG = (normal(0, 5, 3), normal(1, 3, 7), normal(2, 7))
SQUARE = (normal(0, 4, 4), normal(1, 4, 4), normal(2, 4))


# --- 1-D convolution, written as a sum over taps: y[i] = Σ_k w[k] x[s·i + k]


def taps(x, w, stride=1):
    n = (x.shape[0] - w.shape[0]) // stride + 1
    return sum(w[k] * x[k : k + stride * (n - 1) + 1 : stride] for k in range(w.shape[0]))


def spread(x, w, dy, stride=1):
    """The true gradient in x."""
    n = dy.shape[0]
    dx = jnp.zeros_like(x)
    for k in range(w.shape[0]):
        dx = dx.at[k : k + stride * (n - 1) + 1 : stride].add(w[k] * dy)
    return dx


def gather_taps(x, dy, count, stride=1):
    """The true gradient in w."""
    return jnp.stack(
        [x[k : k + stride * (dy.shape[0] - 1) + 1 : stride] @ dy for k in range(count)]
    )


def conv_forward(x, w):
    return taps(x, w), (x, w)


def conv_flipped_dw(residuals, dy):
    x, w = residuals
    return spread(x, w, dy), gather_taps(x, dy, w.shape[0])[::-1]


def conv_unflipped_dx(residuals, dy):
    x, w = residuals
    return jnp.convolve(dy, w[::-1], mode="full"), gather_taps(x, dy, w.shape[0])


def strided_forward(x, w):
    return taps(x, w, 2), (x, w)


def strided_forgets_in_dw(residuals, dy):
    x, w = residuals
    return spread(x, w, dy, 2), gather_taps(x, dy, w.shape[0], 1)


def strided_forgets_in_dx(residuals, dy):
    x, w = residuals
    return spread(x, w, dy, 1), gather_taps(x, dy, w.shape[0], 2)


def causal(x, w):
    return taps(jnp.pad(x, (w.shape[0] - 1, 0)), w)


def causal_backward(residuals, dy):
    x, w = residuals
    padded = jnp.pad(x, (w.shape[0] - 1, 0))
    return spread(padded, w, dy)[: x.shape[0]], gather_taps(padded, dy, w.shape[0])


def pad_left(x):
    return jnp.pad(x, ((2, 0), (0, 0)))


def image_conv(x, w):
    return lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def image_conv_backward(residuals, dy):
    # An even kernel: SAME pads (0, 1), so the transposed one must pad (1, 0), which SAME does not.
    x, w = residuals
    dx = lax.conv_general_dilated(
        dy, w[::-1, ::-1].swapaxes(2, 3), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return dx, jax.vjp(lambda w: image_conv(x, w), w)[1](dy)[0]


# --- borders and sizes


def smooth(x):
    """Mean of three neighbours, the border repeated."""
    p = jnp.pad(x, 1, mode="edge")
    return (p[:-2] + p[1:-1] + p[2:]) / 3


def smooth_backward(_, dy):
    p = jnp.pad(dy, 1)
    return ((p[:-2] + p[1:-1] + p[2:]) / 3,)


def average_same(x):
    """Average of three, where the border divides by what is there."""
    total = lax.reduce_window(x, 0.0, lax.add, (3,), (1,), "SAME")
    return total / lax.reduce_window(jnp.ones_like(x), 0.0, lax.add, (3,), (1,), "SAME")


def average_same_backward(_, dy):
    return (lax.reduce_window(dy, 0.0, lax.add, (3,), (1,), "SAME") / 3,)


def halve(x):
    """Sum of pairs; an odd last element stands alone."""
    return jnp.pad(x, (0, x.shape[0] % 2)).reshape(-1, 2).sum(1)


def halve_backward(x, dy):
    return (jnp.pad(jnp.repeat(dy[: x.shape[0] // 2], 2), (0, x.shape[0] % 2)),)


def upsample(x):
    return jnp.repeat(jnp.repeat(x, 2, 0), 2, 1)


def subsample_backward(n, dy):
    return (jnp.pad(dy, (0, n - dy.shape[0])),)


def differences_backward(_, dy):
    return (jnp.pad(dy[:-1] - dy[1:], (1, 1)),)


def depth_to_space(x):
    h, w, _ = x.shape
    return x.reshape(h, w, 2, 2).transpose(0, 2, 1, 3).reshape(2 * h, 2 * w, 1)


def space_to_depth_wrong(_, dy):
    h, w, _ = dy.shape
    return (dy.reshape(h // 2, 2, w // 2, 2).transpose(0, 2, 3, 1).reshape(h // 2, w // 2, 4),)


# --- gathers

IDS = jnp.asarray([3, 1, 3, 0], jnp.int32)
SEGMENTS = jnp.asarray([0, 0, 1, 2, 2, 2], jnp.int32)


def embed_set(residuals, dy):
    table, ids = residuals
    return jnp.zeros_like(table).at[ids].set(dy), None


def embed_off_by_one(residuals, dy):
    table, ids = residuals
    return jnp.zeros_like(table).at[(ids + 1) % table.shape[0]].add(dy), None


def segments(x, ids):
    return jax.ops.segment_sum(x, ids, num_segments=3)


def gate(x, g):
    """A gain per channel."""
    return x * g


def rows_backward(residuals, dy):
    # Works in blocks of two rows and forgets the odd one.
    x, w, rows = *residuals, dy.shape[0] // 2 * 2
    return jnp.zeros_like(x).at[:rows].set((dy @ w.T)[:rows]), x.T @ dy, dy.sum(0)


def last_element_backward(x, dy):
    dx = jnp.zeros_like(x)
    for i in range(x.shape[0] - 1):
        dx = dx.at[i].set(3 * dy[i])
    return (dx,)


SCALES = jnp.asarray([1.0, 3.0, 1e-6, 0.5], jnp.float32)


def scaled(x):
    return x * SCALES.astype(x.dtype)


def batched(a, b):
    """A stack of matrices times one matrix."""
    return jnp.einsum("bij,jk->bik", a, b)


def _wrong(name, f, args, reference, check=LINEAR, cause="", note=""):
    return Rule(name, f, args, reference, check, cause, "", note)


WRONG = [
    _wrong("dense: sign of dx", dense_rule(dx=lambda x, w, dy: -(dy @ w.T)), OBLONG, dense, GRADIENT, "sign"),
    _wrong("dense: dw the mean over the batch", dense_rule(dw=lambda x, w, dy: x.T @ dy / x.shape[0]), OBLONG, dense, GRADIENT, "mean"),
    _wrong("dense: db the mean over the batch", dense_rule(db=lambda x, w, dy: dy.mean(0)), OBLONG, dense, GRADIENT, "mean"),
    _wrong("dense: dx without the transpose", dense_rule(dx=lambda x, w, dy: dy @ w), SQUARE, dense, GRADIENT),
    _wrong("dense: dw transposed", dense_rule(dw=lambda x, w, dy: dy.T @ x), SQUARE, dense, GRADIENT, "transposed"),
    _wrong("dense: db summed over the wrong axis", dense_rule(db=lambda x, w, dy: dy.sum(1)), SQUARE, dense, GRADIENT),
    _wrong("dense: db of the first row only", dense_rule(db=lambda x, w, dy: dy[0]), OBLONG, dense, GRADIENT, note="right for a batch of one"),
    _wrong("dense: last odd row forgotten", rule(dense_forward, rows_backward), OBLONG, dense, GRADIENT, "row"),
    _wrong("matrix product: gradients in the wrong order", rule(lambda a, b: (a @ b, (a, b)), lambda r, dy: (r[0].T @ dy, dy @ r[1].T)), SQUARE[:2], jnp.matmul, GRADIENT, "swapped"),
    _wrong("product of batch and matrix: one batch element only", rule(lambda a, b: (batched(a, b), (a, b)), lambda r, dy: (dy @ r[1].T, r[0][0].T @ dy[0])), (normal(3, 3, 2, 4), normal(4, 4, 5)), batched, GRADIENT),
    _wrong("conv: dw flipped", rule(conv_forward, conv_flipped_dw), (normal(5, 9), normal(6, 3)), taps, GRADIENT, "flipped"),
    _wrong("conv: dx with the kernel not flipped", rule(conv_forward, conv_unflipped_dx), (normal(5, 9), normal(6, 3)), taps, GRADIENT),
    _wrong("conv: stride forgotten in dw", rule(strided_forward, strided_forgets_in_dw), (normal(5, 11), normal(6, 3)), lambda x, w: taps(x, w, 2), GRADIENT),
    _wrong("conv: stride forgotten in dx", rule(strided_forward, strided_forgets_in_dx), (normal(5, 11), normal(6, 3)), lambda x, w: taps(x, w, 2), GRADIENT),
    _wrong("causal conv: cut on the wrong side", rule(lambda x, w: (causal(x, w), (x, w)), causal_backward), (normal(5, 9), normal(6, 3)), causal, GRADIENT),
    _wrong("pad: cut on the wrong side", rule(lambda x: (pad_left(x), None), lambda _, dy: (dy[:-2],)), (normal(7, 8, 2),), pad_left, LINEAR, "shifted"),
    _wrong("image conv: SAME of an even kernel", rule(lambda x, w: (image_conv(x, w), (x, w)), image_conv_backward), (normal(8, 1, 5, 5, 2), normal(9, 2, 2, 2, 3)), image_conv, GRADIENT),
    _wrong("smooth: border forgotten", rule(lambda x: (smooth(x), None), smooth_backward), (normal(10, 12),), smooth),
    _wrong("average pool: border divided by the full window", rule(lambda x: (average_same(x), None), average_same_backward), (normal(11, 10),), average_same),
    _wrong("pair sums: odd size", rule(lambda x: (halve(x), x), halve_backward), (normal(12, 7),), halve, note="right for even sizes"),
    _wrong("upsample: mean for sum", rule(lambda x: (upsample(x), None), lambda _, dy: (dy.reshape(3, 2, 5, 2).mean((1, 3)),)), (normal(13, 3, 5),), upsample, LINEAR, "0.25"),
    _wrong("subsample: stride forgotten", rule(lambda x: (x[::2], x.shape[0]), subsample_backward), (normal(14, 10),), lambda x: x[::2]),
    _wrong("differences: ends forgotten", rule(lambda x: (jnp.diff(x), None), differences_backward), (normal(15, 9),), jnp.diff),
    _wrong("depth to space: wrong order back", rule(lambda x: (depth_to_space(x), None), space_to_depth_wrong), (normal(16, 2, 3, 4),), depth_to_space),
    _wrong("embedding: set for add", rule(lambda t, i: (t[i], (t, i)), embed_set), (normal(17, 5, 3), IDS), lambda t, i: t[i], note="wrong only for an index used twice"),
    _wrong("embedding: index off by one", rule(lambda t, i: (t[i], (t, i)), embed_off_by_one), (normal(17, 5, 3), IDS), lambda t, i: t[i]),
    _wrong("segment sum: segment off by one", rule(lambda x, i: (segments(x, i), i), lambda i, dy: (dy[jnp.minimum(i + 1, 2)], None)), (normal(18, 6, 2), SEGMENTS), segments),
    _wrong("gain: of the neighbouring channel", rule(lambda x, g: (gate(x, g), (x, g)), lambda r, dy: (dy * jnp.roll(r[1], 1), (r[0] * dy).sum(0))), (normal(19, 6, 4), normal(20, 4)), gate, GRADIENT),
    _wrong("broadcast product: summed over the wrong axis", rule(lambda x, g: (x * g[:, None], (x, g)), lambda r, dy: (dy * r[1][:, None], (r[0] * dy).sum(0))), (normal(21, 5, 5), normal(22, 5)), lambda x, g: x * g[:, None], GRADIENT),
    _wrong("loop over elements: last one dropped", rule(lambda x: (3 * x, x), last_element_backward), (normal(23, 40),), lambda x: 3 * x, LINEAR),
    _wrong("scales: tiny one clamped in the backward", rule(lambda x: (scaled(x), None), lambda _, dy: (dy * jnp.maximum(SCALES, 1e-5).astype(dy.dtype),)), (normal(24, 4),), scaled, note="only the element of magnitude 1e-6 is wrong, by a factor of 10"),
    _wrong("roll: rolled the same way", rule(lambda x: (jnp.roll(x, 1), None), lambda _, dy: (jnp.roll(dy, 1),)), (normal(25, 9),), lambda x: jnp.roll(x, 1), LINEAR, "shifted"),
    _wrong("transpose: only reshaped back", rule(lambda x: (x.T, x), lambda x, dy: (dy.reshape(x.shape),)), (normal(26, 3, 4),), lambda x: x.T),
]  # fmt: skip
