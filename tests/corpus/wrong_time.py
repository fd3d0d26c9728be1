"""Wrong rules of scans and recurrences, fixed points, and rules that remember the past."""

import jax
import jax.numpy as jnp
from jax import lax

from corpus.right_time import average, recurrence, reverse_sum, rnn, rnn_forward
from corpus.rule import GRADIENT, LINEAR, Rule, array, normal, rule, uniform


def exclusive_sum(x):
    """y[t] = Σ_{s<t} x[s]."""
    return jnp.cumsum(x) - x


def cumprod_backward(x, dy):
    # Divides by x, which may be 0.
    return (reverse_sum(dy * jnp.cumprod(x)) / x,)


def average_backward(decay, weight):
    def backward(_, dy):
        def step(g, dy):
            g = decay * g + dy
            return g, weight * g

        return (lax.scan(step, jnp.zeros_like(dy[0]), dy, reverse=True)[1],)

    return backward


def recurrence_forward(a, b, h0):
    h = recurrence(a, b, h0)
    return h, (a, h0, h)


def recurrence_rule(*, late=False, ahead=False, start=True):
    def backward(residuals, dy):
        a, h0, h = residuals

        def step(g, row):
            a, dy = row
            g = g + dy
            return a * g, g

        following = a if ahead else jnp.append(a[1:], 0)
        _, g = lax.scan(
            lambda g, row: step(g * row[0], (jnp.ones_like(row[0]), row[1])),
            jnp.zeros_like(h0),
            (following, dy),
            reverse=True,
        )
        before = h if late else jnp.concatenate([h0[None], h[:-1]])
        return g * before, g, a[0] * g[0] if start else jnp.zeros_like(h0)

    return rule(recurrence_forward, backward)


def rnn_rule(*, late=False, truncated=False, untransposed=False, last=False, no_start=False):
    """The rule with some mistake."""

    def backward(residuals, dy):
        x, w, u, h0, h = residuals
        before = jnp.concatenate([h0[None], h[:-1]])

        def step(carry, row):
            dh, dw, du = carry
            x, h, previous, dy = row
            da = (1 - h * h) * (dh + dy)
            dh = da @ (u if untransposed else u.T)
            if truncated:
                dh = jnp.zeros_like(dh)
            outer = jnp.outer(h if late else previous, da)
            return (dh, dw + jnp.outer(x, da), outer if last else du + outer), da @ w.T

        zero = jnp.zeros_like(h0), jnp.zeros_like(w), jnp.zeros_like(u)
        (dh, dw, du), dx = lax.scan(step, zero, (x, h, before, dy), reverse=True)
        return dx, dw, du, None if no_start else dh

    return rule(rnn_forward, backward)


def gates(x, c, w):
    """One LSTM-like step with an input and a forget gate."""
    i, f = jnp.split(jax.nn.sigmoid(x @ w), 2, -1)
    return i + f * c


def gates_backward(residuals, dy):
    x, c, w = residuals
    i, f = jnp.split(jax.nn.sigmoid(x @ w), 2, -1)
    da = jnp.concatenate([dy * c * f * (1 - f), dy * i * (1 - i)], -1)
    return da @ w.T, dy * f, x.T @ da


def fixed_point(w, b):
    """x = tanh(W x + b)."""
    return lax.fori_loop(0, 100, lambda _, x: jnp.tanh(w @ x + b), jnp.zeros_like(b))


def fixed_point_reference(w, b):
    x = jnp.zeros_like(b)
    for _ in range(60):
        x = jnp.tanh(w @ x + b)
    return x


def fixed_point_rule(solve):
    def backward(residuals, dy):
        w, x = residuals
        slope = 1 - x * x
        g = slope * solve(slope[:, None] * w, dy)
        return jnp.outer(g, x), g

    return rule(lambda w, b: (fixed_point(w, b), (w, fixed_point(w, b))), backward)


def euler(x, theta):
    """Ten steps of dx/dt = θ sin x, each of 0.1."""
    return lax.fori_loop(0, 10, lambda _, x: x + 0.1 * theta * jnp.sin(x), x)


def euler_states(x, theta):
    return lax.scan(lambda x, _: (x + 0.1 * theta * jnp.sin(x), x), x, None, length=10)


def euler_forward(x, theta):
    y, states = euler_states(x, theta)
    return y, (jnp.concatenate([states[1:], y[None]]), theta)


def euler_backward(residuals, dy):
    # Linearises each step at its end, not at its beginning.
    states, theta = residuals

    def step(carry, x):
        g, d = carry
        return (g * (1 + 0.1 * theta * jnp.cos(x)), d + (g * 0.1 * jnp.sin(x)).sum()), None

    return lax.scan(step, (dy, jnp.zeros_like(theta)), states, reverse=True)[0]


# --- rules that stash what they should save


STASH = []


def stash_forward(x):
    STASH.append(x)
    return jnp.sin(x), None


def stash_backward(_, dy):
    return (jnp.cos(STASH[-1]) * dy,)


