"""Right rules as they are met in other people's packages: gradients that are 0 because terms
cancel, numbers made inside, draws, modules as arguments, one precision only."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from corpus.rule import Rule, array, normal, rule, uniform

# --- terms that cancel: the gradient is 0, and what is computed is rounding


def softmax_total(x):
    return jax.nn.softmax(x).sum()


def exp_total(x):
    e = jnp.exp(x - x.max())
    return (e / e.sum()).sum()


def softmax_forward(x):
    y = jax.nn.softmax(x)
    return y, y


def softmax_backward(y, dy):
    return (y * (dy - (y * dy).sum(-1, keepdims=True)),)


hand_softmax = rule(softmax_forward, softmax_backward)


def normed(b, x):
    y = x + b
    return (y - y.mean(0)) / (y.std(0) + 1e-3)


def normed_otherwise(b, x):
    y = x + b
    c = y - y.sum(0) / y.shape[0]
    return c / (jnp.sqrt((c * c).sum(0) / y.shape[0]) + 1e-3)


def row_normed(b, x):
    """A bias for each row before a norm of rows."""
    y = x + b[:, None]
    return (y - y.mean(1, keepdims=True)) / y.std(1, keepdims=True)


def attention(bias, q, k, v):
    return jax.nn.softmax(q @ (k + bias).T) @ v


def attention_otherwise(bias, q, k, v):
    scores = q @ k.T + (q @ bias)[:, None]
    e = jnp.exp(scores - scores.max(1, keepdims=True))
    return (e @ v) / e.sum(1, keepdims=True)


def shifted_log_softmax(b, x):
    return jax.nn.log_softmax(x + b)


def shifted_log_softmax_otherwise(b, x):
    y = x + b
    return y - jax.nn.logsumexp(y)


def direction(s, x):
    """Its length does not count."""
    y = s * x
    return y / jnp.sqrt((y * y).sum())


def variance(b, x):
    return jnp.var(x + b)


def contrast(b, x):
    """Differences of neighbours."""
    y = x + b
    return y[1:] - y[:-1]


def cosine(s, x, y):
    return (s * x) @ y / jnp.sqrt(((s * x) ** 2).sum() * (y * y).sum())


CANCELLING = [
    Rule("cancelling: softmax, summed", softmax_total, (normal(200, 5),), exp_total),
    Rule(
        "cancelling: hand-written softmax, summed",
        lambda x: hand_softmax(x).sum(),
        (normal(201, 6),),
        exp_total,
    ),
    Rule("cancelling: a bias before a norm", normed, (normal(202, 3), normal(203, 6, 3)), normed_otherwise),
    Rule(
        "cancelling: a bias before a norm of rows",
        row_normed,
        (normal(204, 4), normal(205, 4, 6)),
        lambda b, x: normed_otherwise(b, x.T).T
        * ((x.std(1) + 1e-3) / x.std(1))[:, None],
    ),
    Rule(
        "cancelling: the bias of keys",
        attention,
        (normal(206, 4), normal(207, 5, 4), normal(208, 5, 4), normal(209, 5, 4)),
        attention_otherwise,
    ),
    Rule("cancelling: a shift of logits", shifted_log_softmax, (array(0.7), normal(210, 6)), shifted_log_softmax_otherwise),
    Rule("cancelling: the length of a direction", direction, (jnp.float32(1.7), normal(211, 5)), lambda s, x: jnp.sign(s) * x / jnp.linalg.norm(x) + 0 * s),
    Rule("cancelling: the mean of a variance", variance, (array(0.4), normal(212, 8)), lambda b, x: ((x + b) ** 2).mean() - (x + b).mean() ** 2),
    Rule("cancelling: differences", contrast, (array(0.4), normal(213, 5)), lambda b, x: jnp.diff(x + b)),
    Rule("cancelling: scale of a cosine", cosine, (jnp.float32(1.3), normal(214, 4), normal(215, 4)), lambda s, x, y: x @ y / (jnp.linalg.norm(x) * jnp.linalg.norm(y)) + 0 * s),
]  # fmt: skip

# --- numbers made inside, in the process's own dtype


@jax.custom_jvp
def ranked(x):
    return jnp.sort(x) / (1 / (jnp.arange(x.size) + 1))


@ranked.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return ranked(x), dx[jnp.argsort(x)] * (jnp.arange(x.size, dtype=x.dtype) + 1)


def average(x):
    w = jnp.array([0.9, 0.1])
    return lax.scan(lambda c, xi: (c * w[0] + xi * w[1], None), jnp.zeros_like(x[0]), x)[0]


def average_otherwise(x):
    c = jnp.zeros((), x.dtype)
    for i in range(x.shape[0]):
        c = 0.9 * c + 0.1 * x[i]
    return c


total = rule(lambda x: ((x * x).sum(), x), lambda x, dy: (2 * dy * x * jnp.ones(x.shape),))
windowed = rule(
    lambda x: (x * jnp.linspace(0.5, 1.5, x.size), None),
    lambda _, dy: (dy * jnp.linspace(0.5, 1.5, dy.size),),
)
mixed = rule(lambda x: (x @ (jnp.eye(3) + 1), None), lambda _, dy: (dy @ (jnp.eye(3) + 1).T,))


def counted(x, step):
    new = lax.cond(step > 2, lambda: step, lambda: jnp.zeros((), int))
    return x * jnp.exp(-new.astype(x.dtype)), new


def counted_otherwise(x, step):
    new = jnp.where(step > 2, step, 0)
    return x / jnp.exp(new.astype(x.dtype)), new


INSIDE = [
    Rule("inside: int by int", ranked, (array(0.5, -1.0, 2.0),), lambda x: jnp.sort(x) * (jnp.arange(x.size) + 1)),
    Rule("inside: weights of an average", average, (array(0.5, -1.0, 2.0),), average_otherwise),
    Rule("inside: ones", total, (array(0.5, -1.0, 2.0),), lambda x: (x**2).sum()),
    Rule("inside: a window by linspace", windowed, (normal(220, 5),), lambda x: x * (0.5 + jnp.arange(5) / 4)),
    Rule("inside: an identity matrix", mixed, (normal(221, 2, 3),), lambda x: x + x.sum(1, keepdims=True)),
    Rule("inside: integer state in a branch", counted, (normal(222, 2), jnp.array(5)), counted_otherwise),
]  # fmt: skip

# --- gradients that are 0 at the point alone

FLAT = [
    Rule("flat: a cube at 0", lambda x: x**3, (jnp.zeros(3),), lambda x: x * x * x),
    Rule("flat: a product with two zeros", jnp.prod, (array(1.0, 0.0, 3.0, 0.0),), lambda x: x[0] * x[1] * x[2] * x[3]),
    Rule("flat: x - sin x at 0", lambda x: x - jnp.sin(x), (jnp.zeros(3),), lambda x: x + jnp.sin(-x)),
    Rule("flat: 1 - cos x at 0", lambda x: 1 - jnp.cos(x), (jnp.zeros(2),), lambda x: 2 * jnp.sin(x / 2) ** 2),
    Rule(
        "flat: a cube at 0, by hand",
        rule(lambda x: (x**3, x), lambda x, dy: (3 * x * x * dy,)),
        (jnp.zeros(4),),
        lambda x: x * x * x,
    ),
]  # fmt: skip

# --- draws, which are others in another dtype


def sample(mean, log_std, key):
    return mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape, mean.dtype)


def concrete(x, key):
    """A relaxed choice."""
    return jax.nn.softmax((x + jax.random.gumbel(key, x.shape, x.dtype)) / 0.5)


MEAN, LOG_STD = array(0.1, 0.2, 0.3), array(-1.0, 0.0, 0.5)
DRAWN = [
    Rule("drawn: a normal sample", sample, (MEAN, LOG_STD, jax.random.key(0)), lambda m, s, k: jax.random.normal(k, m.shape, m.dtype) * jnp.exp(s) + m),
    Rule("drawn: a relaxed choice", concrete, (normal(230, 4), jax.random.key(3)), lambda x, k: jax.nn.softmax(2 * (x + jax.random.gumbel(k, x.shape, x.dtype)))),
]  # fmt: skip

# --- modules, flags and words among inputs and outputs


@jax.tree_util.register_pytree_node_class
class Layer:
    """Weights and a function, as a module has them."""

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __init__(self, w, act):
        self.w, self.act = w, act

    def tree_flatten(self):
        return (self.w, self.act), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)

    def __call__(self, x):
        return self.act(x @ self.w)


LAYER = Layer(array([0.1, -0.4], [0.3, 0.2]), jnp.tanh)
MODULES = [
    Rule("module: as an argument", lambda m, x: m(x), (LAYER, array(1.0, 2.0)), lambda m, x: jnp.tanh(jnp.einsum("i,ij->j", x, m.w))),
    Rule("module: as the function", LAYER, (array(1.0, 2.0),), lambda x: jnp.tanh(jnp.einsum("i,ij->j", x, LAYER.w.astype(x.dtype)))),
    Rule("module: a flag beside weights", lambda p, x: jnp.tanh(x @ p["w"]) if p["act"] else x @ p["w"], ({"w": LAYER.w, "act": True}, array(1.0, 2.0)), lambda p, x: jnp.tanh(jnp.einsum("i,ij->j", x, p["w"]))),
    Rule("module: a word in the output", lambda x: (x**2, {"loss": "mse"}), (array(1.0, 2.0),), lambda x: (x * x, {"loss": "mse"})),
]  # fmt: skip

# --- what a backward can reach is not what it reads


class Clipper:
    """Keeps an array of the call, of which the backward reads nothing."""

    def __init__(self, limit):
        self.limit, self.gain = limit, 2.0

    def __call__(self, x):
        run = rule(
            lambda x: (jnp.minimum(x, self.limit) * self.gain, None),
            lambda _, dy: (dy * self.gain,),
        )
        return run(x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def twice(body, x):
    return body(body(x))


twice.defvjp(
    lambda body, x: (twice(body, x), x),
    lambda body, x, dy: jax.vjp(lambda x: body(body(x)), x)[1](dy),
)


def root(a):
    """Newton's steps by a rule whose own backward never runs."""
    y = (1 + a) / 2
    for _ in range(3):
        y = twice(lambda y: (y + a / y) / 2, y)
    return y


