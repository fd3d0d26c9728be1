"""The wiring: what an Op accepts, refuses, caches and passes through."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from every import reference
from jaxcnn import Op, ops
from jaxcnn._core.cotangent import Static

ONE = jnp.float32(1.0)


def square_op(backward):
    return Op("square", lambda x: (x * x, x), backward)


WRONG = {
    "count": (lambda x, dy: (2 * x * dy, dy), "square: backward returned 2 cotangents for 1 inputs (x)"),
    "shape": (lambda x, dy: ((2 * x * dy)[None],), "square: backward must return float32[3] for `x`, got float32[1, 3]"),
    "dtype": (lambda x, dy: ((2 * x * dy).astype("bfloat16"),), "square: backward must return float32[3] for `x`, got bfloat16[3]"),
    "none": (lambda x, dy: (None,), "square: backward must return float32[3] for `x`, got None"),
    "no tuple": (lambda x, dy: 2 * x * dy, "square: backward must return a tuple of cotangents (x), got float32[3]"),
}  # fmt: skip


@pytest.mark.parametrize("path", ["wired", "explicit"])
@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_backward_is_refused(kind, path):
    backward, message = WRONG[kind]
    op, x = square_op(backward), jnp.arange(3.0)

    def wired():
        return jax.grad(lambda x: op(x).sum())(x)

    def explicit():
        y, saved = op.run(x)
        return op.pull(saved, y)

    with pytest.raises(TypeError) as caught:
        {"wired": wired, "explicit": explicit}[path]()
    assert message in str(caught.value)


@pytest.mark.parametrize("path", ["wired", "explicit"])
def test_a_captured_tracer_is_refused_by_name(path):
    def loss(scale, x):
        op = Op("scaled", lambda x: (scale * x, ()), lambda residuals, dy: (scale * dy,))
        if path == "wired":
            return jax.vjp(op, x)[1](x)[0].sum()
        _, saved = op.run(x)
        return op.pull(saved, x)[0].sum()

    for transform in (jax.grad, jax.jit, jax.vmap):
        scale, x = jnp.float32(3.0), jnp.arange(3.0)
        args = (scale[None], x[None]) if transform is jax.vmap else (scale, x)
        with pytest.raises(TypeError, match="scaled: backward reads the traced array `scale`"):
            transform(loss)(*args)


@pytest.mark.parametrize(
    "capture",
    [
        lambda scale: functools.partial(lambda s, residuals, dy: (s * dy,), scale),
        lambda scale: lambda residuals, dy, hidden=scale: (hidden * dy,),
        lambda scale: type("Rule", (), {"__call__": lambda self, residuals, dy: (scale * dy,)})(),
        lambda scale: lambda residuals, dy: (inner(scale)(dy),),
    ],
    ids=["partial", "default", "callable", "nested"],
)
def test_tracers_are_found_however_they_are_captured(capture):
    def loss(scale):
        op = Op("scaled", lambda x: (scale * x, ()), capture(scale))
        y, saved = op.run(jnp.arange(3.0))
        return op.pull(saved, y)[0].sum()

    with pytest.raises(TypeError, match="scaled: backward reads the traced array"):
        jax.jit(loss)(3.0)


def inner(scale):
    return lambda dy: scale * dy


def test_captured_constants_are_fine():
    table = jnp.arange(3.0)
    op = Op("scaled", lambda x: (table * x, ()), lambda residuals, dy: (table * dy,))
    np.testing.assert_array_equal(jax.jit(jax.grad(lambda x: op(x).sum()))(jnp.ones(3)), table)


def test_calling_in_a_loop_neither_rewires_nor_recompiles():
    count = 0

    def forward(x, /, *, power=2, sizes=()):
        nonlocal count
        count += 1
        return x**power, x

    op = Op("power", forward, lambda x, dy, *, power=2, sizes=(): (power * x ** (power - 1) * dy,))
    step = jax.jit(lambda x: jax.grad(lambda x: op(x, power=3, sizes=[1, 2]).sum())(x))
    for _ in range(5):
        step(jnp.ones(3))
        op(jnp.ones(3), power=3, sizes=(1, 2))
    assert len(op._wirings) == 1
    assert count == 1 + 5  # once traced, then once an eager call, never for wiring


def test_settings_are_told_apart_by_type_and_normalised():
    def forward(x, /, *, factor=1):
        return x * (10 if factor is True else factor), ()

    op = Op(
        "times",
        forward,
        lambda residuals, dy, *, factor=1: (dy * (10 if factor is True else factor),),
    )
    factors: list[Any] = [1, True, 1.0, np.int64(2)]
    assert [float(op(ONE, factor=f)) for f in factors] == [1.0, 10.0, 1.0, 2.0]
    assert float(op(ONE)) == 1.0
    assert len(op._wirings) == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.max_pool(jnp.ones((1, 4, 4, 1)), windows=2), "max_pool: unknown setting `windows` (settings: window, stride, padding, dilation); did you mean `window`?"),  # pyright: ignore[reportCallIssue]
        (lambda: ops.max_pool(jnp.ones((1, 4, 4, 1)), window=jnp.int32(2)), "max_pool: setting `window` must be a static Python value"),
        (lambda: ops.max_pool(jnp.ones((1, 4, 4, 1)), window={2}), "max_pool: setting `window` must be hashable, got set"),  # pyright: ignore[reportArgumentType]
        (lambda: ops.dense(jnp.ones((2, 3))), "dense: missing input `w` (inputs: x, w, b)"),  # pyright: ignore[reportCallIssue]
        (lambda: ops.dropout(jnp.ones(3), jax.random.key(0)), "dropout: missing setting `rate`"),  # pyright: ignore[reportCallIssue]
        (lambda: ops.relu(jnp.ones(3), jnp.ones(3)), "relu: takes 1 inputs (x), got 2"),  # pyright: ignore[reportCallIssue]
    ],
)  # fmt: skip
def test_bad_arguments_are_named(call, message):
    with pytest.raises(TypeError) as caught:
        call()
    assert message in str(caught.value)


def test_inputs_may_be_numpy_numbers_or_named():
    x, w, b = np.ones((2, 3)), np.ones((3, 4)), np.ones(4)
    np.testing.assert_array_equal(ops.dense(x, w, b), 4.0)  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(ops.dense(x, w, b=b), 4.0)  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(ops.dense(w=w, x=x), 3.0)  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(ops.dense(x, w), 3.0)  # pyright: ignore[reportArgumentType]
    assert float(ops.relu(-2.0)) == 0.0  # pyright: ignore[reportArgumentType]


def test_a_cotangent_that_does_not_fit_the_output_is_refused():
    _, saved = ops.relu.run(jnp.ones(3))
    for dy in (jnp.ones(2), jnp.ones(3, "bfloat16"), None):
        with pytest.raises(TypeError, match="relu: the cotangent `dy` must"):
            ops.relu.pull(saved, dy)


def test_integers_keys_and_absent_inputs_have_no_cotangent():
    _, saved = ops.dense.run(jnp.ones((2, 3)), jnp.ones((3, 1)))
    dx, dw, db = ops.dense.pull(saved, jnp.ones((2, 1)))
    assert (dx.shape, dw.shape, db) == ((2, 3), (3, 1), None)
    _, saved = ops.softmax_cross_entropy.run(jnp.ones((2, 3)), jnp.array([0, 1]))
    assert ops.softmax_cross_entropy.pull(saved, jnp.ones(2))[1] is None
    overeager = ops.squared_error.replace(backward=lambda r, d, **s: (r[0], r[0]))
    _, saved = overeager.run(jnp.ones((2, 3)), jnp.ones((2, 3), int))
    with pytest.raises(TypeError, match="must return None for `t`, which has no derivative"):
        overeager.pull(saved, jnp.ones(2))


def test_replaced_backward_is_another_rule_with_the_same_value():
    guided = ops.relu.replace(
        backward=lambda y, dy, *, at_zero=0.0: (jnp.where((y > 0) & (dy > 0), dy, 0),)
    )
    x = jnp.array([-1.0, 2.0, 3.0])
    y, pull = jax.vjp(guided, x)
    np.testing.assert_array_equal(y, [0, 2, 3])
    np.testing.assert_array_equal(pull(jnp.array([1.0, -1.0, 1.0]))[0], [0, 0, 1])
    np.testing.assert_array_equal(
        jax.vjp(ops.relu, x)[1](jnp.array([1.0, -1.0, 1.0]))[0], [0, -1, 1]
    )


def test_using_binds_settings_and_refuses_unknown_ones():
    half = ops.squared_error.using(scale=0.5)
    assert float(half(jnp.array([2.0]), jnp.array([0.0]))) == 2.0
    with pytest.raises(TypeError, match="unknown setting `scales`"):
        ops.squared_error.using(scales=0.5)


def test_residuals_cross_jit_and_scan():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    y, saved = jax.jit(ops.max_pool.run)(x)
    assert any(
        isinstance(leaf, Static)
        for leaf in jax.tree.leaves(saved, is_leaf=lambda v: isinstance(v, Static))
    )
    (dx,) = jax.jit(ops.max_pool.pull)(saved, y)
    np.testing.assert_array_equal(dx[0, 1::2, 1::2, 0], y[0, :, :, 0])


def test_forward_mode_is_refused_when_wired_and_open_when_plain():
    x = jnp.arange(3.0)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(ops.tanh, (x,), (x,))
    _, tangent = jax.jvp(ops.tanh.plain, (x,), (x,))
    np.testing.assert_allclose(tangent, (1 - jnp.tanh(x) ** 2) * x, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e4, -1e4, 1e6])
def test_losses_are_safe_for_large_scores_in_float32(scale):
    z = jnp.array([[scale, 0.0, -scale], [0.0, scale, scale]], jnp.float32)
    for loss, target in (
        (ops.softmax_cross_entropy, jnp.array([1, 0])),
        (ops.softmax_cross_entropy, jnp.full((2, 3), 1 / 3)),
        (ops.sigmoid_cross_entropy, jnp.ones((2, 3))),
        (ops.kl_divergence, jnp.full((2, 3), 1 / 3)),
    ):
        value, pull = jax.vjp(lambda z, loss=loss, target=target: loss(z, target), z)
        (dz,) = pull(jnp.ones(2))
        with jax.enable_x64(True):
            wide, wide_target = jnp.asarray(z, "float64"), target
            if jnp.issubdtype(target.dtype, jnp.floating):
                wide_target = jnp.asarray(target, "float64")
            true = reference(loss)(wide, wide_target)
            true_dz = jax.grad(lambda z, loss=loss, t=wide_target: reference(loss)(z, t).sum())(
                wide
            )
        np.testing.assert_allclose(value, true, rtol=1e-6)
        np.testing.assert_allclose(dz, true_dz, atol=1e-6)


def test_a_label_outside_the_classes_gives_nan_not_a_wrong_loss():
    loss = ops.softmax_cross_entropy(jnp.zeros((3, 2)), jnp.array([0, 2, -1]))
    assert jnp.isnan(loss).tolist() == [False, True, True]


def test_max_pool_lets_nan_through():
    x = jnp.array([1.0, jnp.nan, 3.0, 2.0]).reshape(1, 4, 1)
    assert jnp.isnan(ops.max_pool(x)[0, :, 0]).tolist() == [True, False]
    assert jnp.isnan(ops.relu(x)).sum() == 1


def test_a_replaced_backward_need_not_know_settings_at_their_default():
    straight = ops.relu.replace(backward=lambda y, dy: (dy,))
    np.testing.assert_array_equal(
        jax.grad(lambda x: straight(x).sum())(jnp.array([-1.0, 1.0])), 1.0
    )
    with pytest.raises(
        TypeError, match=r"relu: backward takes no setting `at_zero`, which is 1\.0 here"
    ):
        jax.grad(lambda x: straight(x, at_zero=1.0).sum())(jnp.ones(2))


def test_pull_takes_the_settings_of_run():
    y, saved = ops.leaky_relu.run(jnp.array([-1.0]), slope=0.5)
    assert ops.leaky_relu.pull(saved, y)[0] == -0.25
    assert ops.leaky_relu.pull(saved, y, slope=0.5)[0] == -0.25
    with pytest.raises(TypeError, match=r"leaky_relu: pull got slope=0\.1, but run had slope=0\.5"):
        ops.leaky_relu.pull(saved, y, slope=0.1)


def test_some_settings_may_be_bound_before_others():
    some = ops.group_norm.using(eps=0.5)
    assert some(jnp.ones((2, 4)), jnp.ones(4), jnp.zeros(4), groups=2).shape == (2, 4)


def test_masked_scores_cost_nothing():
    z = jnp.array([[0.0, -jnp.inf]])
    assert ops.softmax_cross_entropy(z, jnp.array([0]))[0] == 0
    assert ops.softmax_cross_entropy(z, jnp.array([[1.0, 0.0]]))[0] == 0
    np.testing.assert_array_equal(
        jax.grad(lambda z: ops.softmax_cross_entropy(z, jnp.array([0])).sum())(z), 0
    )


def test_overlapping_windows_add_up_in_float32():
    x = jnp.array([0.0, 0.0, 1.0, 0.0, 0.0], "bfloat16").reshape(1, 5, 1)
    (dx,) = jax.vjp(lambda x: ops.max_pool(x, window=3, stride=1), x)[1](
        jnp.array([256.0, 1, 1], "bfloat16").reshape(1, 3, 1)
    )
    assert float(dx[0, 2, 0]) == 258.0
