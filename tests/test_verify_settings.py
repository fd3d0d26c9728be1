"""What a user may say of a function that is checked: which inputs and outputs, how exactly, where
it is right, and what its derivative is meant to be."""

import contextlib
import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import Op, verify
from jaxcnn.verify._numerics.domains import fits, inside
from jaxcnn.verify._numerics.shaken import shaken
from jaxcnn.verify._probe import Probe, Skip
from jaxcnn.verify._subject import Subject, generator

X = jnp.array([0.3, 0.5, 0.8])


def wired(forward, backward):
    f = jax.custom_vjp(lambda *args: forward(*args)[0])
    f.defvjp(forward, backward)
    return f


masked = wired(
    lambda x, mask: ((jnp.sin(x) * mask).sum(), (x, mask)),
    lambda kept, dy: (dy * jnp.cos(kept[0]) * kept[1], None),
)
MASK = jnp.array([1.0, 0.0, 1.0])


def test_an_input_that_is_a_constant_is_left_out():
    assert not verify.check(masked, X, MASK).ok
    for argnums in (0, (0,), "[0]", "args[0]"):
        report = verify.check(masked, X, MASK, argnums=argnums)
        assert report.ok, str(report)


def test_inputs_are_chosen_by_path():
    f = lambda p, x: (masked(p["x"], p["mask"]) * x).sum()  # noqa: E731
    params = {"x": X, "mask": MASK}
    assert verify.check(f, params, X, argnums=("[0]['x']", 1)).ok
    assert not verify.check(f, params, X).ok


def test_outputs_are_chosen():
    half = wired(lambda x: ((x * x, x**3), x), lambda x, dy: (2 * x * dy[0] + 2 * x * x * dy[1],))
    assert not verify.check(half, X).ok
    assert verify.check(half, X, outputs=0).ok
    assert not verify.check(half, X, outputs="[1]").ok


def test_nothing_chosen_is_refused():
    with pytest.raises(ValueError, match=r"no argument among argnums=\(3,\) holds"):
        verify.check(jnp.sin, X, argnums=3)


def iterate(a):
    """x = cos(a x), stopped early."""
    start = jnp.full_like(a, 0.5), jnp.full_like(a, 2.0), 0
    return jax.lax.while_loop(
        lambda s: (jnp.abs(s[0] - s[1]).max() > 1e-4) & (s[2] < 100),
        lambda s: (jnp.cos(a * s[0]), s[0], s[2] + 1),
        start,
    )[0]


def solved(factor):
    def backward(kept, dy):
        a, x = kept
        dx, da = -a * jnp.sin(a * x), -x * jnp.sin(a * x)
        return (factor * dy * da / (1 - dx),)

    return wired(lambda a: (iterate(a), (a, iterate(a))), backward)


def test_an_approximate_function_is_judged_by_what_it_promises():
    assert not verify.check(solved(1.0), X).ok
    report = verify.check(solved(1.0), X, rtol=2e-3)
    assert report.ok, str(report)
    assert not verify.check(solved(1.02), X, rtol=2e-3).ok


def from_one_triangle(twice):
    """Solves with the lower triangle of a symmetric matrix; a wrong rule forgets a half."""

    def backward(kept, dy):
        a, x = kept
        w = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(a, lower=True), dy)
        m = -jnp.outer(w, x)
        return (m + m.T) / (2 if twice else 3), w

    def solve(a, b):
        return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(a, lower=True), b)

    return wired(lambda a, b: (solve(a, b), (a, solve(a, b))), backward)


SYMMETRIC = jnp.array([[3.0, 0.5, 0.2], [0.5, 2.0, 0.1], [0.2, 0.1, 4.0]])
B = jnp.array([1.0, -2.0, 0.5])


def test_a_rule_for_symmetric_matrices_is_right_there():
    right, wrong = from_one_triangle(True), from_one_triangle(False)
    found = verify.check(right, SYMMETRIC, B)
    assert found.ok
    assert "right where the inputs stay symmetric" in str(found)
    assert "holds" in str(verify.check(right, SYMMETRIC, B, domain="symmetric"))
    assert verify.check(right, SYMMETRIC, B, domain=lambda a, b: ((a + a.T) / 2, b)).ok
    assert not verify.check(wrong, SYMMETRIC, B).ok
    assert not verify.check(wrong, SYMMETRIC, B, domain="symmetric").ok


def test_a_domain_that_nothing_lies_in_is_refused():
    with pytest.raises(ValueError, match="no argument lies in domain='simplex'"):
        verify.check(jnp.sin, X, domain="simplex")
    with pytest.raises(ValueError, match="there is no domain 'ball'"):
        inside(jnp.sin, "ball", (X,))  # pyright: ignore[reportArgumentType]
    assert fits(jnp.array([[0.5, 0.5], [1.0, 0.0]])) == ["simplex"]


spike = wired(
    lambda x: ((x > 0).astype(x.dtype), x), lambda x, dy: (dy / (1 + 5 * jnp.abs(x)) ** 2,)
)
SIGNED = jnp.array([-0.5, 0.2, 1.0])


def test_a_check_that_was_asked_for_and_cannot_be_made_says_so():
    (verdict,) = verify.check(jnp.sin, jnp.ones(2), only="gradient").verdicts
    assert (verdict.status, verdict.note) == ("skipped", "no reference was given")


def test_a_clipped_gradient_of_a_row_is_judged_row_by_row_at_small_cotangents():
    clipped = Op(
        "clipped",
        lambda x: (jnp.sin(x), x),
        lambda x, dy: (jnp.clip(jnp.cos(x) * dy, -0.1, 0.1),),
    )
    x = jnp.linspace(-1.0, 1.0, 5)
    assert not verify.check(clipped, x).ok
    assert verify.check(clipped, x, linear=False).ok


