"""Many steps of training in one program: the data stay on the device, and shuffling happens there.

>>> import jax, jax.numpy as jnp, optax
>>> from jaxcnn import models, ops
>>> from jaxcnn.train._step import create
>>> recipe = Recipe(models.mlp((8, 2)), ops.softmax_cross_entropy, optax.adam(0.1))
>>> x, labels = jnp.array([[0.0, 1.0], [1.0, 0.0]] * 10), jnp.array([0, 1] * 10)
>>> train_state, epoch = create(recipe, jax.random.key(0), (2,)), make_epoch(recipe, batch_size=4)
>>> train_state, metrics = epoch(train_state, x, labels, jax.random.key(1))
>>> int(train_state.step), metrics["loss"].shape
(5, (5,))
"""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn._core.errors import check_counts, setting_error
from jaxcnn._core.keys import threefry
from jaxcnn.train._recipe import Recipe
from jaxcnn.train._step import Metrics, TrainState, make_step


@runtime_checkable
class Steps(jax.stages.Wrapped, Protocol):
    """What :func:`make_steps` gives: a compiled function."""

    def __call__(
        self, train_state: Any, x: Any, target: Any, rows: Any, key: jax.Array, count: Any = None
    ) -> tuple[Any, Metrics]: ...


@runtime_checkable
class Epoch(jax.stages.Wrapped, Protocol):
    """What :func:`make_epoch` gives: a compiled function."""

    def __call__(
        self, train_state: TrainState, x: Any, target: Any, key: jax.Array
    ) -> tuple[TrainState, Metrics]: ...


def make_steps(recipe: Recipe | jax.stages.Wrapped) -> Steps:
    """A compiled
    ``steps(train_state, x, target, rows, key, count=None) -> (train_state, {"loss": (steps,)})``:
    the step of the recipe, or one that :func:`jaxcnn.train.make_step` made, for each row of
    ``rows``.

    ``x`` and ``target`` hold all examples, and ``rows`` (steps, batch) says which of them make up
    each batch, so that a part of an epoch can be run between two looks at a progress bar. A step
    may hand on something else than a train state, as :mod:`jaxcnn.train._halt` does. Only the first
    ``count`` rows are taken, if that is given; it may differ from call to call without compiling
    anew. The metrics of the others are 0."""
    step = make_step(recipe) if isinstance(recipe, Recipe) else recipe

    def steps(
        train_state: Any, x: Any, target: Any, rows: jax.Array, key: jax.Array, count: Any = None
    ) -> tuple[Any, Metrics]:
        def one(at: Any, batch: jax.Array) -> tuple[Any, Metrics]:
            return step(at, x[batch], target[batch], key)

        if count is None:
            return lax.scan(one, train_state, rows)

        def advance(number: Any, at: tuple[Any, Metrics]) -> tuple[Any, Metrics]:
            train_state, metrics = one(at[0], rows[number])
            return train_state, {
                name: at[1][name].at[number].set(value) for name, value in metrics.items()
            }

        _, metrics = jax.eval_shape(one, train_state, rows[0])
        nothing = {
            name: jnp.zeros((len(rows), *value.shape), value.dtype)
            for name, value in metrics.items()
        }
        return lax.fori_loop(0, count, advance, (train_state, nothing))

    return jax.jit(steps, donate_argnums=0)


def make_epoch(recipe: Recipe | jax.stages.Wrapped, batch_size: int) -> Epoch:
    """A compiled ``epoch(train_state, x, target, key) -> (train_state, {"loss": (steps,)})`` over
    all of ``x``, in an order drawn from ``key`` and the step's number; of a recipe, or of a step.

    The examples that do not fill a last batch are left out; they are others every time.

    Raises:
        ValueError: for a ``batch_size`` that is no integer ≥ 1, or (when called) more than the
            examples.
    """
    check_counts("make_epoch", batch_size=batch_size)
    steps = make_steps(recipe)

    def epoch(
        train_state: TrainState, x: Any, target: Any, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        order, inside = jax.random.split(
            jax.random.fold_in(threefry("epoch", key), train_state.step)
        )
        return steps(train_state, x, target, shuffled(order, len(x), batch_size), inside)

    return jax.jit(epoch, donate_argnums=0)


def shuffled(key: jax.Array, examples: int, batch_size: int) -> jax.Array:
    """Rows (steps, batch_size) of different numbers below ``examples``, in random order: an epoch
    without the examples that do not fill a batch.

    >>> import jax
    >>> shuffled(jax.random.key(0), 7, 3).shape
    (2, 3)
    """
    count = examples // batch_size
    if count == 0:
        raise setting_error(
            "shuffled", "batch_size", f"at most the number of examples, {examples}", batch_size
        )
    return jax.random.permutation(threefry("shuffled", key), examples)[
        : count * batch_size
    ].reshape(count, batch_size)
