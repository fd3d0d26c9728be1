"""Small components beside large ones keep their digits: softmax and the sigmoid's cross entropy
against 350 decimal digits, in units in the last place of each component."""

import decimal
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import ops, verify

decimal.getcontext().prec = 350  # −ln p of a p that is 1 − 1e-300, too
ROWS = [
    [37.43, 0.0],
    [40.0, -40.0, 39.0, 0.1],
    [0.3, -1.2, 2.0],
    [-700.0, 0.0, -300.3],
    [1e-3, 1.1e-3, 35.7, 35.6],
    [5.0, 5.0, -3.0],
]
DRAWN = [
    *np.random.default_rng(0).uniform(-40, 40, (4, 6)).tolist(),
    *np.random.default_rng(1).uniform(-700, 700, (4, 6)).tolist(),
]
EVERY = [*ROWS, DRAWN[0], *(pytest.param(row, marks=pytest.mark.slow) for row in DRAWN[1:])]


def exactly(row):
    """Softmax of the numbers as they are."""
    largest = max(row)
    weights = [(Decimal(float(z)) - Decimal(float(largest))).exp() for z in row]
    return [w / sum(weights) for w in weights]


def ulps(got, want, dtype):
    """The largest error of a component whose true value is a normal number."""
    tiny, worst = Decimal(float(np.finfo(dtype).tiny)), 0.0
    for g, w in zip(np.asarray(got).tolist(), want, strict=True):
        if abs(w) >= tiny:
            unit = Decimal(float(np.spacing(np.asarray(abs(float(w)), dtype))))
            worst = max(worst, float(abs(Decimal(g) - w) / unit))
    return worst


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("row", EVERY, ids=str)
def test_softmax_keeps_small_components(row, dtype):
    with jax.enable_x64(True):
        z = jnp.asarray(row, dtype)
        p = exactly(np.asarray(z))
        y, pull = jax.vjp(ops.softmax, z)
        assert ulps(y, p, dtype) <= 8
        for k in range(len(row)):
            (dz,) = pull(jnp.zeros(len(row), dtype).at[k].set(1))
            rest = sum(p[j] for j in range(len(row)) if j != k)
            want = [p[k] * rest if i == k else -p[k] * p[i] for i in range(len(row))]
            assert ulps(dz, want, dtype) <= 8, (k, dz, [float(w) for w in want])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("row", EVERY, ids=str)
def test_softmax_cross_entropy_of_labels_keeps_small_components(row, dtype):
    with jax.enable_x64(True):
        z = jnp.asarray(row, dtype)
        p = exactly(np.asarray(z))
        for label in range(len(row)):
            rest = sum(p[j] for j in range(len(row)) if j != label)
            loss, dz = jax.value_and_grad(ops.softmax_cross_entropy)(z, jnp.int32(label))
            assert ulps(dz, [-rest if k == label else p[k] for k in range(len(row))], dtype) <= 8
            assert ulps(loss[None], [-p[label].ln()], dtype) <= 8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("row", EVERY, ids=str)
def test_log_softmax_loses_no_more_than_the_logits_own_size(row, dtype):
    with jax.enable_x64(True):
        z = jnp.asarray(row, dtype)
        p = exactly(np.asarray(z))
        below = [max(np.asarray(z).tolist()) - float(value) for value in np.asarray(z)]
        y, pull = jax.vjp(ops.log_softmax, z)
        assert ulps(y, [value.ln() for value in p], dtype) <= 8
        for k in range(len(row)):
            (dz,) = pull(jnp.zeros(len(row), dtype).at[k].set(1))
            rest = sum(p[j] for j in range(len(row)) if j != k)
            want = [rest if i == k else -p[i] for i in range(len(row))]
            for i in range(len(row)):  # e^y has the error of y, which is as large as y
                off = ulps(np.asarray(dz)[i : i + 1], want[i : i + 1], dtype)
                assert off <= 8 + max(below if i == k else below[i : i + 1]), (k, i)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_keeps_small_slopes(dtype):
    with jax.enable_x64(True):
        z = jnp.asarray([17.5, -17.5, 37.43, -37.43, 40, -40, 0.3, -0.3, 80, -80, 0, 700], dtype)
        y, pull = jax.vjp(ops.sigmoid, z)
        right = [1 / (1 + (-Decimal(float(score))).exp()) for score in np.asarray(z)]
        left = [1 / (1 + Decimal(float(score)).exp()) for score in np.asarray(z)]
        assert ulps(y, right, dtype) <= 8
        (dz,) = pull(jnp.ones_like(z))
        assert ulps(dz, [a * b for a, b in zip(right, left, strict=True)], dtype) <= 8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_cross_entropys_gradient_keeps_small_components(dtype):
    with jax.enable_x64(True):
        z = jnp.asarray([37.43, -37.43, 40.0, -40.0, 0.3, 80.0], dtype)
        t = jnp.asarray([1.0, 0.0, 1.0, 1.0, 0.0, 1.0], dtype)
        got = jax.grad(lambda z: ops.sigmoid_cross_entropy(z, t))(z)
        want = []
        for score, target in zip(np.asarray(z).tolist(), np.asarray(t).tolist(), strict=True):
            right = 1 / (1 + (-Decimal(score)).exp())
            left = 1 / (1 + Decimal(score).exp())
            want.append((1 - Decimal(target)) * right - Decimal(target) * left)
        assert ulps(got, want, dtype) <= 8


def test_the_checker_tells_a_rule_that_loses_small_components():
    z = jnp.array([12.0, 0.0, -3.0], "float32")
    found = verify.check(jax.nn.softmax, z, ulps=8, only="componentwise")
    assert "a small component has lost its digits (dy is 1 at output[0][0])" in found.reason
    assert verify.check(ops.softmax, z, ulps=8, only="componentwise").ok
    assert verify.check(ops.softmax, z.astype("float16"), ulps=8, only="componentwise").ok


def test_it_is_off_where_it_is_not_asked_for():
    report = verify.check(jax.nn.softmax, jnp.array([12.0, 0.0]), only=("value", "jit"))
    assert set(report.checks) == {"value", "jit"}
    assert "componentwise" not in verify.CHECKS
    asked = verify.check(ops.softmax, jnp.array([12.0, 0.0]), only="componentwise").verdicts
    assert [(v.status, "`ulps` says" in v.note) for v in asked] == [("skipped", True)]
    declared = {op.name for op in ops.OPS for case in op.cases if case.ulps}
    assert declared == {
        "log_softmax",
        "sigmoid",
        "sigmoid_cross_entropy",
        "softmax",
        "softmax_cross_entropy",
    }
