"""Right rules of scans and recurrences, implicit derivatives, linear algebra, and geometry."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from corpus.rule import Rule, array, normal, rule, uniform


def reverse_sum(dy):
    return jnp.cumsum(dy[::-1])[::-1]


def cumprod_backward(x, dy):
    # No division: also right at a zero.
    n = x.shape[0]
    i = jnp.arange(n)
    without = jnp.where(i[:, None] == i[None, :], 1, x[None, :])
    partial = jnp.cumprod(without, 1)
    return (jnp.where(i[None, :] >= i[:, None], partial, 0) @ dy,)


def average(x):
    """Exponential moving average from 0."""

    def step(y, x):
        y = 0.9 * y + 0.1 * x
        return y, y

    return lax.scan(step, jnp.zeros_like(x[0]), x)[1]


def average_backward(_, dy):
    def step(g, dy):
        g = 0.9 * g + dy
        return g, 0.1 * g

    return (lax.scan(step, jnp.zeros_like(dy[0]), dy, reverse=True)[1],)


def recurrence(a, b, h0):
    """h[t] = a[t] h[t−1] + b[t]."""

    def step(h, ab):
        h = ab[0] * h + ab[1]
        return h, h

    return lax.scan(step, h0, (a, b))[1]


def recurrence_backward(residuals, dy):
    a, h0, h = residuals

    def step(g, row):
        a, dy = row
        g = g + dy
        return a * g, g

    start, g = lax.scan(step, jnp.zeros_like(h0), (a, dy), reverse=True)
    return g * jnp.concatenate([h0[None], h[:-1]]), g, start


def rnn(x, w, u, h0):
    """h[t] = tanh(x[t] W + h[t−1] U); all states."""

    def step(h, x):
        h = jnp.tanh(x @ w + h @ u)
        return h, h

    return lax.scan(step, h0, x)[1]


def rnn_forward(x, w, u, h0):
    h = rnn(x, w, u, h0)
    return h, (x, w, u, h0, h)


def rnn_backward(residuals, dy):
    x, w, u, h0, h = residuals

    def step(carry, row):
        dh, dw, du = carry
        x, h, before, dy = row
        da = (1 - h * h) * (dh + dy)
        return (da @ u.T, dw + jnp.outer(x, da), du + jnp.outer(before, da)), da @ w.T

    before = jnp.concatenate([h0[None], h[:-1]])
    zero = jnp.zeros_like(h0), jnp.zeros_like(w), jnp.zeros_like(u)
    (dh, dw, du), dx = lax.scan(step, zero, (x, h, before, dy), reverse=True)
    return dx, dw, du, dh


def leaky_single(x):
    """Its carry is float32 whatever x is: a scan refuses another."""
    return lax.scan(
        lambda h, x: ((h * 0.5 + x).astype(jnp.float32), h), jnp.zeros(x.shape[1], jnp.float32), x
    )[1]


def leaky_single_backward(_, dy):
    def step(g, dy):
        return 0.5 * g + dy, g

    return (lax.scan(step, jnp.zeros(dy.shape[1], jnp.float32), dy, reverse=True)[1],)


def strict(x):
    """As above, without the cast."""
    return lax.scan(lambda h, x: (h * 0.5 + x, h), jnp.zeros(x.shape[1], jnp.float32), x)[1]


def strict_reference(x):
    h, rows = jnp.zeros_like(x[0]), []
    for row in x:
        rows.append(h)
        h = h * 0.5 + row
    return jnp.stack(rows)


def fixed_point(w, b):
    """x = tanh(W x + b), iterated until nothing moves."""

    def moves(state):
        before, x, count = state
        return (jnp.abs(x - before).max() > 0) & (count < 200)

    def step(state):
        _, x, count = state
        return x, jnp.tanh(w @ x + b), count + 1

    return lax.while_loop(moves, step, (b, jnp.tanh(b), 0))[1]


def fixed_point_forward(w, b):
    x = fixed_point(w, b)
    return x, (w, x)


def fixed_point_backward(residuals, dy):
    w, x = residuals
    slope = 1 - x * x
    g = slope * jnp.linalg.solve(jnp.eye(x.size, dtype=x.dtype) - (slope[:, None] * w).T, dy)
    return jnp.outer(g, x), g


def fixed_point_reference(w, b):
    x = jnp.zeros_like(b)
    for _ in range(60):
        x = jnp.tanh(w @ x + b)
    return x


def newton(a):
    """Cube root by Newton's method."""
    return lax.fori_loop(0, 40, lambda _, x: x - (x**3 - a) / (3 * x * x), jnp.ones_like(a))


