"""What a report says, and what ``check`` takes: for anybody's function, in a process with x64 off.
Verdicts on many rules are in test_corpus.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from corpus.rule import rule

from jaxcnn import ops, verify
from jaxcnn.verify import _trace as trace
from jaxcnn.verify._numerics import slopes
from jaxcnn.verify._numerics.patterns import exchanged, recognise

X = jnp.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])


def sine_with(backward):
    return rule(lambda x: (jnp.sin(x), x), backward)


def dense_with(backward):
    return lambda p, x: rule(lambda w, x: (x @ w, (w, x)), backward)(p["layer"]["kernel"], x)


def test_a_failure_names_the_leaf_the_element_and_the_cause():
    def backward(residuals, dy):
        w, x = residuals
        return (x.T @ dy).at[2, 1].multiply(3), dy @ w.T

    report = verify.check(
        dense_with(backward),
        {"layer": {"kernel": X.T}},
        X,
        reference=lambda p, x: x @ p["layer"]["kernel"],
    )
    failure = report.failures[0]
    assert (failure.check, failure.where) == ("gradient", "args[0]['layer']['kernel']")
    found = failure.mismatch
    assert found is not None
    assert found.index == (2, 1)
    assert found.got[2, 1] == pytest.approx(3 * found.expected[2, 1])
    assert found.difference == pytest.approx(found.expected[2, 1])
    assert found.relative == pytest.approx(2)
    assert (found.off, found.total) == (1, 6)
    assert found.pattern == "only the element at [2, 1]"
    assert "by finite differences" in failure.message
    assert "only='gradient'" in failure.code


def test_the_same_is_found_without_a_reference():
    wrong = sine_with(lambda x, dy: (jnp.cos(x) * dy / 6,))
    report = verify.check(wrong, X)
    assert (
        report.reason
        == "finite differences: args[0]: every element is 0.166667 × expected: 1/6, the number of"
        " elements: mean taken for sum?"
    )


def test_what_follows_from_a_failure_is_not_reported_again():
    report = verify.check(sine_with(lambda x, dy: (2 * jnp.cos(x) * dy,)), X, reference=jnp.sin)
    status = {verdict.name: verdict.status for verdict in report.verdicts}
    assert status["gradient"] == "FAILED"
    assert status["reverse over reverse"] == status["in float32"] == "skipped"
    assert status["vmap"] == "holds"
    assert [f.check for f in report.failures] == ["gradient"]


def test_the_report_as_text_and_as_data():
    report = verify.check(
        sine_with(lambda x, dy: (2 * jnp.cos(x) * dy,)),
        X,
        reference=jnp.sin,
        only=("value", "gradient"),
    )
    text, data = str(report), report.json()
    assert "FAILED (1 holds, 1 FAILED" in text
    assert "pattern: all elements are 2 × expected" in text
    assert "likely cause:" in text
    assert [v["name"] for v in data["verdicts"]] == ["value", "gradient"]
    assert data["ok"] is False
    assert data["inputs"] == {"args[0]": "float32[2, 3]"}
    assert not report


def test_integers_keys_strings_and_constants_ride_along():
    table = np.asarray([1.0, 2.0, 3.0], np.float32)

    def f(x, axis, labels, key, flag, name):
        mask = jax.random.bernoulli(key, 0.5, x.shape)
        picked = jnp.take_along_axis(x, labels[:, None], 1) if flag and name == "pick" else x
        return {"a": (x * mask * table[None]).sum(axis), "b": picked, "c": jnp.argmax(x)}

    report = verify.check(f, X, 1, jnp.array([2, 0]), jax.random.key(3), True, "pick")
    assert report.ok, str(report)
    assert list(report.inputs) == [f"args[{i}]" for i in range(6)]


def test_settings_go_to_the_function_and_its_reference():
    x = jnp.linspace(-1.0, 1.0, 5) + 0.05
    assert verify.check(
        ops.elu, x, reference=ops.elu.reference, alpha=0.5, only=("value", "gradient")
    ).ok


def test_a_function_that_needs_its_own_dtype_is_checked_in_that():
    def f(x):
        assert x.dtype == jnp.float32, x.dtype
        return jax.lax.dot(x, jnp.ones((3, 2), jnp.float32))

    with pytest.raises(AssertionError):
        f(np.ones((2, 3)))
    report = verify.check(f, X, reference=f)
    assert report.ok, str(report)
    assert report.dtype == "float32"


def test_python_control_flow_is_a_failure_to_compile_and_all_else_is_checked():
    report = verify.check(lambda x: jnp.sin(x) if x.sum() > 0 else jnp.cos(x), X)
    assert {failure.check for failure in report.failures} == {"jit"}
    assert "TracerBool" in report.failures[0].message


def test_errors_of_the_function_itself_are_the_users():
    with pytest.raises(TypeError) as caught:
        verify.check(lambda x: jnp.dot(x, jnp.ones(5)), X)
    assert any("check: the function" in note for note in caught.value.__notes__)


def test_bad_calls_are_refused():
    with pytest.raises(ValueError, match="check: no argument holds a floating-point array"):
        verify.check(lambda i: i + 1, jnp.arange(3))
    with pytest.raises(
        ValueError,
        match="check: there is no check 'gradiant'; choose from captured tracers, structure",
    ):
        verify.check(jnp.sin, X, only="gradiant")


def test_a_convention_at_a_kink_may_be_let_pass():
    relu = rule(lambda x: (jnp.maximum(x, 0), x), lambda x, dy: (dy * (x >= 0),))
    x = jnp.array([-1.0, 0.0, 2.0])
    report = verify.check(relu, x, reference=jax.nn.relu)
    assert {failure.check for failure in report.failures} == {"kinks"}
    assert "another convention" in report.reason
    assert verify.check(relu, x, reference=jax.nn.relu, strict_kinks=False).ok
    assert verify.check(relu, x).ok


def test_every_verdict_says_what_it_proves_and_why_it_was_skipped():
    report = verify.check(jnp.sin, X)
    for verdict in report.verdicts:
        assert verdict.why
        assert verdict.note or verdict.status != "skipped"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda w: -w, "wrong sign"),
        (lambda w: w / 12, "mean taken for sum"),
        (lambda w: w * 4, "sum taken for mean"),
        (lambda w: w.T, "transposed"),
        (lambda w: w[::-1], "flipped along axis 0"),
        (lambda w: np.roll(w, 1, 1), "shifted by 1 along axis 1"),
        (lambda w: np.zeros_like(w), "None"),
        (lambda w: w + w.mean(0, keepdims=True) * 0.5, "constant along axis 0"),
        (lambda w: w * np.arange(1, 4)[:, None], "varies along axis 0"),
        (lambda w: np.asarray(jnp.asarray(w, "bfloat16"), float), "bfloat16"),
        (lambda w: np.where(np.arange(3)[:, None] == 2, 0, w), "last of axis 0"),
        (lambda w: np.where(w > 1, np.nan, w), "nan"),
        (lambda w: w.reshape(4, 3).T, "wrong places"),
    ],
)
def test_patterns(spoil, words):
    want = np.random.default_rng(0).standard_normal((3, 4))
    square = np.random.default_rng(0).standard_normal((3, 3))
    if spoil(want).shape != want.shape:
        want = square
    with np.errstate(invalid="ignore"):
        got = spoil(want)
        assert words in recognise(got, want, ~(np.abs(got - want) <= 1e-9)).cause


def test_no_pattern_is_made_up():
    rng = np.random.default_rng(1)
    got, want = rng.standard_normal((2, 5, 6))
    assert not recognise(got, want, np.ones((5, 6), bool))


def test_swapped_gradients_are_recognised():
    a, b = np.arange(6.0).reshape(2, 3), np.ones((2, 3))
    assert "swapped" in exchanged([b, a], [a, b], ["args[0]", "args[1]"], 0).cause
    assert not exchanged([a, b], [a, b], ["args[0]", "args[1]"], 0)


@pytest.mark.parametrize(
    ("f", "at", "want"),
    [
        (np.exp, 0.0, 1.0),
        (np.log, 1e-3, 1e3),
        (lambda t: 1e12 + np.sin(t), 0.0, 1.0),
        (lambda t: abs(t - 1e-6), 0.0, -1.0),
    ],
    ids=["smooth", "edge of the domain", "under a large constant", "beside a kink"],
)
def test_slopes_know_their_own_error(f, at, want):
    with np.errstate(invalid="ignore"):
        s = slopes.slope(lambda t: np.array([f(at + t)]))
    assert abs(s.value[0] - want) <= 10 * s.error[0]
    assert s.error[0] < (1e-5 if at == 0 and want == 1.0 and f is np.exp else 0.1 * abs(want))


def test_a_jump_has_no_slope():
    s = slopes.slope(lambda t: np.array([float(t > 0)]))
    assert s.error[0] > 0.1 * abs(s.value[0])


def test_the_length_of_sums_is_read_off_the_program():
    def longest(f, *shapes):
        return trace.longest_sum(jax.make_jaxpr(f)(*(jnp.ones(s) for s in shapes)).jaxpr)

    assert longest(lambda x: x.sum(0), (7, 3)) == 7
    assert longest(lambda x, y: x @ y, (2, 50), (50, 3)) == 50
    assert (
        longest(functools.partial(ops.conv.plain, padding="VALID"), (1, 9, 9, 4), (3, 3, 4, 5))
        == 36
    )
    assert (
        longest(lambda x: jax.lax.scan(lambda c, r: (c + r.sum(), None), 0.0, x)[0], (10, 6)) == 60
    )


@pytest.mark.parametrize("with_reference", [True, False], ids=["reference", "differences"])
@pytest.mark.parametrize("factor", [1.0, 2.0, 0.0])
@pytest.mark.parametrize("shape", [(), (1,)], ids=["0-d", "one element"])
def test_scalars(shape, factor, with_reference):
    def plain(x, y):
        return jnp.sin(x) * y

    f = rule(
        lambda x, y: (plain(x, y), (x, y)),
        lambda r, dy: (factor * jnp.cos(r[0]) * r[1] * dy, (jnp.sin(r[0]) * dy).sum()),
    )
    report = verify.check(
        f, jnp.full(shape, 0.7), jnp.float32(2.0), reference=plain if with_reference else None
    )
    assert report.ok == (factor == 1.0), str(report)
    assert report.ok or report.failures[0].check == (
        "structure" if factor == 0 else "gradient" if with_reference else "finite differences"
    )
