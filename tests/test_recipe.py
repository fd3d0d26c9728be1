"""A recipe holds what step, evaluation and pictures must agree about; its parts may still be given
one by one, as they were before there was one."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import models, ops, train
from jaxcnn.plan._planning import plan
from jaxcnn.train import Recipe

KEY = jax.random.key(3)
X = np.random.default_rng(0).integers(0, 255, (12, 4)).astype(np.uint8)
LABELS = (X[:, 0] > 127).astype(np.int32)
MODEL, LOSS, ADAM = models.mlp((3, 2), "tanh"), ops.softmax_cross_entropy, optax.adam(0.1)


def scale(x: Any) -> Any:
    return x.astype(jnp.float32) / 255


def rows(labels: Any) -> Any:
    return optax.smooth_labels(jax.nn.one_hot(labels, 2), 0.1)


def noise(key: jax.Array, x: Any) -> Any:
    return x + 0.1 * jax.random.normal(key, x.shape)


POLICY = train.Policy("bfloat16")
FULL = Recipe(
    MODEL,
    LOSS,
    ADAM,
    prepare=scale,
    prepare_target=rows,
    augment=noise,
    microbatch=2,
    average=0.9,
    policy=POLICY,
    measures={"accuracy": train.accuracy},
)


def unchecked(*parts: Any) -> None:
    """As where no contracts are checked."""
    inspect.unwrap(Recipe.__init__)(object.__new__(Recipe), *parts)


def fresh(recipe: Recipe = FULL) -> train.TrainState:
    return train.create(recipe, KEY, (4,))


def pair(name: str) -> tuple[Any, Any]:
    """The same thing by a recipe and by its parts, as numbers."""
    state = fresh()
    if name == "create":
        return state, train.create(MODEL, ADAM, KEY, (4,), average=True, policy=POLICY)  # pyright: ignore
    if name == "make_step":
        old = train.make_step(
            MODEL,  # pyright: ignore
            LOSS,  # pyright: ignore
            ADAM,
            scale,
            rows,
            augment=noise,  # pyright: ignore
            microbatch=2,
            average=0.9,
            policy=POLICY,
            guard=True,
        )
        new = train.make_step(FULL, guard=True)
        return new(fresh(), X, LABELS, KEY), old(fresh(), X, LABELS, KEY)
    if name == "make_steps":
        order = np.arange(12).reshape(3, 4)
        new = train.make_steps(FULL)(fresh(), X, LABELS, order, KEY)
        return new, train.make_steps(train.make_step(FULL))(fresh(), X, LABELS, order, KEY)
    if name == "make_epoch":
        new = train.make_epoch(FULL, 4)(fresh(), jnp.asarray(X), jnp.asarray(LABELS), KEY)
        old = train.make_epoch(train.make_step(FULL), batch_size=4)
        return new, old(fresh(), jnp.asarray(X), jnp.asarray(LABELS), KEY)
    if name == "make_evaluate":
        old = train.make_evaluate(MODEL, FULL.measures, scale, batch_size=5, policy=POLICY)  # pyright: ignore
        new = train.make_evaluate(FULL, batch_size=5)
        return new(state.params, state.state, X, LABELS), old(state.params, state.state, X, LABELS)
    if name == "make_predict":
        old = train.make_predict(MODEL, scale, policy=POLICY)  # pyright: ignore
        return train.make_predict(FULL)(state.params, {}, X), old(state.params, {}, X)
    if name == "fit":
        settings: dict[str, Any] = {"key": KEY, "batch_size": 4, "steps": 7, "test": (X, LABELS)}
        parts: Any = {
            "prepare": scale,
            "prepare_target": rows,
            "augment": noise,
            "microbatch": 2,
            "average": 0.9,
            "policy": POLICY,
            "measures": None,
        }
        old = train.fit(MODEL, LOSS, ADAM, (X, LABELS), **settings, **parts)  # pyright: ignore
        new = train.fit(FULL, (X, LABELS), **settings)
        return [[s, [r.losses for r in rs], rs[-1].scores] for s, rs in (new, old)]  # pyright: ignore
    broken = jax.tree.map(lambda leaf: leaf * jnp.inf, state.params)
    if name == "autopsy":
        old = train.autopsy(MODEL, LOSS, broken, {}, scale(X), rows(LABELS), KEY, policy=POLICY)  # pyright: ignore
        return train.autopsy(FULL, broken, {}, X, LABELS, KEY), old
    if name == "make_norms":
        old = train.make_norms(MODEL, LOSS, scale, rows, train=False)  # pyright: ignore
        return [
            run(state.params, {}, X, LABELS) for run in (train.make_norms(FULL, train=False), old)
        ]  # pyright: ignore
    old = train.Norms(MODEL, LOSS, X, LABELS, every=2, prepare=scale, prepare_target=rows)  # pyright: ignore
    return train.Norms(FULL, X, LABELS, every=2).measure(1, state), old.measure(1, state)


@pytest.mark.parametrize(
    "name",
    [
        "create", "make_step", "make_steps", "make_epoch", "make_evaluate", "make_predict", "fit",
        "autopsy", "make_norms", "Norms",
    ],
)  # fmt: skip
def test_a_recipe_does_what_its_parts_did(name: str) -> None:
    new, old = pair(name)
    assert jax.tree.structure(new) == jax.tree.structure(old)
    if name == "autopsy":
        assert new == old is not None
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True):
        assert np.array_equal(a, b), name


def test_a_plan_by_a_recipe_and_by_its_parts() -> None:
    layout = train.Layout(jax.make_mesh((8,), ("data",)))
    new = plan(Recipe(MODEL, LOSS, ADAM, layout=layout, microbatch=2), (4,), 32)
    old = plan(MODEL, LOSS, ADAM, layout, (4,), 32, microbatch=2)  # pyright: ignore
    assert (new.memory, new.flops, new.collectives) == (old.memory, old.flops, old.collectives)
    with pytest.raises(ValueError, match="plan: the recipe has no `layout`"):
        plan(Recipe(MODEL, LOSS, ADAM), (4,), 32)


def test_the_signature_is_the_recipes() -> None:
    assert list(inspect.signature(train.make_step).parameters) == ["recipe", "guard"]
    assert len(inspect.signature(train.fit).parameters) <= 12
    assert list(inspect.signature(train.Norms).parameters)[:3] == ["recipe", "x", "target"]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (
            lambda: unchecked(models.mlp),
            TypeError,
            r"Recipe: `model` must be a Layer.*got function",
        ),
        (lambda: unchecked(MODEL, abs), TypeError, "Recipe: `loss` must be an Op"),
        (
            lambda: unchecked(MODEL, LOSS, 0.1),
            TypeError,
            r"`optimizer` must be an optax.*got float",
        ),
        (lambda: Recipe(MODEL, average=1.0), ValueError, r"Recipe: setting `average`.*\[0, 1\)"),
        (lambda: Recipe(MODEL, microbatch=0), ValueError, "Recipe: setting `microbatch`"),
        (lambda: train.make_step(Recipe(MODEL)), ValueError, "make_step: the recipe has no `loss`"),
        (lambda: train.make_step(Recipe(MODEL, LOSS)), ValueError, "has no `optimizer`"),
        (lambda: train.create(Recipe(MODEL), KEY, (4,)), ValueError, "create: .* no `optimizer`"),
        (lambda: train.make_norms(Recipe(MODEL)), ValueError, "make_norms: .* no `loss`"),
        (lambda: train.autopsy(Recipe(MODEL), {}, {}, X, LABELS), ValueError, "has no `loss`"),
        (
            lambda: train.make_step(FULL)(
                train.create(Recipe(MODEL, optimizer=ADAM), KEY, (4,)), X, LABELS, KEY
            ),
            ValueError,
            "average of the parameters: the recipe has one, the train state none; create it by",
        ),
        (
            lambda: train.make_step(Recipe(MODEL, LOSS, ADAM, prepare=scale))(
                train.create(
                    Recipe(MODEL, optimizer=ADAM, policy=train.Policy("f2", loss_scale="dynamic")),
                    KEY,
                    (4,),
                ),
                X,
                LABELS,
                KEY,
            ),
            ValueError,
            "dynamic loss scale: the recipe has none, the train state one",
        ),
    ],
)
def test_what_is_wrong_is_said_before_any_work(wrong: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        wrong()


def test_an_older_form_with_too_much_says_so() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        train.make_predict(MODEL, scale, ADAM)  # pyright: ignore
    with pytest.raises(TypeError, match="guards"):
        train.make_step(MODEL, LOSS, ADAM, guards=True)  # pyright: ignore