def powers(x):
    return lax.fori_loop(0, 3, lambda _, y: y * y, x)


def solve_backward(residuals, dx):
    a, x = residuals
    g = jnp.linalg.solve(a.T, dx)
    return -jnp.outer(g, x), g


def inverse_backward(inverse, dy):
    return (-inverse.T @ dy @ inverse.T,)


def logdet(a):
    return jnp.linalg.slogdet(a)[1]


def cholesky(a):
    return jnp.linalg.cholesky((a + a.T) / 2, symmetrize_input=False)


def cholesky_backward(c, dy):
    p = jnp.tril(c.T @ dy)
    p = p - jnp.diag(jnp.diag(p)) / 2
    s = jnp.linalg.inv(c)
    g = s.T @ p @ s
    return ((g + g.T) / 2,)


def horner(x, c):
    y = jnp.zeros_like(x)
    for k in range(c.shape[0]):
        y = y * x + c[k]
    return y


def horner_backward(residuals, dy):
    x, c = residuals
    n = c.shape[0]
    slope = horner(x, c[:-1] * jnp.arange(n - 1, 0, -1).astype(c.dtype))
    return slope * dy, jnp.stack([(x ** (n - 1 - k) * dy).sum() for k in range(n)])


POLYNOMIAL = np.asarray([0.5, -1.0, 2.0, 0.25], np.float32)


def polynomial(x):
    return horner(x, jnp.asarray(POLYNOMIAL, x.dtype))


def polynomial_backward(x, dy):
    return (dy * ((1.5 * x - 2.0) * x + 2.0),)


def rotate(q, v):
    """v turned by the quaternion q, not normalised."""
    w, u = q[0], q[1:]
    t = 2 * jnp.cross(u, v)
    return v + w * t + jnp.cross(u, t)


def rotate_backward(residuals, dy):
    q, v = residuals
    w, u = q[0], q[1:]
    t = 2 * jnp.cross(u, v)
    dt = w * dy + jnp.cross(dy, u)
    du = jnp.cross(t, dy) + 2 * jnp.cross(v, dt)
    return jnp.concatenate([(t @ dy)[None], du]), dy + 2 * jnp.cross(dt, u)


def sort_backward(order, dy):
    return (jnp.zeros_like(dy).at[order].set(dy),)


def euler(x, theta):
    return lax.fori_loop(0, 10, lambda _, x: x + 0.1 * theta * jnp.sin(x), x)


def euler_forward(x, theta):
    return lax.scan(lambda x, _: (x + 0.1 * theta * jnp.sin(x), x), x, None, length=10)[0], (
        x,
        theta,
    )


def euler_backward(residuals, dy):
    # Recomputes the states.
    x, theta = residuals
    _, states = lax.scan(lambda x, _: (x + 0.1 * theta * jnp.sin(x), x), x, None, length=10)

    def step(carry, x):
        g, d = carry
        return (g * (1 + 0.1 * theta * jnp.cos(x)), d + (g * 0.1 * jnp.sin(x)).sum()), None

    return lax.scan(step, (dy, jnp.zeros_like(theta)), states, reverse=True)[0]


def euler_reference(x, theta):
    for _ in range(10):
        x = x + 0.1 * theta * jnp.sin(x)
    return x


SERIES = normal(0, 9)
SQUARE = normal(1, 3, 3) + 3 * jnp.eye(3, dtype=jnp.float32)
POSITIVE = normal(2, 3, 5) @ normal(2, 3, 5).T

