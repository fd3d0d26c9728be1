"""One step of training, compiled: forward, hand-written backward, optimizer.

>>> import jax, jax.numpy as jnp, optax
>>> from jaxcnn import models, ops
>>> recipe = Recipe(models.mlp((8, 2)), ops.softmax_cross_entropy, optax.adam(0.1))
>>> x, labels = jnp.array([[0.0, 1.0], [1.0, 0.0]]), jnp.array([0, 1])
>>> train_state, step = create(recipe, jax.random.key(0), (2,)), make_step(recipe)
>>> for _ in range(20):
...     train_state, metrics = step(train_state, x, labels, jax.random.key(1))
>>> logits = make_predict(recipe)(train_state.params, train_state.state, x)
>>> int(train_state.step), logits.argmax(-1).tolist()
(20, [0, 1])
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from jaxcnn._core.keys import threefry
from jaxcnn._gradient import value_and_grad
from jaxcnn._io.memory import keep_freed
from jaxcnn.layers._layer import Params, State
from jaxcnn.precision import Scale
from jaxcnn.train._older import or_its_parts
from jaxcnn.train._recipe import Recipe, needs_loss, needs_optimizer

Metrics = dict[str, jax.Array]


class TrainState(NamedTuple):
    """All that a step changes: the model's parameters and state, the optimizer's state, how many
    steps were taken (int32), the moving average of the parameters, and the dynamic loss scale, None
    where there is none."""

    params: Params
    state: State
    opt_state: Any
    step: jax.Array
    average: Params | None = None
    scale: Scale | None = None


@runtime_checkable
class Step(jax.stages.Wrapped, Protocol):
    """What :func:`make_step` gives: a compiled function."""

    def __call__(
        self, train_state: TrainState, x: Any, target: Any, key: jax.Array
    ) -> tuple[TrainState, Metrics]: ...


@runtime_checkable
class Predict(jax.stages.Wrapped, Protocol):
    """What :func:`make_predict` gives: a compiled function."""

    def __call__(self, params: Params, state: State, x: Any) -> jax.Array: ...


@or_its_parts("model", "optimizer", "key", "input_shape")
def create(recipe: Recipe, key: jax.Array, input_shape: tuple[int, ...]) -> TrainState:
    """A fresh train state for inputs of ``input_shape`` (without the batch, as ``recipe.prepare``
    leaves them), made by one compiled program.

    It has what the recipe's steps need: the parameters in the policy's dtype, room for their moving
    average, a dynamic loss scale. It is on the devices of the layout.

    Raises:
        ValueError, TypeError: the model does not take inputs of that shape; notes on the error name
            the layer.
        ValueError: the recipe has no optimizer.
    """
    key, optimizer = threefry("create", key), needs_optimizer("create", recipe)
    policy, layout = recipe.policy, recipe.layout

    def init(key: jax.Array) -> TrainState:
        params, state = recipe.model.init(key, tuple(input_shape))
        params = params if policy is None else policy.to_params(params)
        scale = None if policy is None else policy.first_scale()
        kept = None if recipe.average is None else jax.tree.map(jnp.copy, params)
        return TrainState(
            params, state, optimizer.init(params), jnp.zeros((), jnp.int32), kept, scale
        )

    lies = None if layout is None else layout.shardings(jax.eval_shape(init, key))
    return jax.jit(init, out_shardings=lies)(key)


@or_its_parts("model", "loss", "optimizer", "prepare", "prepare_target")
def make_step(recipe: Recipe, *, guard: bool = False) -> Step:
    """A compiled
    ``step(train_state, x, target, key) -> (train_state, {"loss": mean over the batch})``.

    The buffers of the train state that is passed in are reused for the new one: take the returned
    state and drop the old. ``key`` may be the same at every step, as the number of the step is
    folded into it.

    Args:
        guard: a step whose loss or gradient is not finite changes nothing but its number; the
            metrics then have "finite", too. A dynamic loss scale guards in any case, is in the
            metrics as "scale", and calls a step finite that it mends by becoming smaller.

    Raises:
        ValueError: the recipe has no loss or no optimizer; or, when called, the batch is empty, or
            the train state comes from another recipe.
    """
    loss, optimizer = needs_loss("make_step", recipe), needs_optimizer("make_step", recipe)
    keep_freed()
    average, policy, layout = recipe.average, recipe.policy, recipe.layout
    differentiate: Any = value_and_grad(
        recipe.model, loss, microbatch=recipe.microbatch, policy=policy
    )
    part, keep = (
        (lambda tree: tree, lambda tree: tree) if layout is None else (layout.part, layout.keep)
    )
    if layout is not None:
        differentiate = layout.differentiate(differentiate)
    dynamic = policy is not None and policy.loss_scale == "dynamic"

    def step(
        train_state: TrainState, x: Any, target: Any, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        params, state, opt_state, number, mean, scale = train_state
        for what, wanted, there in (
            ("average of the parameters", average is not None, mean is not None),
            ("dynamic loss scale", dynamic, scale is not None),
        ):
            if wanted != there:
                raise ValueError(
                    f"step: {what}: the recipe has {'one' if wanted else 'none'}, the train state"
                    f" {'one' if there else 'none'}; create it by the same recipe"
                )
        if len(x) == 0:
            raise ValueError(
                f"step: a batch needs at least one example, got x of shape {tuple(x.shape)}"
            )
        x, target, key = recipe.inputs(part(x), part(target), key, number)
        by = {} if scale is None else {"scale": scale.value}
        (value, new_state), grads = differentiate(params, state, x, target, key, **by)
        updates, new_opt_state = optimizer.update(grads, opt_state, params)
        new_params: Any = optax.apply_updates(params, updates)
        new_mean: Any = (
            None
            if average is None or mean is None
            else optax.incremental_update(new_params, mean, 1 - average)
        )
        new = TrainState(new_params, new_state, new_opt_state, number + 1, new_mean, scale)
        if not guard and scale is None:
            return keep(new), {"loss": value}
        finite = _finite((value, grads))
        kept = jax.tree.map(
            lambda after, before: jnp.where(finite, after, before), new, train_state
        )
        kept = keep(kept._replace(step=number + 1))
        if scale is None:
            return kept, {"loss": value, "finite": finite}
        mended = jnp.isfinite(value) & (scale.value > 1)
        return kept._replace(scale=scale.after(finite)), {
            "loss": value,
            "finite": finite | mended,
            "scale": scale.value,
        }

    return jax.jit(step, donate_argnums=0)


@or_its_parts("model", "prepare")
def make_predict(recipe: Recipe) -> Predict:
    """A compiled ``predict(params, state, x) -> logits``, with dropout off and batch norm on its
    running statistics; ``x`` is what the data holds, before the recipe's ``prepare``."""
    model, prepare, policy, layout = recipe.model, recipe.prepare, recipe.policy, recipe.layout

    def predict(params: Params, state: State, x: Any) -> jax.Array:
        x = x if prepare is None else prepare(x)
        if policy is None:
            return model.forward(params, state, x, train=False)[0][0]
        (logits, _), _ = model.forward(
            policy.to_compute(params), state, policy.to_compute(x), train=False
        )
        return policy.to_output(logits)

    return jax.jit(predict if layout is None else layout.predict(predict))


def _finite(tree: Any) -> jax.Array:
    """Whether there is no NaN and no infinity in any array."""
    # The largest tells of all, in a third of the time that asking each takes
    return jnp.isfinite(
        jnp.stack([jnp.abs(leaf).max(initial=0) for leaf in jax.tree.leaves(tree)])
    ).all()
