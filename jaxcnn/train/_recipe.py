"""What is learned and how: all that the step, its evaluation and its pictures must agree about.

>>> import jax, jax.numpy as jnp, optax
>>> from jaxcnn import models, ops
>>> recipe = Recipe(
...     models.mlp((8, 2)), ops.softmax_cross_entropy, optax.adam(0.1),
...     prepare=lambda x: x / 255, prepare_target=lambda labels: jax.nn.one_hot(labels, 2),
... )
>>> x, target = recipe.prepared(jnp.full((1, 4), 255), jnp.array([1]))
>>> x.tolist(), target.tolist()
([[1.0, 1.0, 1.0, 1.0]], [[0.0, 1.0]])
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import optax

from jaxcnn._core.errors import check_counts, setting_error
from jaxcnn._core.keys import threefry
from jaxcnn._core.op import Op
from jaxcnn._gradient import check_loss
from jaxcnn.layers._layer import Layer
from jaxcnn.precision import Policy
from jaxcnn.train._layout import Layout
from jaxcnn.train._measures import Measure, accuracy

Prepare: TypeAlias = Callable[[jax.Array], jax.Array]
Augment: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
AUGMENT = 2**31  # folded into the key; no model has this many layers


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
    """The model and what trains it. ``make_predict`` and ``make_evaluate`` need the ``model``
    alone, ``autopsy`` and ``make_norms`` a ``loss``, all that trains an ``optimizer`` as well.

    Attributes:
        loss: an op of (output, target) with one value an example, such as
            ``ops.softmax_cross_entropy``.
        optimizer: any optax transformation; parameters that it masks or sets to zero stay as they
            are.
        prepare: turns what the data holds (say uint8) into the model's input, inside the compiled
            program.
        prepare_target: turns the data's labels into the loss's target (say smoothed rows).
            Measures see the labels as they are.
        augment: ``augment(key, x)`` draws the prepared images of a training step anew, such as
            :func:`jaxcnn.data.augment.warp`.
        microbatch: how many examples at a time; their gradients are summed (gradient
            accumulation): see :func:`jaxcnn.value_and_grad`. With a ``layout`` it is of each
            device's part of the batch.
        average: after every step, the train state's ``average`` ← average · itself +
            (1 − average) · parameters.
        policy: in which precision, and with which loss scale: see :class:`jaxcnn.precision.Policy`.
        layout: on which devices: see :class:`jaxcnn.train.Layout`.
        measures: what an evaluation gives, by name: functions of (output, target) with one number
            an example.

    Raises:
        TypeError: ``model`` is no layer, ``loss`` no op, ``optimizer`` no optax transformation.
        ValueError: ``average`` is not in [0, 1), or ``microbatch`` no integer ≥ 1.
    """

    model: Layer
    loss: Op | None = None
    optimizer: optax.GradientTransformation | None = None
    _: dataclasses.KW_ONLY
    prepare: Prepare | None = None
    prepare_target: Prepare | None = None
    augment: Augment | None = None
    microbatch: int | None = None
    average: float | None = None
    policy: Policy | None = None
    layout: Layout | None = None
    measures: Mapping[str, Measure] = dataclasses.field(
        default_factory=lambda: {"accuracy": accuracy}
    )

    def __post_init__(self) -> None:
        if not isinstance(self.model, Layer):
            raise TypeError(
                "Recipe: `model` must be a Layer, such as models.lenet(); got"
                f" {type(self.model).__name__}"
            )
        if self.loss is not None:
            check_loss("Recipe", self.loss)
        # not isinstance: a wrapper such as optax.inject_hyperparams need not derive from it
        if self.optimizer is not None and not hasattr(self.optimizer, "update"):
            raise TypeError(
                "Recipe: `optimizer` must be an optax transformation, such as optax.adam(1e-3); got"
                f" {type(self.optimizer).__name__}"
            )
        if self.average is not None and not 0 <= self.average < 1:
            raise setting_error("Recipe", "average", "None or a number in [0, 1)", self.average)
        if self.microbatch is not None:
            check_counts("Recipe", microbatch=self.microbatch)

    def prepared(self, x: Any, target: Any) -> tuple[Any, Any]:
        """What the model and the loss get, without augmentation."""
        return (
            x if self.prepare is None else self.prepare(x),
            target if self.prepare_target is None else self.prepare_target(target),
        )

    def inputs(self, x: Any, target: Any, key: jax.Array, step: Any) -> tuple[Any, Any, jax.Array]:
        """What the model, the loss and dropout get in the step of that number: (x, target, key)."""
        x, target = self.prepared(x, target)
        key = jax.random.fold_in(threefry("step", key), step)
        if self.augment is not None:
            x = self.augment(jax.random.fold_in(key, AUGMENT), x)
        return x, target, key


def needs_loss(function: str, recipe: Recipe) -> Op:
    """The recipe's loss. Raises ValueError where it has none."""
    if recipe.loss is None:
        raise ValueError(f"{function}: the recipe has no `loss`; give Recipe(model, loss)")
    return recipe.loss


def needs_optimizer(function: str, recipe: Recipe) -> optax.GradientTransformation:
    """The recipe's optimizer. Raises ValueError where it has none."""
    if recipe.optimizer is None:
        raise ValueError(
            f"{function}: the recipe has no `optimizer`; give Recipe(model, loss, optimizer)"
        )
    return recipe.optimizer
