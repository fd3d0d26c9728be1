"""One step of training, compiled: forward, hand-written backward, optimizer.

>>> import jax, jax.numpy as jnp, optax
>>> from jaxcnn import models, ops
>>> model, optimizer = models.mlp((8, 2)), optax.adam(0.1)
>>> x, labels = jnp.array([[0.0, 1.0], [1.0, 0.0]]), jnp.array([0, 1])
>>> train_state = create(model, optimizer, jax.random.key(0), (2,))
>>> step = make_step(model, ops.softmax_cross_entropy, optimizer)
>>> for _ in range(20):
...     train_state, metrics = step(train_state, x, labels, jax.random.key(1))
>>> logits = make_predict(model)(train_state.params, train_state.state, x)
>>> int(train_state.step), logits.argmax(-1).tolist()
(20, [0, 1])
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcnn._core.errors import setting_error
from jaxcnn._core.keys import threefry
from jaxcnn._core.op import Op
from jaxcnn._gradient import value_and_grad
from jaxcnn._io.memory import keep_freed
from jaxcnn.layers._layer import Layer, Params, State
from jaxcnn.precision import Policy, Scale
from jaxcnn.train._layout import Layout

Prepare = Callable[[jax.Array], jax.Array]
Augment = Callable[[jax.Array, jax.Array], jax.Array]
Metrics = dict[str, jax.Array]
AUGMENT = 2**31  # folded into the key; no model has so many layers


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


def create(
    model: Layer,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    input_shape: tuple[int, ...],
    *,
    average: bool = False,
    policy: Policy | None = None,
    layout: Layout | None = None,
) -> TrainState:
    """A fresh train state for inputs of ``input_shape`` (without the batch), made by one compiled
    program; with ``average`` it has room for the parameters' moving average. A ``policy`` says the
    parameters' dtype, and whether there is a dynamic loss scale; a ``layout`` on which devices it
    lies.

    Raises:
        ValueError, TypeError: ``model`` does not take inputs of that shape; notes on the error name
            the layer.
    """

    key = threefry("create", key)

    def init(key: jax.Array) -> TrainState:
        params, state = model.init(key, tuple(input_shape))
        params = params if policy is None else policy.to_params(params)
        scale = None if policy is None else policy.first_scale()
        kept = jax.tree.map(jnp.copy, params) if average else None
        return TrainState(
            params, state, optimizer.init(params), jnp.zeros((), jnp.int32), kept, scale
        )

    lies = None if layout is None else layout.shardings(jax.eval_shape(init, key))
    return jax.jit(init, out_shardings=lies)(key)


def make_step(
    model: Layer,
    loss: Op,
    optimizer: optax.GradientTransformation,
    prepare: Prepare | None = None,
    prepare_target: Prepare | None = None,
    *,
    augment: Augment | None = None,
    microbatch: int | None = None,
    average: float | None = None,
    guard: bool = False,
    policy: Policy | None = None,
    layout: Layout | None = None,
) -> jax.stages.Wrapped:
    """A compiled
    ``step(train_state, x, target, key) -> (train_state, {"loss": mean over the batch})``.

    The buffers of the train state that is passed in are reused for the new one: take the returned
    state and drop the old. ``key`` may be the same at every step, as the number of the step is
    folded into it. ``prepare`` turns what the data holds (say uint8) into the model's input, and
    ``prepare_target`` its labels into the loss's target (say smoothed rows), inside the compiled
    program.

    Args:
        loss: an op of (output, target) with one value an example, such as
            ``ops.softmax_cross_entropy``.
        optimizer: any optax transformation; parameters that it masks or sets to zero stay as they
            are.
        augment: ``augment(key, x)`` draws the prepared images anew in every step, such as
            :func:`jaxcnn.data.augment.warp`.
        microbatch: so many examples at a time, their gradients summed (gradient accumulation): see
            :func:`jaxcnn.value_and_grad`.
        average: the train state's ``average`` ← average · itself + (1 − average) · parameters,
            after every step.
        guard: a step whose loss or gradient is not finite changes nothing but its number; the
            metrics then have "finite", too. A dynamic loss scale guards in any case, is in the
            metrics as "scale", and calls a step finite that it mends by becoming smaller.
        policy: in which precision, and with which loss scale: see :class:`jaxcnn.precision.Policy`.
        layout: on which devices: see :class:`jaxcnn.train.Layout`. A ``microbatch`` is then of each
            device's part of the batch.

    Raises:
        ValueError: ``average`` is not in [0, 1), or, when called, the batch is empty, or the train
            state was created without room for what the step needs.
    """
    if average is not None and not 0 <= average < 1:
        raise setting_error("make_step", "average", "None or a number in [0, 1)", average)
    keep_freed()
    inputs = make_inputs(prepare, prepare_target, augment)
    differentiate = value_and_grad(model, loss, microbatch=microbatch, policy=policy)
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
        if (average is None) != (mean is None):
            raise ValueError(
                "step: make_step and create must agree about `average`: "
                f"make_step has {average}, the train state has {'none' if mean is None else 'one'}"
            )
        if dynamic != (scale is not None):
            raise ValueError(
                "step: make_step and create must agree about the policy's dynamic loss scale"
            )
        if len(x) == 0:
            raise ValueError(
                f"step: a batch needs at least one example, got x of shape {tuple(x.shape)}"
            )
        x, target, key = inputs(part(x), part(target), key, number)
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


def make_inputs(
    prepare: Prepare | None = None,
    prepare_target: Prepare | None = None,
    augment: Augment | None = None,
) -> Callable[[Any, Any, jax.Array, Any], tuple[Any, Any, jax.Array]]:
    """``inputs(x, target, key, number) -> (x, target, key)``: what the model, the loss and dropout
    get in the step of that number."""

    def inputs(x: Any, target: Any, key: jax.Array, number: Any) -> tuple[Any, Any, jax.Array]:
        x = x if prepare is None else prepare(x)
        target = target if prepare_target is None else prepare_target(target)
        key = jax.random.fold_in(threefry("step", key), number)
        return (x if augment is None else augment(jax.random.fold_in(key, AUGMENT), x)), target, key

    return inputs


def _finite(tree: Any) -> jax.Array:
    """Whether there is no NaN and no infinity in any array."""
    # The largest tells of all, in a third of the time that asking each takes
    return jnp.isfinite(
        jnp.stack([jnp.abs(leaf).max(initial=0) for leaf in jax.tree.leaves(tree)])
    ).all()


def make_predict(
    model: Layer,
    prepare: Prepare | None = None,
    *,
    policy: Policy | None = None,
    layout: Layout | None = None,
) -> jax.stages.Wrapped:
    """A compiled ``predict(params, state, x) -> logits``, with dropout off and batch norm on its
    running statistics."""

    def predict(params: Params, state: State, x: Any) -> jax.Array:
        x = x if prepare is None else prepare(x)
        if policy is None:
            return model.forward(params, state, x, train=False)[0][0]
        (logits, _), _ = model.forward(
            policy.to_compute(params), state, policy.to_compute(x), train=False
        )
        return policy.to_output(logits)

    return jax.jit(predict if layout is None else layout.predict(predict))
