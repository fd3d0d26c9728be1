"""How good a model is on examples that it was not trained on: the mean of any measures, in batches
of one size.

>>> import jax, jax.numpy as jnp
>>> from jaxcnn import models, ops, train
>>> measures = {"accuracy": train.accuracy, "loss": ops.softmax_cross_entropy}
>>> recipe = Recipe(models.mlp((8, 2)), measures=measures)
>>> params, state = recipe.model.init(jax.random.key(0), (2,))
>>> evaluate = make_evaluate(recipe, batch_size=4)
>>> scores = evaluate(params, state, jnp.ones((6, 2)), jnp.zeros(6, int))
>>> {name: type(score).__name__ for name, score in scores.items()}
{'accuracy': 'float', 'loss': 'float'}
"""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn._core.compiler import guarded
from jaxcnn._core.errors import check_counts
from jaxcnn._core.upcast import upcast
from jaxcnn.layers._layer import Params, State
from jaxcnn.train._older import or_its_parts
from jaxcnn.train._recipe import Recipe
from jaxcnn.train._step import make_predict


@runtime_checkable
class Evaluate(Protocol):
    """What :func:`make_evaluate` gives."""

    def __call__(self, params: Params, state: State, x: Any, target: Any) -> dict[str, float]: ...


@or_its_parts("model", "measures", "prepare")
def make_evaluate(recipe: Recipe, *, batch_size: int = 500) -> Evaluate:
    """``evaluate(params, state, x, target) -> {name: mean over all examples}`` of each of the
    recipe's ``measures``, with dropout off and batch norm on its running statistics.

    The last batch is filled up with copies that do not count, so that one program serves for all.
    With a ``layout`` the batches are cut up; every process has all examples, and gets all results.

    Raises:
        ValueError: ``batch_size`` is no integer ≥ 1; or, when called, ``x`` and ``target`` differ
            in length, or are empty.
    """
    check_counts("make_evaluate", batch_size=batch_size)
    predict, measures = make_predict(recipe), recipe.measures
    devices = 1 if recipe.layout is None else recipe.layout.devices

    @guarded
    @jax.jit
    def sums(
        params: Params, state: State, x: Any, target: Any, count: jax.Array
    ) -> dict[str, jax.Array]:
        y, counts = predict(params, state, x), jnp.arange(len(x)) < count
        return {
            name: jnp.where(counts, upcast(measure(y, target)), 0).sum()
            for name, measure in measures.items()
        }

    def evaluate(params: Params, state: State, x: Any, target: Any) -> dict[str, float]:
        if len(x) != len(target) or len(x) == 0:
            raise ValueError(
                f"evaluate: x and target must be as many, and at least one; got {len(x)} and"
                f" {len(target)}"
            )
        size, totals = (
            devices * -(-min(batch_size, len(x)) // devices),
            dict.fromkeys(measures, 0.0),
        )
        for at in range(0, len(x), size):
            rows = np.minimum(np.arange(at, at + size), len(x) - 1)
            count = min(size, len(x) - at)
            for name, value in sums(
                params, state, x[rows], target[rows], jnp.asarray(count)
            ).items():
                totals[name] += float(value)
        return {name: total / len(x) for name, total in totals.items()}

    return evaluate
