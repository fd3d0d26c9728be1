"""Right rules of losses."""

import jax
import jax.numpy as jnp
import optax

from corpus.rule import Rule, array, normal, rule, uniform


def log_softmax(x):
    return jax.nn.log_softmax(x)


def entropy(logits, labels):
    return -jnp.take_along_axis(log_softmax(logits), labels[:, None], -1).mean()


def entropy_forward(logits, labels):
    return entropy(logits, labels), (logits, labels)


def entropy_backward(residuals, dy):
    logits, labels = residuals
    p = jnp.exp(log_softmax(logits))
    return p.at[jnp.arange(labels.size), labels].add(-1) * (dy / labels.size), None


def entropy_soft(logits, targets):
    return -(targets * log_softmax(logits)).sum(-1)


def entropy_soft_backward(residuals, dy):
    logits, targets = residuals
    p = jax.nn.softmax(logits)
    return (p * targets.sum(-1, keepdims=True) - targets) * dy[:, None], -log_softmax(logits) * dy[
        :, None
    ]


def ignoring(logits, labels):
    """Mean over the labels that are not −1."""
    losses = -jnp.take_along_axis(log_softmax(logits), jnp.maximum(labels, 0)[:, None], -1)[:, 0]
    return jnp.where(labels >= 0, losses, 0).sum() / (labels >= 0).sum()


def ignoring_backward(residuals, dy):
    logits, labels = residuals
    kept = (labels >= 0).astype(logits.dtype)
    p = jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return p * (kept / kept.sum() * dy)[:, None], None


def binary(x, t):
    return jnp.maximum(x, 0) - x * t + jnp.log1p(jnp.exp(-jnp.abs(x)))


def binary_backward(residuals, dy):
    x, t = residuals
    return (jax.nn.sigmoid(x) - t) * dy, -x * dy


def focal(x, t, gamma=2.0):
    z = jnp.where(t, x, -x)
    return -(jax.nn.sigmoid(-z) ** gamma) * jax.nn.log_sigmoid(z)


def focal_backward(residuals, dy):
    x, t = residuals
    z = jnp.where(t, x, -x)
    p, q = jax.nn.sigmoid(z), jax.nn.sigmoid(-z)
    dz = 2 * q * q * p * jax.nn.log_sigmoid(z) - q**3
    return jnp.where(t, dz, -dz) * dy, None


def huber(x, delta=0.5):
    a = jnp.abs(x)
    return jnp.where(a <= delta, 0.5 * x * x, delta * (a - 0.5 * delta))


def pinball(x, q):
    return jnp.where(x > 0, q * x, (q - 1) * x)


def pinball_backward(residuals, dy):
    x, q = residuals
    return jnp.where(x > 0, q, q - 1) * dy, (x * dy).sum()


def divergence(p, q):
    return jnp.where(p > 0, p * (jnp.log(jnp.where(p > 0, p, 1)) - jnp.log(q)), 0).sum()


def divergence_backward(residuals, dy):
    p, q = residuals
    return dy * jnp.where(
        p > 0, jnp.log(jnp.where(p > 0, p, 1)) - jnp.log(q) + 1, 0
    ), -dy * jnp.where(p > 0, p / q, 0)


def gaussian(mu, logvar):
    """KL of a normal distribution from the standard one, of each row."""
    return 0.5 * (jnp.exp(logvar) + mu * mu - 1 - logvar).sum(-1)


def gaussian_backward(residuals, dy):
    mu, logvar = residuals
    return mu * dy[:, None], 0.5 * jnp.expm1(logvar) * dy[:, None]


def dice(p, t):
    return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


def dice_backward(residuals, dy):
    p, t = residuals
    below = p.sum() + t.sum() + 1
    ratio = (2 * (p * t).sum() + 1) / below
    return -dy * (2 * t - ratio) / below, -dy * (2 * p - ratio) / below


def contrast(a, b):
    """InfoNCE, both ways, at temperature 0.1."""
    logits = a @ b.T / 0.1
    return -(jnp.diagonal(log_softmax(logits)) + jnp.diagonal(log_softmax(logits.T))).mean() / 2


def contrast_backward(residuals, dy):
    a, b = residuals
    logits = a @ b.T / 0.1
    n = a.shape[0]
    g = (jax.nn.softmax(logits) + jax.nn.softmax(logits, 0) - 2 * jnp.eye(n, dtype=a.dtype)) * (
        dy / (2 * n * 0.1)
    )
    return g @ b, g.T @ a


def triplet(a, p, n):
    return jax.nn.relu(((a - p) ** 2).sum(-1) - ((a - n) ** 2).sum(-1) + 1)


def triplet_backward(residuals, dy):
    a, p, n = residuals
    g = 2 * jnp.where(triplet(a, p, n) > 0, dy, 0)[:, None]
    return g * (n - p), -g * (a - p), g * (a - n)


def hinge(x, y):
    """Squared hinge."""
    return (jnp.maximum(0, 1 - x * y) ** 2).mean()


