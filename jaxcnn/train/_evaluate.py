"""How good a model is on examples that it was not trained on: the mean of any measures, in batches
of one size.

>>> import jax, jax.numpy as jnp
>>> from jaxcnn import models, ops
>>> model = models.mlp((8, 2))
>>> params, state = model.init(jax.random.key(0), (2,))
>>> measures = {"accuracy": accuracy, "loss": ops.softmax_cross_entropy}
>>> evaluate = make_evaluate(model, measures, batch_size=4)
>>> scores = evaluate(params, state, jnp.ones((6, 2)), jnp.zeros(6, int))
>>> {name: type(score).__name__ for name, score in scores.items()}
{'accuracy': 'float', 'loss': 'float'}
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn._core.errors import check_counts
from jaxcnn._core.upcast import upcast
from jaxcnn.layers._layer import Layer, Params, State
from jaxcnn.precision import Policy
from jaxcnn.train._layout import Layout
from jaxcnn.train._step import make_predict

Measure = Callable[[Any, Any], jax.Array]
Evaluate = Callable[[Params, State, Any, Any], dict[str, float]]


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1 for each example whose largest logit (the first of equals) is its label's, 0 for the
    others, NaN where a logit is NaN: (n,).

    >>> import jax.numpy as jnp
    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1])).tolist()
    [1.0, 0.0]
    """
    right = upcast((logits.argmax(-1) == labels).astype(logits.dtype))
    return jnp.where(jnp.isnan(logits).any(-1), jnp.nan, right)


def make_evaluate(
    model: Layer,
    measures: Mapping[str, Measure],
    prepare: Callable[[jax.Array], jax.Array] | None = None,
    *,
    batch_size: int = 500,
    policy: Policy | None = None,
    layout: Layout | None = None,
) -> Evaluate:
    """``evaluate(params, state, x, target) -> {name: mean over all examples}``, with dropout off
    and batch norm on its running statistics.

    A measure takes (output, target) of a batch and gives one number an example; a loss of ``ops``
    is one. The last batch is filled up with copies that do not count, so that one program serves
    for all. With a ``layout`` the batches are cut up; every process has all examples, and gets all
    results.

    Raises:
        ValueError: ``batch_size`` is no integer ≥ 1; or, when called, ``x`` and ``target`` differ
            in length, or are empty.
    """
    check_counts("make_evaluate", batch_size=batch_size)
    predict = make_predict(model, prepare, policy=policy, layout=layout)
    devices = 1 if layout is None else layout.devices

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
