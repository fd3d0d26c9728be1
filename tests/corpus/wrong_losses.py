"""Wrong rules of losses, softmax and attention."""

import jax
import jax.numpy as jnp

from corpus.rule import GRADIENT, Rule, normal, rule, uniform


def softmax(x):
    e = jnp.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_forward(x):
    return softmax(x), softmax(x)


def log_softmax(x):
    return x - jax.nn.logsumexp(x, axis=-1, keepdims=True)


def entropy_soft(logits, targets):
    """Cross entropy of each row; the targets need not sum to 1."""
    return -(targets * log_softmax(logits)).sum(-1)


def entropy_soft_forward(logits, targets):
    return entropy_soft(logits, targets), (logits, targets)


def as_if_normalised(residuals, dy):
    logits, targets = residuals
    return (softmax(logits) - targets) * dy[:, None], -log_softmax(logits) * dy[:, None]


def no_target_gradient(residuals, dy):
    logits, targets = residuals
    return (softmax(logits) * targets.sum(-1, keepdims=True) - targets) * dy[:, None], None


def zero_target_gradient(residuals, dy):
    return no_target_gradient(residuals, dy)[0], jnp.zeros_like(residuals[1])


def entropy(logits, labels):
    """Mean cross entropy of integer labels."""
    return -jnp.take_along_axis(log_softmax(logits), labels[:, None], -1).mean()


def entropy_rule(gradient):
    def backward(residuals, dy):
        logits, labels = residuals
        return gradient(softmax(logits), labels, logits.shape) * dy, None

    return rule(lambda logits, labels: (entropy(logits, labels), (logits, labels)), backward)


def one_hot(labels, p):
    return jax.nn.one_hot(labels, p.shape[-1], dtype=p.dtype)


def logsumexp_naive(x):
    """Without the maximum taken out."""
    return jnp.log(jnp.exp(x).sum(-1))


def logsumexp(x):
    return jax.nn.logsumexp(x, axis=-1)


def logsumexp_backward(x, dy):
    return (dy[:, None] * jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True),)


def binary(logits, targets):
    return jax.nn.softplus(logits) - targets * logits


def squares(x, y):
    """Mean squared error."""
    return ((x - y) ** 2).mean()


def squares_rule(factor):
    def backward(residuals, dy):
        difference = factor(residuals[0].size) * (residuals[0] - residuals[1]) * dy
        return difference, -difference

    return rule(lambda x, y: (squares(x, y), (x, y)), backward)


def weighted(x, w):
    """Weighted mean."""
    return (w * x).sum() / w.sum()


def weighted_backward(residuals, dy):
    # Forgets that the normaliser depends on w.
    x, w = residuals
    return dy * w / w.sum(), dy * x / w.sum()


def focal(logits, targets):
    p = jax.nn.sigmoid(logits)
    right = jnp.where(targets, p, 1 - p)
    return -((1 - right) ** 2) * jnp.log(right)


def focal_backward(residuals, dy):
    # Takes the modulating factor as a constant.
    logits, targets = residuals
    p = jax.nn.sigmoid(logits)
    right = jnp.where(targets, p, 1 - p)
    return (1 - right) ** 2 * (p - targets.astype(p.dtype)) * dy, None


def divergence(p, q):
    """KL(p ‖ q)."""
    return (p * jnp.log(p / q)).sum()


def divergence_backward(residuals, dy):
    p, q = residuals
    return dy * jnp.log(p / q), -dy * p / q


def dice(p, t):
    return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


def dice_backward(residuals, dy):
    p, t = residuals
    total = p.sum() + t.sum() + 1
    return -dy * 2 * t / total, -dy * 2 * p / total


def hinge(x, y):
    return jnp.maximum(0, 1 - x * y).sum()


def hinge_backward(residuals, dy):
    # The mask looks at x, not at the margin.
    x, y = residuals
    active = (x < 1).astype(x.dtype)
    return -dy * y * active, -dy * x * active


def contrast(a, b):
    """InfoNCE of matching rows."""
    logits = a @ b.T
    return -jnp.diagonal(log_softmax(logits)).mean()