newton = rule(lambda a: (root(a), root(a)), lambda y, dy: (dy / (2 * y),))
REACHED = [
    Rule(
        "reached: an object's other array",
        lambda x: Clipper(lax.stop_gradient(x.max()) + 1)(x),
        (array(0.1, 0.7, -0.4),),
        lambda x: 2 * x,
    ),
    Rule("reached: a rule inside of a forward", newton, (array(1.0, 1.5, 0.8),), jnp.sqrt),
]

# --- one precision, whatever comes

narrow = rule(
    lambda z: (jnp.log(jnp.exp(z.astype(jnp.float32)).sum(-1)), z),
    lambda z, dy: ((dy[..., None] * jax.nn.softmax(z.astype(jnp.float32))).astype(z.dtype),),
)
ONE = [
    Rule("one precision: float32, whatever comes", narrow, (array([0.3, -1.0, 2.0], [1.0, 0.5, 0.1]),), lambda z: jax.nn.logsumexp(z, -1)),
    Rule("one precision: a table of constants", rule(lambda a: (TABLE * a, None), lambda _, dy: (TABLE * dy,)), (normal(240, 4),), lambda a: a * jnp.exp2(jnp.arange(4))),
]  # fmt: skip
TABLE = jnp.array([1.0, 2.0, 4.0, 8.0])