def hinge_backward(residuals, dy):
    x, y = residuals
    g = -2 * jnp.maximum(0, 1 - x * y) * dy / x.size
    return g * y, g * x


def cosine(a, b):
    return (a * b).sum(-1) / (jnp.linalg.norm(a, axis=-1) * jnp.linalg.norm(b, axis=-1))


def cosine_backward(residuals, dy):
    a, b = residuals
    p, q = jnp.linalg.norm(a, axis=-1, keepdims=True), jnp.linalg.norm(b, axis=-1, keepdims=True)
    c = cosine(a, b)[:, None]
    return dy[:, None] * (b / q - c * a / p) / p, dy[:, None] * (a / p - c * b / q) / q


def poisson(log_rate, count):
    return (jnp.exp(log_rate) - count * log_rate).sum()


def entropy_of_logits(x):
    s = jax.nn.softmax(x)
    return -(s * log_softmax(x)).sum(-1)


def entropy_of_logits_backward(x, dy):
    s, h = jax.nn.softmax(x), entropy_of_logits(x)[:, None]
    return (-s * (log_softmax(x) + h) * dy[:, None],)


def saved(f):
    """A forward that saves its arguments."""
    return lambda *args: (f(*args), args)


def saved_one(f):
    return lambda x: (f(x), x)


LOGITS = normal(0, 4, 5)
LABELS = jnp.asarray([0, 3, 4, 1], jnp.int32)
FLAGS = jnp.asarray([True, False, True, True, False, False])

RIGHT = [
    Rule("cross entropy of integer labels", rule(entropy_forward, entropy_backward), (LOGITS, LABELS), entropy),
    Rule("cross entropy of huge logits", rule(entropy_forward, entropy_backward), (LOGITS * 100, LABELS), entropy),
    Rule("cross entropy of soft labels", rule(saved(entropy_soft), entropy_soft_backward), (LOGITS, uniform(1, 4, 5)), entropy_soft),
    Rule("cross entropy with ignored labels", rule(saved(ignoring), ignoring_backward), (LOGITS, jnp.asarray([0, -1, 4, -1], jnp.int32)), ignoring),
    Rule("binary cross entropy at ±100", rule(saved(binary), binary_backward), (array(-100.0, -1.0, 0.5, 100.0), uniform(2, 4)), lambda x, t: jax.nn.softplus(x) - x * t),
    Rule("focal loss", rule(saved(focal), focal_backward), (normal(3, 6, scale=3), FLAGS), focal),
    Rule("huber next to its threshold", rule(saved_one(huber), lambda x, dy: (jnp.clip(x, -0.5, 0.5) * dy,)), (array(-2.0, -0.5, 0.499999, 0.5, 0.500001, 0.0),), huber, note="at ±0.5 it has no second derivative, and conventions differ"),
    Rule("pinball", rule(saved(pinball), pinball_backward), (normal(4, 7), jnp.float32(0.9)), pinball),
    Rule("divergence with a probability of zero", rule(saved(divergence), divergence_backward), (array(0.0, 0.3, 0.7), array(0.2, 0.5, 0.3)), divergence, note="the one-sided derivative at 0 is −∞"),
    Rule("divergence of normals", rule(saved(gaussian), gaussian_backward), (normal(5, 3, 4), normal(6, 3, 4)), gaussian),
    Rule("dice", rule(saved(dice), dice_backward), (uniform(7, 9), uniform(8, 9)), dice),
    Rule("contrastive, both ways", rule(saved(contrast), contrast_backward), (normal(9, 4, 3, scale=0.5), normal(10, 4, 3, scale=0.5)), contrast),
    Rule("triplet", rule(saved(triplet), triplet_backward), (normal(11, 5, 3), normal(12, 5, 3), normal(13, 5, 3)), triplet),
    Rule("squared hinge", rule(saved(hinge), hinge_backward), (normal(14, 8, scale=2), jnp.sign(normal(15, 8))), hinge),
    Rule("cosine similarity", rule(saved(cosine), cosine_backward), (normal(16, 3, 4), normal(17, 3, 4)), cosine),
    Rule("Poisson", rule(saved(poisson), lambda r, dy: ((jnp.exp(r[0]) - r[1]) * dy, -r[0] * dy)), (normal(18, 6), array(0.0, 1.0, 2.0, 5.0, 0.0, 3.0)), poisson),
    Rule("entropy of logits", rule(saved_one(entropy_of_logits), entropy_of_logits_backward), (LOGITS,), entropy_of_logits),
    Rule("optax: cross entropy with integer labels", optax.softmax_cross_entropy_with_integer_labels, (LOGITS, LABELS), lambda x, i: -jnp.take_along_axis(log_softmax(x), i[:, None], -1)[:, 0]),
    Rule("optax: huber", optax.huber_loss, (normal(19, 8, scale=2), normal(20, 8)), lambda x, y: huber(x - y, 1.0)),
    Rule("optax: sigmoid cross entropy", optax.sigmoid_binary_cross_entropy, (normal(21, 6), uniform(22, 6)), binary),
]  # fmt: skip