class Layer:
    """A layer in the style of other frameworks, which keeps its input on itself."""

    def forward(self, x, w):
        self.x = x
        return x @ w, w

    def backward(self, w, dy):
        return dy @ w.T, self.x.T @ dy


LAYER = Layer()
CACHE = {}


def cached_forward(x):
    CACHE["y"] = jnp.exp(x)
    return CACHE["y"], None


def cached_backward(_, dy):
    return (CACHE["y"] * dy,)


def stale(name, f, args, reference, note):
    checks = (
        "captured tracers",
        "structure",
        "jit",
        "stale residuals",
        "vmap",
        "scan",
        "checkpoint",
    )
    return Rule(name, f, args, reference, checks, "", "", note)


SERIES = normal(0, 9)
RNN = (
    normal(1, 5, 3),
    normal(2, 3, 4, scale=0.5),
    normal(3, 4, 4, scale=0.5),
    normal(4, 4, scale=0.5),
)
RECURRENCE = (uniform(5, 6, 2, low=0.3, high=1.2)[:, 0], normal(6, 6), jnp.float32(0.7))
FIXED = (normal(7, 4, 4, scale=0.25), normal(8, 4))

WRONG = [
    Rule("cumulative sum: not reversed", rule(lambda x: (jnp.cumsum(x), None), lambda _, dy: (jnp.cumsum(dy),)), (SERIES,), jnp.cumsum, LINEAR),
    Rule("cumulative sum: one step late", rule(lambda x: (jnp.cumsum(x), None), lambda _, dy: (reverse_sum(dy) - dy,)), (SERIES,), jnp.cumsum, LINEAR),
    Rule("exclusive sum: own step included", rule(lambda x: (exclusive_sum(x), None), lambda _, dy: (reverse_sum(dy),)), (SERIES,), exclusive_sum, LINEAR),
    Rule("cumulative product: divided by zero", rule(lambda x: (jnp.cumprod(x), x), cumprod_backward), (array(1.5, -0.5, 0.0, 2.0, 0.3),), jnp.cumprod, ("NaN and infinity", *GRADIENT)),
    Rule("moving average: decay forgotten", rule(lambda x: (average(x), None), average_backward(1.0, 0.1)), (SERIES,), average, LINEAR),
    Rule("moving average: weight and decay exchanged", rule(lambda x: (average(x), None), average_backward(0.1, 0.9)), (SERIES,), average, LINEAR),
    Rule("recurrence: h[t] for h[t−1]", recurrence_rule(late=True), RECURRENCE, recurrence, GRADIENT),
    Rule("recurrence: a[t] for a[t+1]", recurrence_rule(ahead=True), RECURRENCE, recurrence, GRADIENT),
    Rule("recurrence: zeros for the start", recurrence_rule(start=False), RECURRENCE, recurrence, ("structure", *GRADIENT), "None"),
    Rule("rnn: h[t] for h[t−1]", rnn_rule(late=True), RNN, rnn, GRADIENT),
    Rule("rnn: cut after one step", rnn_rule(truncated=True), RNN, rnn, ("structure", *GRADIENT)),
    Rule("rnn: recurrent matrix not transposed", rnn_rule(untransposed=True), RNN, rnn, GRADIENT),
    Rule("rnn: recurrent gradient of the first step only", rnn_rule(last=True), RNN, rnn, GRADIENT),
    Rule("rnn: None for the start", rnn_rule(no_start=True), RNN, rnn, ("structure", *GRADIENT), "None"),
    Rule("gates: in the wrong order", rule(lambda x, c, w: (gates(x, c, w), (x, c, w)), gates_backward), (normal(9, 2, 3), normal(10, 2, 4), normal(11, 3, 8)), gates, GRADIENT),
    Rule("fixed point: the Jacobian for its transpose", fixed_point_rule(lambda j, dy: jnp.linalg.solve(jnp.eye(4, dtype=j.dtype) - j, dy)), FIXED, fixed_point_reference, GRADIENT),
    Rule("fixed point: two terms of the series", fixed_point_rule(lambda j, dy: dy + j.T @ dy), FIXED, fixed_point_reference, GRADIENT),
    Rule("Euler: linearised at the wrong end", rule(euler_forward, euler_backward), (normal(12, 5), jnp.float32(0.8)), lambda x, theta: euler_states(x, theta)[0], GRADIENT),
    Rule("delay: delayed again", rule(lambda x: (jnp.pad(x[:-1], (1, 0)), None), lambda _, dy: (jnp.pad(dy[:-1], (1, 0)),)), (SERIES,), lambda x: jnp.pad(x[:-1], (1, 0)), LINEAR),
    stale("stale: a list that is not popped", rule(stash_forward, stash_backward), (SERIES,), jnp.sin, "right where each backward follows its forward"),
    stale("stale: an attribute of a layer", rule(LAYER.forward, LAYER.backward), (normal(13, 3, 4), normal(14, 4, 2)), jnp.matmul, "right where each backward follows its forward"),
    stale("stale: a dict", rule(cached_forward, cached_backward), (SERIES,), jnp.exp, "right where each backward follows its forward"),
]  # fmt: skip
