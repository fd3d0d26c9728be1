"""Wrong rules that are right at one point, along one direction, or by an amount that hides behind
terms that cancel."""

import jax
import jax.numpy as jnp
import numpy as np

from corpus.right_wild import exp_total, normed_otherwise
from corpus.rule import GRADIENT, LINEAR, Rule, array, normal, rule

POINT = array(0.5, -1.25, 2.0, 0.75)
AS_NUMPY = np.array([0.5, -1.25, 2.0, 0.75])
MATRIX = normal(260, 3, 3)
ELSEWHERE = ("another point",)


def cube(x):
    return x * x * x


def keep(x):
    return x**3, x


class Holder:
    """An array as an attribute."""

    def __init__(self, x):
        self.x = x

    def backward(self, _, dy):
        return (3 * self.x**2 * dy,)


OUTPUT = np.exp(AS_NUMPY)


def by_default(_, dy, e=OUTPUT):
    return (e * dy,)


def product_backward(w, dy):
    return dy @ MATRIX.T.astype(dy.dtype), w.T @ dy


GLOBAL = [
    Rule("global: the input itself", rule(keep, lambda _, dy: (3 * POINT**2 * dy,)), (POINT,), cube, ELSEWHERE, "outside"),
    Rule("global: a NumPy array", rule(keep, lambda _, dy: (3 * AS_NUMPY**2 * dy,)), (POINT,), cube, ELSEWHERE, "outside"),
    Rule("global: the output of before", rule(lambda x: (jnp.exp(x), None), by_default), (POINT,), jnp.exp, ELSEWHERE, "outside"),
    Rule("global: an attribute", rule(keep, Holder(POINT).backward), (POINT,), cube, ELSEWHERE, "outside"),
    Rule("global: the sine's input", rule(lambda x: (jnp.sin(x), None), lambda _, dy: (np.cos(AS_NUMPY) * dy,)), (POINT,), jnp.sin, ELSEWHERE, "outside"),
    Rule("global: a weight", rule(lambda x, w: (x @ w, x), product_backward), (normal(261, 2, 3), MATRIX), jnp.matmul, (*ELSEWHERE, "vmap"), ""),
]  # fmt: skip


def tripled_unit_backward(x, dy):
    n = jnp.sqrt((x * x).sum())
    y = x / n
    return (3 * (dy - y * (y @ dy)) / n,)


tripled_unit = rule(lambda x: (x / jnp.sqrt((x * x).sum()), x), tripled_unit_backward)


def radial_backward(x, dy):
    """Right along the input itself."""
    return (x * (x @ dy) / (x @ x),)


ALONG = [
    Rule(f"along: three times the unit, default_rng({seed}), {size}", tripled_unit, (np.random.default_rng(seed).standard_normal(size),), lambda x: x / jnp.linalg.norm(x), (*LINEAR, "structure"), "")
    for seed in (0, 1, 2)
    for size in (6, 80)
] + [
    Rule("along: an identity that keeps its radial part", rule(lambda x: (x, x), radial_backward), (np.random.default_rng(1).standard_normal(5),), lambda x: x, GRADIENT, ""),
]  # fmt: skip


def softmax_total_forward(x):
    return jax.nn.softmax(x).sum(), x


def normed_forward(b, x):
    return normed_otherwise(b, x), (b, x)


def normed_backward(residuals, dy):
    """The bias's gradient is 0; here it is a little more."""
    db, dx = jax.vjp(normed_otherwise, *residuals)[1](dy)
    return db + 1e-9 * dy.sum(0), dx


HIDDEN = [
    Rule("hidden: 1e-12 where terms cancel", rule(softmax_total_forward, lambda x, dy: (1e-12 * dy * jnp.sin(7 * x),)), (normal(262, 5),), exp_total, ("gradient",), needs="reference"),
    Rule("hidden: 1e-9 for a bias before a norm", rule(normed_forward, normed_backward), (normal(263, 3), normal(264, 6, 3)), normed_otherwise, ("gradient",), needs="reference"),
    Rule("hidden: a constant of seven digits", rule(lambda x: (jnp.sin(x), x), lambda x, dy: (dy * jnp.cos(x) * (1 + 7e-7),)), (array(0.3, 0.4, 1.2),), jnp.sin, LINEAR, "right to 7e-07"),
    Rule("hidden: π by 22/7", rule(lambda x: (jnp.pi * x * x, x), lambda x, dy: (44 / 7 * x * dy,)), (array(0.3, 0.4, 1.2),), lambda x: jnp.pi * x**2, GRADIENT, "right to 0.0004"),
    Rule("hidden: a cut-off beside a cube", rule(lambda x, y: (x**3 + y, x), lambda x, dy: (3 * x * x * dy, jnp.zeros_like(dy))), (jnp.zeros(3), normal(265, 3)), lambda x, y: x * x * x + y, ("structure",), ""),
]  # fmt: skip

MEAN = normal(266, 4)


TAKEN = [
    Rule("taken: a mask of the input itself", rule(lambda x: (jnp.where(x > 0, x, 0.1 * x), None), lambda _, dy: (jnp.where(POINT > 0, dy, 0.1 * dy),)), (POINT,), lambda x: jnp.where(x > 0, x, 0.1 * x), ELSEWHERE, "", "reference"),
    Rule("taken: half of a product's rule", rule(lambda x, y: (x * y, y), lambda y, dy: (y * dy, POINT * dy)), (POINT, MEAN), jnp.multiply, ELSEWHERE, ""),
    Rule("taken: softmax of the input itself", rule(lambda x: (jax.nn.softmax(x), None), lambda _, dy: (jax.vjp(jax.nn.softmax, jnp.asarray(AS_NUMPY, dy.dtype))[1](dy)[0],)), (POINT,), jax.nn.softmax, ELSEWHERE, "outside"),
]  # fmt: skip

WRONG = [*TAKEN, *GLOBAL, *ALONG, *HIDDEN]