def test_a_surrogate_is_what_the_rule_is_meant_to_be():
    assert "surrogate" in str(verify.check(spike, SIGNED))
    assert verify.check(spike, SIGNED, surrogate=lambda x: x / (1 + 5 * jnp.abs(x))).ok
    assert not verify.check(spike, SIGNED, surrogate=lambda x: x / (1 + 4 * jnp.abs(x))).ok


def test_a_clipped_gradient_is_judged_at_small_cotangents():
    clip = wired(lambda x: (x, None), lambda _, dy: (jnp.clip(dy, -1, 1),))
    halved = wired(lambda x: (x, None), lambda _, dy: (jnp.clip(dy / 2, -1, 1),))
    assert "linear=False" in verify.check(clip, 3 * SIGNED).reason
    assert verify.check(clip, 3 * SIGNED, linear=False).ok
    assert not verify.check(halved, 3 * SIGNED, linear=False).ok


def _with_cosine(lean):
    """sin, summed, with the right gradient, whose own derivative has ``lean`` besides."""

    @jax.custom_jvp
    def cosine(x):
        return jnp.cos(x)

    cosine.defjvp(lambda x, t: (jnp.cos(x[0]), -jnp.sin(x[0]) * t[0] + lean(t[0])))
    return wired(lambda x: (jnp.sin(x).sum(), x), lambda x, dy: (dy * cosine(x),))


def test_a_second_derivative_is_symmetric():
    only = ("structure", "symmetry")
    assert verify.check(_with_cosine(jnp.zeros_like), X, only=only).ok
    lean = jnp.zeros((3, 3)).at[0, 1].set(1.0)
    (failure,) = verify.check(_with_cosine(lambda t: lean @ t), X, only=only).failures
    assert failure.check == "symmetry"
    stopped = wired(
        lambda x: (jnp.prod(x), x),
        lambda x, dy: (
            dy * jnp.stack([x[1] * jax.lax.stop_gradient(x[2]), x[0] * x[2], x[0] * x[1]]),
        ),
    )
    (verdict,) = verify.check(stopped, X, only="symmetry").verdicts
    assert verdict.status == "holds"
    assert "not symmetric, as stop_gradient or a callback may want" in verdict.note


def test_nothing_of_a_check_outlives_its_report():

    f = wired(lambda x: (jnp.sin(x), x), lambda x, dy: (dy * jnp.cos(x),))
    kept = []
    gc.disable()
    try:
        probe = Probe(Subject(f, (X,)), Subject(f, (X,)))
        kept.append(weakref.ref(probe))
        for check in verify.CHECKS.values():
            with contextlib.suppress(Skip):
                check(probe)
        del probe
        assert kept[0]() is None
    finally:
        gc.enable()


def test_a_budget_leaves_out_what_tells_least(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    report = verify.check(jnp.sin, X, reference=jnp.sin, budget=30.0)
    monkeypatch.undo()
    status = {v.name: v.status for v in report.verdicts}
    assert status["gradient"] == status["finite differences"] == "holds"
    assert status["vmap"] == status["reverse over reverse"] == "skipped"
    assert "budget: 30 s are used up" in str(report)
    assert [*status] == [v.name for v in verify.check(jnp.sin, X, reference=jnp.sin).verdicts]
    assert report.verdicts[-1].why == verify.check(jnp.sin, X, only="in float32").verdicts[0].why


@pytest.mark.parametrize("budget", [0, -1.0, float("inf"), float("nan"), "10"])
def test_a_budget_is_a_number_of_seconds(budget):
    with pytest.raises(ValueError, match="`budget` must be a positive number of seconds"):
        verify.check(jnp.sin, X, budget=budget)


def test_a_setting_of_both_is_refused():
    def f(x, *, rtol=1.0):
        return x * rtol

    with pytest.raises(TypeError, match=r"`rtol` is a setting of verify.check and of the function"):
        verify.check(f, X, rtol=2e-3)
    assert verify.check(functools.partial(f, rtol=2.0), X).ok


def test_a_refusal_is_no_broken_backward():
    @jax.custom_vjp
    def f(a, x):
        return a * x

    def refuse(kept, dy):
        raise NotImplementedError("no derivative")

    f.defvjp(lambda a, x: (a * x, (a, x)), refuse)
    assert "refuses to be differentiated" in verify.check(f, X, X).failures[0].message


def test_no_draw_is_a_users():
    own = {generator(*seed).standard_normal() for seed in [(0,), (0, 1), (1, 1), (0, 17, 0)]}
    users = {np.random.default_rng(k).standard_normal() for k in range(1000)}
    assert not own & users
    assert len(own) == 4


def test_rounding_shows_where_terms_cancel():
    with jax.enable_x64(True):
        x, u = jnp.asarray(np.array([0.3, -1.0, 2.0])), jnp.asarray(1.0)
        pull = lambda u, x: jax.vjp(lambda x: jax.nn.softmax(x).sum(), x)[1](u)[0]  # noqa: E731
        noise = shaken(pull, u, x, eps=1e-9)
        moved = np.array([noise(draw, u, x) for draw in range(4)])
        assert 1e-11 < np.abs(moved).max() < 1e-8
        assert len({tuple(row) for row in moved}) > 1


def test_a_second_point_shows_what_the_first_hides():
    report = verify.check(wired(lambda x: (x**3, None), lambda _, dy: (3 * X**2 * dy,)), X)
    assert [f.check for f in report.failures] == ["another point"]
    assert "`X` equals an input" in report.reason