@jax.custom_vjp
def first_order_only(x):
    return jnp.sin(x)


@jax.custom_vjp
def once(x, dy):
    return jnp.cos(x) * dy


def refuse(*_):
    raise NotImplementedError


once.defvjp(refuse, refuse)
first_order_only.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (once(x, dy),))
ONE.append(
    Rule("one order: a refusal without words", first_order_only, (array(0.3, 1.0),), jnp.sin)
)

# --- user's numbers that a checker might draw, too

unit = rule(
    lambda x: (x / jnp.sqrt((x * x).sum()), x),
    lambda x, dy: (
        lambda n: ((dy - x / n * ((x / n) @ dy)) / n,)
    )(jnp.sqrt((x * x).sum())),
)  # fmt: skip
DRAWS = [
    Rule(
        f"drawn by the user: default_rng({seed})",
        unit,
        (np.random.default_rng(seed).standard_normal(6),),
        lambda x: x / jnp.linalg.norm(x),
    )
    for seed in (0, 1, 2)
]
ORDINARY = [
    Rule("ordinary: labels that sum to 1", lambda z, t: -(t * jax.nn.log_softmax(z)).sum(-1), (normal(250, 3, 4), jax.nn.softmax(normal(251, 3, 4))), lambda z, t: (t * (jax.nn.logsumexp(z, -1, keepdims=True) - z)).sum(-1)),
    Rule("ordinary: a rotation", lambda q, x: q @ x, (array([0.6, -0.8], [0.8, 0.6]), normal(252, 2)), lambda q, x: jnp.einsum("ij,j->i", q, x)),
    Rule("ordinary: a quotient of small numbers", lambda a, b: a / b, (uniform(253, 4, low=1e-6, high=2e-6), uniform(254, 4, low=1e-6, high=2e-6)), lambda a, b: jnp.exp(jnp.log(a) - jnp.log(b))),
]  # fmt: skip


table_lookup = rule(
    lambda x: (x[jnp.array([2, 0, 2])], x.shape),
    lambda shape, dy: (jnp.zeros(shape, dy.dtype).at[jnp.array([2, 0, 2])].add(dy),),
)
MORE = [
    Rule("inside: indices", table_lookup, (normal(270, 4),), lambda x: jnp.stack([x[2], x[0], x[2]])),
    Rule("inside: a scan over counted steps", lambda x: lax.fori_loop(0, 3, lambda i, c: c * (1 + i / 2), x), (normal(271, 3),), lambda x: x * 1.0 * 1.5 * 2.0),
    Rule("cancelling: layers after a shift", lambda b, x: jnp.tanh(jax.nn.standardize(x + b)).sum(), (jnp.float32(0.3), normal(272, 7)), lambda b, x: jnp.tanh(((x + b) - (x + b).mean()) * lax.rsqrt(((x + b - (x + b).mean()) ** 2).mean() + 1e-5)).sum()),
]  # fmt: skip

RIGHT = [*MORE, *CANCELLING, *INSIDE, *FLAT, *DRAWN, *MODULES, *REACHED, *ONE, *DRAWS, *ORDINARY]