def contrast_backward(residuals, dy):
    a, b = residuals
    g = (softmax(a @ b.T) - jnp.eye(a.shape[0], dtype=a.dtype)) / a.shape[0] * dy
    return g @ b, g @ a


def triplet(a, p, n):
    return jnp.maximum(0, ((a - p) ** 2).sum(-1) - ((a - n) ** 2).sum(-1) + 1)


def triplet_backward(residuals, dy):
    a, p, n = residuals
    g = 2 * (dy * (triplet(a, p, n) > 0))[:, None]
    return g * (a - p), -g * (a - p), g * (a - n)


def attention(q, k, v):
    """Causal attention of one head."""
    scores = q @ k.T / jnp.sqrt(q.shape[-1]).astype(q.dtype)
    mask = jnp.tril(jnp.ones(scores.shape, bool))
    return softmax(jnp.where(mask, scores, -jnp.inf)) @ v


def attention_rule(*, scale=True, sigma=True, masked=True, transposed=True):
    """The rule with some part left out."""

    def forward(q, k, v):
        return attention(q, k, v), (q, k, v)

    def backward(residuals, dy):
        q, k, v = residuals
        root = jnp.sqrt(q.shape[-1]).astype(q.dtype)
        scores = q @ k.T / root
        mask = jnp.tril(jnp.ones(scores.shape, bool))
        a = softmax(jnp.where(mask, scores, -jnp.inf) if masked else scores)
        da = dy @ v.T
        ds = a * (da - (a * da).sum(-1, keepdims=True) if sigma else da)
        if scale:
            ds = ds / root
        return ds @ k, (ds.T if transposed else ds) @ q, a.T @ dy

    return rule(forward, backward)


LOGITS = normal(0, 4, 5)
LABELS = jnp.asarray([0, 3, 4, 1], jnp.int32)
SOFT = uniform(1, 4, 5)
HEADS = (normal(2, 6, 4), normal(3, 6, 4), normal(4, 6, 4))
PAIR = (normal(5, 3, 7), normal(6, 3, 7))
FLAGS = jnp.asarray([True, False, True, True, False, False])

