"""The checker accepts what is right and rejects what is wrong, for anybody's function, in a process with x64 off."""

import jax
import jax.numpy as jnp
import pytest

from jaxcnn import ops, verify

X = jnp.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])


def rule(forward, backward):
    """A custom_vjp as a user writes it, without this library."""
    f = jax.custom_vjp(lambda *args: forward(*args)[0])
    f.defvjp(forward, backward)
    return f


sine = rule(lambda x: (jnp.sin(x), x), lambda x, dy: (jnp.cos(x) * dy,))
WRONG = {
    "factor": (rule(lambda x: (jnp.sin(x), x), lambda x, dy: (1.002 * jnp.cos(x) * dy,)), "gradient"),
    "value": (rule(lambda x: (jnp.sin(x) + 1e-6, x), lambda x, dy: (jnp.cos(x) * dy,)), "value"),
    "not linear": (rule(lambda x: (jnp.sin(x), x), lambda x, dy: (jnp.cos(x) * dy * jnp.abs(dy),)), "linear in dy"),
    "constant": (rule(lambda x: (jnp.sin(x), x), lambda x, dy: (jnp.cos(x) * dy + 1e-6,)), "zero in, zero out"),
    "one row": (rule(lambda x: (jnp.sin(x), x), lambda x, dy: ((jnp.cos(x) * dy).at[0].set(0),)), "gradient"),
    "second order": (rule(lambda x: (jnp.sin(x), jax.lax.stop_gradient(x)), lambda x, dy: (jnp.cos(x) * dy,)), "reverse over reverse"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rules_are_rejected(name):
    f, check = WRONG[name]
    report = verify.check(f, X, reference=jnp.sin)
    assert not report.ok
    assert check in {failure.check for failure in report.failures}
    assert check in str(report)


def test_without_a_reference_finite_differences_decide():
    assert verify.check(sine, X).ok
    failures = verify.check(WRONG["factor"][0], X).failures
    assert {failure.check for failure in failures} == {"finite differences"}


@pytest.mark.parametrize(
    ("f", "args", "reference"),
    [
        (sine, (X,), jnp.sin),
        (
            lambda p, x: ops.dense(x, p["w"], p["b"]),
            ({"w": X.T, "b": jnp.ones(2)}, X),
            lambda p, x: x @ p["w"] + p["b"],
        ),
        (ops.softmax_cross_entropy, (X, jnp.array([2, 0])), ops.softmax_cross_entropy.reference),
        (lambda x, k: ops.dropout(x, k, rate=0.5), (X, jax.random.key(3)), None),
        (ops.batch_norm, (X, jnp.ones(3), jnp.zeros(3)), ops.batch_norm.reference),
        (lambda x: {"a": x.sum(), "b": (x**3, jnp.argmax(x))}, (X,), None),
        (lambda x: jax.lax.scan(lambda c, row: (jnp.tanh(c + row), c), x[0], x)[0], (X,), None),
        (ops.relu, (jnp.zeros((0, 3)),), jax.nn.relu),
    ],
    ids=["custom_vjp", "dict", "integers", "key", "several outputs", "nested outputs", "scan", "empty"],
)
def test_right_ones_are_accepted(f, args, reference):
    report = verify.check(f, *args, reference=reference)
    assert report.ok, str(report)


def test_the_failure_names_the_leaf_and_the_element():
    wrong = ops.dense.replace(backward=lambda r, dy: (d := ops.dense.backward(r, dy), (d[0], 2 * d[1], d[2]))[1])
    report = verify.check(
        lambda p, x: wrong(x, p["kernel"]), {"kernel": X.T}, X, reference=lambda p, x: x @ p["kernel"]
    )
    failure = next(f for f in report.failures if f.check == "gradient")
    assert failure.where == "args[0]['kernel']"
    assert "got" in failure.message
    assert "max |difference| / max |expected| = 1 >" in failure.message


def test_settings_go_to_both():
    x = jnp.linspace(-1.0, 1.0, 5) + 0.05
    assert verify.check(ops.elu, x, reference=ops.elu.reference, alpha=0.5).ok


def test_nothing_to_prove_is_said():
    assert verify.check(ops.tanh, 0.5).ok
    with pytest.raises(ValueError, match="check: no argument holds a floating-point array"):
        verify.check(lambda i: i + 1, jnp.arange(3))


def test_the_table_shows_which_checks_failed():
    shown = str(verify.check(WRONG["second order"][0], X, reference=jnp.sin))
    assert "second order         FAILED" in shown
    assert "gradient             ok" in shown
