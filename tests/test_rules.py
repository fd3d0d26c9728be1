"""Other ways back: each rule is what its formula says, in models too, and leaves everything else as
it was."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import deltas, layers, ops, value_and_grad
from jaxcnn.rules import (
    deconvolution,
    feedback_alignment,
    fixed_weights,
    guided,
    sign_symmetric,
    straight_through,
)

X = jax.random.normal(jax.random.key(0), (6, 8, 8, 2))
LABELS = jnp.arange(6) % 3
NETWORK = layers.serial(
    conv=layers.conv(4),
    relu=layers.relu(),
    deep=layers.repeat(layers.serial(inner=layers.conv(4), relu=layers.relu()), 2),
    block=layers.residual(layers.serial(up=layers.conv(4), relu=layers.relu())),
    norm=layers.batch_norm(),
    flatten=layers.flatten(),
    drop=layers.dropout(0.1),
    dense=layers.dense(3),
)


def test_guided_and_deconvolution_at_every_sign() -> None:
    x, dy = jnp.array([-1.0, -1, 1, 1, 0]), jnp.array([-2.0, 2, -2, 2, 2])
    for rule, wanted in ((guided, [0, 0, 0, 2, 0]), (deconvolution, [0, 2, 0, 2, 2])):
        y, saved = rule(ops.relu).run(x)
        np.testing.assert_array_equal(y, ops.relu(x))
        np.testing.assert_array_equal(rule(ops.relu).pull(saved, dy)[0], wanted)
        np.testing.assert_array_equal(jax.vjp(rule(ops.relu), x)[1](dy)[0], wanted)


def test_straight_through() -> None:
    x, dy = jnp.array([-3.0, -0.5, 0.5, 3.0]), jnp.arange(4.0)
    for op, wanted in (
        (straight_through(ops.step), dy),
        (straight_through(ops.step, within=1), jnp.array([0.0, 1, 2, 0])),
    ):
        y, saved = op.run(x)
        np.testing.assert_array_equal(y, [0, 0, 1, 1])
        np.testing.assert_array_equal(op.pull(saved, dy)[0], wanted)


@pytest.mark.parametrize("within", [0, -1.0, True, "1"])
def test_straight_through_refuses(within: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="within"):
        straight_through(ops.step, within=within)


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_feedback_carries_by_other_weights(name: str) -> None:
    op = getattr(ops, name)
    x, w = (
        (X, jax.random.normal(jax.random.key(1), (3, 3, 2, 4)))
        if name == "conv"
        else (X[:, 0, 0], jnp.ones((2, 4)))
    )
    y, saved = op.run(x, w)
    dy = jnp.cos(y)
    _, true_dw, *_ = op.pull(saved, dy)
    size = np.sqrt(2 / np.prod(w.shape[:-1]))
    for other, carrier in (
        (feedback_alignment(op, seed=3), jnp.asarray(fixed_weights(w.shape, 3))),
        (sign_symmetric(op), jnp.sign(w) * size),
    ):
        _, kept = other.run(x, w)
        dx, dw, *_ = other.pull(kept, dy)
        np.testing.assert_array_equal(dw, true_dw)
        np.testing.assert_allclose(dx, op.pull(op.run(x, carrier)[1], dy)[0], rtol=1e-6)


def test_feedback_weights_are_fixed_and_of_the_right_size() -> None:
    b = fixed_weights((3, 3, 16, 64), 5)
    np.testing.assert_array_equal(b, fixed_weights((3, 3, 16, 64), 5))
    assert not np.array_equal(b, fixed_weights((3, 3, 16, 64), 6))
    assert b.std() == pytest.approx(np.sqrt(2 / (9 * 16)), rel=0.05)


def test_feedback_is_for_ops_with_weights() -> None:
    with pytest.raises(
        ValueError,
        match="a feedback rule is for dense and conv, whose residuals begin with x and w; got relu",
    ):
        sign_symmetric(ops.relu)


def test_a_model_takes_a_rule_in_every_layer() -> None:
    seen = []

    def note(path: tuple[str, ...], op: Any) -> Any:
        seen.append(("/".join(path), op.name))
        return guided(op) if op.name == "relu" else op

    model = NETWORK.map_ops(note)
    assert seen == [
        ("conv", "conv"),
        ("conv", "bias"),
        ("relu", "relu"),
        ("deep/inner", "conv"),
        ("deep/inner", "bias"),
        ("deep/relu", "relu"),
        ("block/body/up", "conv"),
        ("block/body/up", "bias"),
        ("block/body/relu", "relu"),
        ("norm", "batch_norm"),
        ("norm", "frozen_norm"),
        ("flatten", "flatten"),
        ("drop", "dropout"),
        ("dense", "dense"),
    ]
    params, state = NETWORK.init(jax.random.key(0), X.shape[1:])
    (y, _), residuals = jax.jit(NETWORK.forward)(params, state, X)
    (same, _), guided_residuals = jax.jit(model.forward)(params, state, X)
    np.testing.assert_array_equal(y, same)
    dy = jnp.ones_like(y)
    dx, guided_dx = (
        jax.jit(lambda m, r: m.backward(r, dy)[1], static_argnums=0)(*pair)
        for pair in ((NETWORK, residuals), (model, guided_residuals))
    )
    assert not np.allclose(dx, guided_dx)


def test_a_model_of_the_same_ops_is_the_same_model() -> None:
    same = NETWORK.map_ops(lambda path, op: op)
    params, state = NETWORK.init(jax.random.key(0), X.shape[1:])
    one, other = (
        jax.jit(value_and_grad(m, ops.softmax_cross_entropy))(
            params, state, X, LABELS, jax.random.key(1)
        )
        for m in (NETWORK, same)
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_direct_feedback_reaches_the_named_layers_from_the_output() -> None:
    plain = layers.serial(
        d1=layers.dense(5),
        relu1=layers.relu(),
        d2=layers.dense(4),
        relu2=layers.relu(),
        d3=layers.dense(3),
    )
    model = layers.direct(plain, ["relu1", "relu2"], seed=7)
    x = X[:, 0, :, 0]
    params, state = model.init(jax.random.key(0), x.shape[1:])
    (y, _), residuals = model.forward(params, state, x)
    dy = jnp.cos(y)
    found, true = deltas(model, residuals, dy), deltas(plain, residuals, dy)
    np.testing.assert_allclose(found["relu1"], dy @ fixed_weights((5, 3), 7).T, rtol=1e-6)
    np.testing.assert_allclose(found["relu2"], dy @ fixed_weights((4, 3), 8).T, rtol=1e-6)
    np.testing.assert_array_equal(found["d3"], true["d3"])
    z1 = jax.nn.relu(ops.dense(x, params["d1"]["kernel"], params["d1"]["bias"]))
    np.testing.assert_allclose(found["d1"], jnp.where(z1 > 0, found["relu1"], 0), rtol=1e-6)
    grads, _ = model.backward(residuals, dy)
    np.testing.assert_allclose(grads["d1"]["kernel"], x.T @ found["d1"], rtol=1e-5, atol=1e-6)


def test_direct_feedback_needs_layers_that_are_there() -> None:
    with pytest.raises(
        ValueError, match="direct: the model has no layer `act9`; it has conv, relu"
    ):
        layers.direct(NETWORK, ["act9"])
