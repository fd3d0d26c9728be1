"""The gradient of a batch, worked through a few examples at a time."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import layers, models, ops, train, value_and_grad
from jaxcnn.precision import Policy

MODEL = layers.serial(
    conv=layers.conv(4),
    tanh=layers.activation("tanh"),
    flatten=layers.flatten(),
    dense=layers.dense(3),
)
X = jax.random.normal(jax.random.key(0), (16, 4, 4, 2))
LABELS = jnp.arange(16) % 3
LOSS = ops.softmax_cross_entropy


@pytest.mark.parametrize("microbatch", [1, 4, 8, 16, 64])
def test_it_is_the_gradient_of_the_batch(microbatch: int, x64: None) -> None:
    x = X.astype(jnp.float64)
    params, state = MODEL.init(jax.random.key(1), X.shape[1:])
    (value, _), grads = jax.jit(value_and_grad(MODEL, LOSS))(params, state, x, LABELS)
    (same, _), by_parts = jax.jit(value_and_grad(MODEL, LOSS, microbatch=microbatch))(
        params, state, x, LABELS
    )
    np.testing.assert_allclose(same, value, rtol=1e-13)
    assert jax.tree.structure(grads) == jax.tree.structure(by_parts)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-14), by_parts, grads
    )


def test_running_statistics_move_once_for_each_part() -> None:
    model = layers.serial(norm=layers.batch_norm(momentum=0.5), dense=layers.dense(2))
    params, state = model.init(jax.random.key(0), (1,))
    # the parts are every other example: zeros, then fours
    x = jnp.array([[0.0], [4.0], [0.0], [4.0]])
    (_, state), _ = value_and_grad(model, LOSS, microbatch=2)(params, state, x, jnp.zeros(4, int))
    np.testing.assert_allclose(state["norm"]["mean"], [2.0])  # 0 → 0 → (0 + 4) / 2
    np.testing.assert_allclose(state["norm"]["var"], [0.25])  # 1 → ½ → ¼


def test_every_part_draws_its_own_dropout() -> None:
    model = layers.serial(drop=layers.dropout(0.5), dense=layers.dense(1))
    params, state = model.init(jax.random.key(0), (64,))
    _, grads = value_and_grad(model, ops.squared_error, microbatch=1)(
        params, state, jnp.ones((2, 64)), jnp.ones((2, 1)), jax.random.key(1)
    )
    both_silent = float((grads["dense"]["kernel"] == 0).mean())
    assert 0.1 < both_silent < 0.4  # a quarter; with one mask for both, a half


@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
def test_a_mesh_may_cut_the_batch(kind: Any) -> None:
    params, state = MODEL.init(jax.random.key(1), X.shape[1:])
    gradient = jax.jit(value_and_grad(MODEL, LOSS, microbatch=8))
    (value, _), grads = gradient(params, state, X, LABELS)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        laid = jax.device_put((X, LABELS), jax.NamedSharding(mesh, jax.P("data")))
        weights, running = jax.device_put((params, state), jax.NamedSharding(mesh, jax.P()))
        (sharded_value, _), sharded = gradient(weights, running, *laid)
        text = gradient.lower(weights, running, *laid).compile().as_text() or ""
    assert "all-gather" not in text
    assert "all-to-all" not in text
    np.testing.assert_allclose(sharded_value, value, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=2e-6),
        sharded,
        grads,
    )


def test_inside_shard_map() -> None:
    params, state = MODEL.init(jax.random.key(1), X.shape[1:])
    (value, _), grads = jax.jit(value_and_grad(MODEL, LOSS))(params, state, X, LABELS)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    shared, cut = jax.P(), jax.P("data")

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(shared, cut, cut), out_specs=(shared, shared)
    )
    def run(params: Any, x: jax.Array, target: jax.Array) -> Any:
        (value, _), grads = value_and_grad(MODEL, LOSS, microbatch=1)(params, state, x, target)
        return jax.lax.pmean(value, "data"), jax.tree.map(lambda d: d / 8, grads)

    sharded_value, sharded = jax.jit(run)(params, X, LABELS)
    np.testing.assert_allclose(sharded_value, value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), sharded, grads)


def test_what_does_not_divide_is_refused() -> None:
    params, state = MODEL.init(jax.random.key(1), X.shape[1:])
    with pytest.raises(
        ValueError, match="a batch of 16 does not divide into microbatches of 6; choose a divisor"
    ):
        value_and_grad(MODEL, LOSS, microbatch=6)(params, state, X, LABELS)


@pytest.mark.parametrize("microbatch", [0, -1, 2.0, True, "4"])
def test_a_bad_size_is_refused_at_once(microbatch: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="microbatch"):
        value_and_grad(MODEL, LOSS, microbatch=microbatch)


def test_a_step_takes_it_too() -> None:
    optimizer = optax.sgd(0.1)
    steps = [
        train.make_step(train.Recipe(MODEL, LOSS, optimizer, microbatch=size)) for size in (None, 4)
    ]
    ends = [
        step(
            train.create(train.Recipe(MODEL, optimizer=optimizer), jax.random.key(1), X.shape[1:]),
            X,
            LABELS,
            jax.random.key(2),
        )
        for step in steps
    ]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *(end[0].params for end in ends)
    )


def test_gradients_of_16_bits_are_summed_in_32() -> None:
    model, rng = models.mlp((8, 3)), np.random.default_rng(0)
    x, labels = jnp.asarray(rng.standard_normal((256, 6)), "bfloat16"), rng.integers(0, 3, 256)
    policy = Policy("bfloat16", params="bfloat16")
    params, state = jax.tree.map(
        lambda leaf: leaf.astype("bfloat16"), model.init(jax.random.key(0), (6,))
    )
    exact = jax.jit(value_and_grad(model, LOSS))(
        *jax.tree.map(lambda leaf: leaf.astype("float32"), (params, state, x)), labels
    )[1]
    whole, parts = (
        jax.jit(value_and_grad(model, LOSS, microbatch=size, policy=policy))(
            params, state, x, labels
        )
        for size in (None, 1)
    )

    def error(grads: Any) -> float:
        return max(
            float(jnp.abs(a - b).max() / jnp.abs(b).max())
            for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(exact), strict=True)
        )

    assert {leaf.dtype for leaf in jax.tree.leaves(parts[1])} == {jnp.dtype("bfloat16")}
    assert error(parts[1]) < max(2 * error(whole[1]), 0.01)
    np.testing.assert_allclose(float(parts[0][0]), float(whole[0][0]), rtol=0.01)
