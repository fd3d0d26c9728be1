"""Mixed precision: close to float32, parameters and averages kept in it, and gradients that neither
vanish nor overflow."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import layers, ops, train, value_and_grad
from jaxcnn.precision import PATIENCE, Policy, Scale

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(16, 12, 12, 2)).astype(np.float32)
LABELS = np.arange(16) % 3
LOSS = ops.softmax_cross_entropy
# Smooth: at a ReLU or a maximum, rounding may decide the other way, and the gradient of that is no
# rounded one
MODEL = layers.serial(
    conv=layers.conv(8, bias=False),
    norm=layers.batch_norm(),
    gelu=layers.activation("gelu"),
    pool=layers.avg_pool(2),
    flatten=layers.flatten(),
    hidden=layers.dense(16),
    tanh=layers.activation("tanh"),
    out=layers.dense(3),
)
PARAMS, STATE = MODEL.init(KEY, X.shape[1:])


def gradient(policy: Policy | None, **settings: Any) -> Any:
    return jax.jit(
        lambda: value_and_grad(MODEL, LOSS, policy=policy)(
            PARAMS, STATE, jnp.asarray(X), LABELS, **settings
        )
    )()


@pytest.mark.parametrize(
    ("compute", "scale", "far"), [("bfloat16", None, 0.04), ("float16", 1024.0, 0.006)]
)
def test_gradients_are_those_of_float32_but_for_rounding(
    compute: str, scale: float | None, far: float
) -> None:
    (value, state), grads = gradient(Policy(compute, loss_scale=scale))
    (wanted_value, wanted_state), wanted = gradient(None)
    np.testing.assert_allclose(value, wanted_value, rtol=far)
    for got, want in zip(
        jax.tree.leaves((grads, state)), jax.tree.leaves((wanted, wanted_state)), strict=True
    ):
        assert got.dtype == np.float32
        assert np.abs(got - want).max() <= far * np.abs(want).max()


@pytest.mark.parametrize("microbatch", [None, 4])
def test_a_loss_scale_brings_back_what_float16_loses(microbatch: int | None) -> None:
    """δ of 1e-7 and less is 0 there; carried 2¹² times as large, it is not."""
    model = layers.serial(flatten=layers.flatten(), out=layers.dense(3))
    params, _ = model.init(KEY, X.shape[1:])
    x, target = jnp.asarray(1e-4 * X), jax.nn.one_hot(LABELS, 3)

    def found(policy: Policy | None) -> np.ndarray:
        with_policy = value_and_grad(model, ops.squared_error, policy=policy, microbatch=microbatch)
        return np.asarray(with_policy(params, {}, x, 1e-4 * target)[1]["out"]["kernel"])

    wanted = found(None)
    none, scaled = (
        np.abs(found(Policy("float16", loss_scale=s)) - wanted).max() / np.abs(wanted).max()
        for s in (None, 2.0**12)
    )
    assert none > 0.3
    assert scaled < 0.01


def test_a_dynamic_scale_halves_until_gradients_are_finite_and_leaves_those_steps_out() -> None:
    policy, optimizer = Policy("float16", loss_scale="dynamic"), optax.sgd(1e-3)
    step = train.make_step(train.Recipe(MODEL, LOSS, optimizer, policy=policy))
    state = train.create(train.Recipe(MODEL, optimizer=optimizer, policy=policy), KEY, X.shape[1:])
    start, scales = jax.tree.map(np.asarray, state.params), [2.0**24]
    state = state._replace(scale=Scale(jnp.float32(scales[0]), jnp.int32(5)))
    for _ in range(20):
        state, metrics = step(state, X, LABELS, KEY)
        assert bool(metrics["finite"])
        assert state.scale is not None
        if float(state.scale.value) == scales[-1]:
            break
        scales.append(float(state.scale.value))
        # until then no step counts
        jax.tree.map(np.testing.assert_array_equal, state.params, start)
    assert scales == [2.0 ** (24 - n) for n in range(len(scales))]
    assert 3 <= len(scales) < 20
    assert any(
        np.any(a != b)
        for a, b in zip(jax.tree.leaves(start), jax.tree.leaves(state.params), strict=True)
    )
    assert state.scale is not None
    assert int(state.scale.good) == 1


def test_a_dynamic_scale_grows_after_many_good_steps() -> None:
    scale = Scale(jnp.float32(8.0), jnp.int32(PATIENCE - 2))
    scale = scale.after(jnp.bool_(True))
    assert (float(scale.value), int(scale.good)) == (8.0, PATIENCE - 1)
    scale = scale.after(jnp.bool_(True))
    assert (float(scale.value), int(scale.good)) == (16.0, 0)
    assert float(Scale(jnp.float32(1.0), jnp.int32(3)).after(jnp.bool_(False)).value) == 1.0


def test_nan_is_nothing_that_a_scale_mends() -> None:
    data = (np.where(np.arange(16)[:, None, None, None] == 3, np.nan, X).astype(np.float32), LABELS)
    with pytest.raises(
        train.DivergedError, match=r"the loss is nan in step 0 \(input: 288 of 4608 numbers of x"
    ):
        train.fit(
            train.Recipe(
                MODEL, LOSS, optax.sgd(0.1), policy=Policy("float16", loss_scale="dynamic")
            ),
            data,
            key=KEY,
            batch_size=16,
            steps=2,
        )


def test_a_run_in_bfloat16_learns_and_keeps_float32() -> None:
    policy = Policy("bfloat16")
    state, reports = train.fit(
        train.Recipe(MODEL, LOSS, optax.adam(0.003), policy=policy),
        (X, LABELS),
        test=(X, LABELS),
        key=KEY,
        batch_size=8,
        epochs=20,
    )
    assert reports[-1].loss < 0.3 * reports[0].loss
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.state))} == {
        jnp.dtype("float32")
    }
    logits = train.make_predict(train.Recipe(MODEL, policy=policy))(state.params, state.state, X)
    assert logits.dtype == np.float32
    assert reports[-1].scores == {
        "accuracy": pytest.approx(float((logits.argmax(-1) == LABELS).mean()))
    }


def test_policies_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="Policy: setting `compute` must be a floating dtype"):
        Policy("int8")
    for scale in (0, -1.0, float("inf"), float("nan")):
        with pytest.raises(
            ValueError, match="`loss_scale` must be a number > 0, 'dynamic' or None"
        ):
            Policy("float16", loss_scale=scale)
    policy, optimizer = Policy("float16", loss_scale="dynamic"), optax.sgd(0.1)
    with pytest.raises(
        ValueError, match="dynamic loss scale: the recipe has one, the train state none"
    ):
        train.make_step(train.Recipe(MODEL, LOSS, optimizer, policy=policy))(
            train.create(train.Recipe(MODEL, optimizer=optimizer), KEY, X.shape[1:]), X, LABELS, KEY
        )