WRONG = [
    Rule("softmax: Σ term missing", rule(softmax_forward, lambda s, dy: (s * dy,)), (LOGITS,), softmax, GRADIENT),
    Rule("softmax: Σ over the wrong axis", rule(softmax_forward, lambda s, dy: (s * (dy - (s * dy).sum(0, keepdims=True)),)), (normal(0, 4, 4),), softmax, GRADIENT),
    Rule("softmax: of the logits, not the output", rule(lambda x: (softmax(x), x), lambda x, dy: (x * (dy - (x * dy).sum(-1, keepdims=True)),)), (LOGITS,), softmax, GRADIENT),
    Rule("log-softmax: Σ dy missing", rule(lambda x: (log_softmax(x), x), lambda x, dy: (dy - softmax(x),)), (LOGITS,), log_softmax, ("linear in dy", *GRADIENT), note="affine in dy, and right where the cotangent sums to 1"),
    Rule("log-softmax: mean for Σ", rule(lambda x: (log_softmax(x), x), lambda x, dy: (dy - softmax(x) * dy.mean(-1, keepdims=True),)), (LOGITS,), log_softmax, GRADIENT),
    Rule("cross entropy: soft labels taken to sum to 1", rule(entropy_soft_forward, as_if_normalised), (LOGITS, SOFT), entropy_soft, GRADIENT),
    Rule("cross entropy: None for soft labels", rule(entropy_soft_forward, no_target_gradient), (LOGITS, SOFT), entropy_soft, ("structure", *GRADIENT), "None"),
    Rule("cross entropy: zeros for soft labels", rule(entropy_soft_forward, zero_target_gradient), (LOGITS, SOFT), entropy_soft, ("structure", *GRADIENT), "None"),
    Rule("cross entropy: sum for mean", entropy_rule(lambda p, labels, shape: p - one_hot(labels, p)), (LOGITS, LABELS), entropy, GRADIENT, "sum"),
    Rule("cross entropy: mean over classes as well", entropy_rule(lambda p, labels, shape: (p - one_hot(labels, p)) / p.size), (LOGITS, LABELS), entropy, GRADIENT, "mean"),
    Rule("cross entropy: label off by one", entropy_rule(lambda p, labels, shape: (p - one_hot((labels + 1) % 5, p)) / 4), (LOGITS, LABELS), entropy, GRADIENT),
    Rule("cross entropy: the first row's label for all", entropy_rule(lambda p, labels, shape: (p - one_hot(labels[:1], p)) / 4), (LOGITS, LABELS), entropy, GRADIENT, note="right for a batch of one"),
    Rule("logsumexp: no maximum, value overflows", logsumexp_naive, (normal(7, 3, 5) + 100,), logsumexp, ("NaN and infinity", "value", "in float32", "in bfloat16"), note="inf in float32, right in float64; a plain function"),
    Rule("logsumexp: no maximum in the backward", rule(lambda x: (logsumexp(x), x), logsumexp_backward), (normal(7, 3, 5) + 100,), logsumexp, ("NaN and infinity", "in float32", "in bfloat16", *GRADIENT), note="nan in float32, right in float64"),
    Rule("binary cross entropy: sign", rule(lambda x, t: (binary(x, t), (x, t)), lambda r, dy: (dy * (r[1] - jax.nn.sigmoid(r[0])), -dy * r[0])), (normal(8, 9), uniform(9, 9)), binary, GRADIENT, "sign"),
    Rule("squared error: factor 2 forgotten", squares_rule(lambda n: 1 / n), PAIR, squares, GRADIENT, "0.5"),
    Rule("squared error: sum for mean", squares_rule(lambda n: 2), PAIR, squares, GRADIENT, "sum"),
    Rule("squared error: mean over the batch only", rule(lambda x, y: (squares(x, y), (x, y)), lambda r, dy: (2 / 3 * (r[0] - r[1]) * dy, 2 / 3 * (r[1] - r[0]) * dy)), PAIR, squares, GRADIENT, "sum"),
    Rule("weighted mean: normaliser taken as a constant", rule(lambda x, w: (weighted(x, w), (x, w)), weighted_backward), (normal(10, 8), uniform(11, 8, low=0.5)), weighted, GRADIENT),
    Rule("focal loss: modulating factor taken as a constant", rule(lambda x, t: (focal(x, t), (x, t)), focal_backward), (normal(12, 6), FLAGS), focal, GRADIENT),
    Rule("divergence: + 1 forgotten", rule(lambda p, q: (divergence(p, q), (p, q)), divergence_backward), (softmax(normal(13, 6)), softmax(normal(14, 6))), divergence, GRADIENT, note="right along the simplex"),
    Rule("dice: denominator taken as a constant", rule(lambda p, t: (dice(p, t), (p, t)), dice_backward), (uniform(15, 8), uniform(16, 8)), dice, GRADIENT),
    Rule("hinge: mask from the wrong tensor", rule(lambda x, y: (hinge(x, y), (x, y)), hinge_backward), (normal(17, 9, scale=2), jnp.sign(normal(18, 9))), hinge, GRADIENT),
    Rule("contrastive: transpose forgotten", rule(lambda a, b: (contrast(a, b), (a, b)), contrast_backward), (normal(19, 4, 3), normal(20, 4, 3)), contrast, GRADIENT),
    Rule("triplet: anchor pulled, not torn", rule(lambda a, p, n: (triplet(a, p, n), (a, p, n)), triplet_backward), (normal(21, 5, 3), normal(22, 5, 3), normal(23, 5, 3)), triplet, GRADIENT),
    Rule("attention: 1/√d forgotten", attention_rule(scale=False), HEADS, attention, GRADIENT, "2"),
    Rule("attention: Σ term missing", attention_rule(sigma=False), HEADS, attention, GRADIENT),
    Rule("attention: mask forgotten in the backward", attention_rule(masked=False), HEADS, attention, GRADIENT),
    Rule("attention: dk transposed wrongly", attention_rule(transposed=False), HEADS, attention, GRADIENT),
]  # fmt: skip
