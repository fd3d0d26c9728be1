"""The compiled step: it descends, reuses its buffers, leaves frozen parameters alone, and repeats
itself to the bit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import layers, models, ops, train

KEY = jax.random.key(7)
X = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(np.int32)


def _model() -> layers.Layer:
    return layers.serial(
        hidden=layers.dense(8),
        norm=layers.batch_norm(),
        relu=layers.relu(),
        dropout=layers.dropout(0.2),
        out=layers.dense(2),
    )


class _Problem:
    """A model, an optimizer, their compiled step, and any number of fresh starts."""

    def __init__(
        self, optimizer: optax.GradientTransformation, model: layers.Layer | None = None
    ) -> None:
        self.model, self.optimizer = _model() if model is None else model, optimizer
        self.step = train.make_step(train.Recipe(self.model, ops.softmax_cross_entropy, optimizer))

    def start(self) -> train.TrainState:
        return train.create(
            train.Recipe(self.model, optimizer=self.optimizer), jax.random.key(0), X.shape[1:]
        )

    def after(self, steps: int) -> tuple[train.TrainState, list[float]]:
        """The state and all losses."""
        state, losses = self.start(), []
        for _ in range(steps):
            state, metrics = self.step(state, X, LABELS, KEY)
            losses.append(float(metrics["loss"]))
        return state, losses


@pytest.fixture(scope="module")
def adam() -> _Problem:
    return _Problem(optax.adam(optax.cosine_onecycle_schedule(60, 0.05)))


def _bits(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def test_the_loss_falls(adam: _Problem) -> None:
    state, losses = adam.after(60)
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:3])
    assert int(state.step) == 60


def test_one_step_of_sgd_is_the_gradient_of_autodiff() -> None:
    problem = _Problem(optax.sgd(0.1), models.mlp((8, 2), "tanh"))
    state = problem.start()

    def loss(params: Any) -> jax.Array:
        logits, _ = problem.model.apply(params, {}, jnp.asarray(X), train=True)
        return ops.softmax_cross_entropy(logits, jnp.asarray(LABELS)).mean()

    value, grads = jax.value_and_grad(loss)(state.params)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads)
    state, metrics = problem.step(state, X, LABELS, KEY)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.params, expected
    )


def test_old_buffers_are_given_to_the_new_state(adam: _Problem) -> None:
    old = adam.start()
    new, _ = adam.step(old, X, LABELS, KEY)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(new))


def test_an_optimizer_that_keeps_the_parameters_can_be_donated_too() -> None:
    _Problem(
        optax.GradientTransformation(
            lambda params: params, lambda updates, state, params=None: (updates, state)
        )
    ).after(1)


def test_the_new_state_fits_the_same_program(adam: _Problem) -> None:
    state = adam.start()
    new, _ = jax.eval_shape(adam.step, state, X, LABELS, KEY)
    same = jax.tree.map(
        lambda a, b: (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type), new, state
    )
    assert all(jax.tree.leaves(same))


FROZEN = {
    "multi_transform": lambda labels: optax.multi_transform({"train": optax.adam(0.1), "freeze": optax.set_to_zero()}, labels),
    "masked": lambda labels: optax.chain(
        optax.adam(0.1), optax.masked(optax.set_to_zero(), jax.tree.map(lambda label: label == "freeze", labels))
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", FROZEN)
def test_frozen_parameters_stay_to_the_bit(way: str) -> None:
    labels = {
        "dense1": {"kernel": "train", "bias": "freeze"},
        "dense2": {"kernel": "freeze", "bias": "train"},
    }
    problem = _Problem(FROZEN[way](labels), models.mlp((8, 2)))
    state, _ = problem.after(5)
    before = problem.start().params
    same = jax.tree.map(
        lambda a, b: "freeze" if _bits(a) == _bits(b) else "train", state.params, before
    )
    assert same == labels


def test_the_same_seed_gives_the_same_bits(adam: _Problem) -> None:
    assert _bits(adam.after(5)) == _bits(adam.after(5))


def test_every_step_draws_its_own_dropout(adam: _Problem) -> None:
    def loss(number: int) -> float:
        return float(
            adam.step(adam.start()._replace(step=jnp.int32(number)), X, LABELS, KEY)[1]["loss"]
        )

    assert loss(0) == loss(0) != loss(1)


def test_bytes_are_prepared_inside_the_program_and_prediction_is_silent() -> None:
    model, optimizer = _model(), optax.sgd(0.1)
    prepare = lambda x: x.astype(jnp.float32) / 255  # noqa: E731
    images = np.random.default_rng(0).integers(0, 256, (16, 6), dtype=np.uint8)
    state = train.create(train.Recipe(model, optimizer=optimizer), jax.random.key(0), (6,))
    state, _ = train.make_step(
        train.Recipe(model, ops.softmax_cross_entropy, optimizer, prepare=prepare)
    )(state, images, LABELS, KEY)
    logits = train.make_predict(train.Recipe(model, prepare=prepare))(
        state.params, state.state, images
    )
    expected, _ = model.apply(state.params, state.state, prepare(jnp.asarray(images)))
    np.testing.assert_allclose(logits, expected, rtol=1e-6)
    assert np.any(np.asarray(state.state["norm"]["mean"]) != 0)


def test_a_shape_that_the_model_does_not_take_is_refused() -> None:
    model = layers.serial(first=layers.conv(2, window=5, padding="VALID"))
    with pytest.raises(ValueError, match="the window covers 5 cells") as caught:
        train.create(train.Recipe(model, optimizer=optax.sgd(0.1)), KEY, (4, 4, 1))
    assert "in layer `first`" in " ".join(caught.value.__notes__)


def test_an_epoch_in_one_program_is_its_steps_in_turn(adam: _Problem) -> None:
    # whose numbers stay what they are; others are folded into such a key
    key = jax.random.key(3, impl="threefry2x32")
    epoch = train.make_epoch(adam.step, 5)
    together, metrics = epoch(adam.start(), X, LABELS, key)
    order, inside = jax.random.split(jax.random.fold_in(key, 0))
    state, losses = adam.start(), []
    rows = np.asarray(train.shuffled(order, len(X), 5))
    assert rows.shape == (3, 5)
    assert len(set(rows.ravel().tolist())) == 15
    for batch in rows:
        state, one = adam.step(state, X[batch], LABELS[batch], inside)
        losses.append(float(one["loss"]))
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        together.params,
        state.params,
    )
    again, _ = epoch(together, X, LABELS, key)
    assert int(again.step) == 6


def test_every_epoch_has_its_own_order_from_the_same_key() -> None:
    """With a learning rate of 0 the losses tell the batches apart."""
    problem = _Problem(optax.sgd(0.0), models.mlp((2,)))
    epoch = train.make_epoch(problem.step, 2)
    state, first = epoch(problem.start(), X, LABELS, KEY)
    _, second = epoch(state, X, LABELS, KEY)
    assert first["loss"].tolist() != second["loss"].tolist()
    np.testing.assert_allclose(np.mean(first["loss"]), np.mean(second["loss"]), rtol=1e-5)


@pytest.mark.parametrize("batch_size", [0, True, 17])
def test_a_batch_that_cannot_be_filled_is_refused(batch_size: Any) -> None:
    problem = _Problem(optax.sgd(0.1), models.mlp((2,)))
    with pytest.raises(ValueError, match="setting `batch_size` must be"):
        train.make_epoch(problem.step, batch_size)(problem.start(), X, LABELS, KEY)


def test_a_mean_over_many_examples_is_not_rounded_to_16_bits() -> None:
    labels = np.arange(1000) % 2
    right = np.where(np.arange(1000) < 7, 1 - labels, labels)
    logits = jnp.asarray(np.eye(2)[right], "bfloat16")
    model = layers.serial(same=layers.activation("relu"))
    params, state = model.init(jax.random.key(0), (2,))
    assert train.make_evaluate(train.Recipe(model, measures={"accuracy": train.accuracy}))(
        params, state, logits, labels
    ) == {"accuracy": 0.993}