RIGHT = [
    Rule("cumulative sum", rule(lambda x: (jnp.cumsum(x), None), lambda _, dy: (reverse_sum(dy),)), (SERIES,), jnp.cumsum),
    Rule("cumulative product through zero", rule(lambda x: (jnp.cumprod(x), x), cumprod_backward), (array(1.5, -0.5, 0.0, 2.0, 0.3),), jnp.cumprod),
    Rule("cumulative maximum", lax.cummax, (SERIES,), lambda x: jnp.stack([x[: i + 1].max() for i in range(9)]), note="a plain function"),
    Rule("moving average", rule(lambda x: (average(x), None), average_backward), (normal(3, 7, 2),), average),
    Rule("linear recurrence", rule(lambda a, b, h0: ((h := recurrence(a, b, h0)), (a, h0, h)), recurrence_backward), (uniform(4, 6, low=0.3, high=1.2), normal(5, 6), jnp.float32(0.7)), recurrence),
    Rule("rnn", rule(rnn_forward, rnn_backward), (normal(6, 5, 3), normal(7, 3, 4, scale=0.5), normal(8, 4, 4, scale=0.5), normal(9, 4, scale=0.5)), rnn),
    Rule("scan with a float32 carry and casts", rule(lambda x: (leaky_single(x), x), lambda x, dy: (leaky_single_backward(None, dy)[0].astype(x.dtype),)), (normal(10, 5, 2),), leaky_single, note="its output is float32 whatever x is"),
    Rule("scan with a float32 carry", rule(lambda x: (strict(x), None), leaky_single_backward), (normal(10, 5, 2),), strict_reference, single=True),
    Rule("fixed point by the implicit function theorem", rule(fixed_point_forward, fixed_point_backward), (normal(11, 4, 4, scale=0.25), normal(12, 4)), fixed_point_reference),
    Rule("cube root by Newton", rule(lambda a: (newton(a), newton(a)), lambda x, dy: (dy / (3 * x * x),)), (array(0.5, 1.0, 2.0, 8.0),), jnp.cbrt),
    Rule("repeated squaring by fori_loop", rule(lambda x: (powers(x), x), lambda x, dy: (8 * x**7 * dy,)), (normal(13, 5),), lambda x: x**8),
    Rule("Euler, states recomputed", rule(euler_forward, euler_backward), (normal(14, 5), jnp.float32(0.8)), euler_reference),
    Rule("linear solve", rule(lambda a, b: ((x := jnp.linalg.solve(a, b)), (a, x)), solve_backward), (SQUARE, normal(15, 3)), jnp.linalg.solve),
    Rule("inverse", rule(lambda a: (jnp.linalg.inv(a), jnp.linalg.inv(a)), inverse_backward), (SQUARE,), jnp.linalg.inv),
    Rule("log-determinant", rule(lambda a: (logdet(a), a), lambda a, dy: (dy * jnp.linalg.inv(a).T,)), (SQUARE,), logdet),
    Rule("Cholesky", rule(lambda a: (cholesky(a), cholesky(a)), cholesky_backward), (POSITIVE,), cholesky),
    Rule("polynomial by Horner", rule(lambda x, c: (horner(x, c), (x, c)), horner_backward), (normal(16, 6), normal(17, 4)), lambda x, c: jnp.polyval(c, x)),
    Rule("polynomial with captured coefficients", rule(lambda x: (polynomial(x), x), polynomial_backward), (normal(16, 6),), lambda x: 0.5 * x**3 - x**2 + 2 * x + 0.25),
    Rule("quaternion rotation", rule(lambda q, v: (rotate(q, v), (q, v)), rotate_backward), (normal(18, 4), normal(19, 3)), rotate),
    Rule("sort", rule(lambda x: (jnp.sort(x), jnp.argsort(x)), sort_backward), (normal(20, 8),), jnp.sort),
    Rule("FFT low-pass", rule(lambda x: (jnp.fft.irfft(jnp.fft.rfft(x).at[3:].set(0), 8), None), lambda _, dy: (jnp.fft.irfft(jnp.fft.rfft(dy).at[3:].set(0), 8),)), (normal(21, 8),), lambda x: jnp.fft.irfft(jnp.fft.rfft(x).at[3:].set(0), 8), note="its own adjoint"),
]  # fmt: skip
