"""Stacked recurrent layers on sequences: the networks, the adding task, and a compiled run of steps
with a look at δ through time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxcnn import deltas, layers, value_and_grad
from jaxcnn._core.op import Op
from jaxcnn._gradient import losses_and_delta
from jaxcnn.layers import Layer, Serial

CLIP = 1.0


def reader(classes: int) -> Serial:
    """Two recurrent layers over the rows of an image, scores from the last state."""
    return layers.serial(
        rnn1=layers.rnn(128), rnn2=layers.rnn(128), last=layers.last(), scores=layers.dense(classes)
    )


def adder() -> Serial:
    """Two recurrent layers over pairs (number, marked or not), the sum from the last state. ReLUs
    that start by carrying their state on unchanged (Le, Jaitly and Hinton 2015)."""

    def keep(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
        return jnp.eye(shape[0])

    rnn1, rnn2 = (layers.rnn(64, activation="relu", recurrent_init=keep) for _ in range(2))
    return layers.serial(rnn1=rnn1, rnn2=rnn2, last=layers.last(), out=layers.dense(1))


def draw_sums(key: jax.Array, count: int, length: int) -> tuple[jax.Array, jax.Array]:
    """Sequences (count, length, 2) of numbers in [0, 1], of which one in each half is marked; the
    sum of the two marked ones (count, 1). The mean square error of always guessing 1 is 1/6."""
    key_n, key_a, key_b = jax.random.split(key, 3)
    numbers, half = jax.random.uniform(key_n, (count, length)), length // 2
    first = jax.random.randint(key_a, (count,), 0, half)
    second = jax.random.randint(key_b, (count,), half, length)
    steps = jnp.arange(length)[None]
    marks = (steps == first[:, None]) | (steps == second[:, None])
    return jnp.stack([numbers, marks], -1).astype(jnp.float32), (numbers * marks).sum(
        1, keepdims=True
    )


def through_time(
    model: Layer, loss: Op, params: Any, x: jax.Array, target: jax.Array
) -> dict[str, jax.Array]:
    """‖∂loss/∂h[t]‖ at the output of each recurrent layer but the last, step by step: (t,). The
    layer above carries the error back through time, and hands it down at every step."""
    (y, _), residuals = model.forward(params, {}, x)
    _, dy = losses_and_delta(loss, y, target)
    found = deltas(model, residuals, dy)
    found["input"] = model.backward(residuals, dy)[1]
    return {
        name: jnp.sqrt(jnp.square(d).sum((0, 2)))
        for name, d in found.items()
        if d.ndim == 3 and name != "rnn2"
    }


def optimizer(rate: float, steps: int, *, clip: bool) -> optax.GradientTransformation:
    """Adam with a cosine schedule; gradients longer than CLIP are shortened to it, if asked."""
    adam = optax.adam(optax.cosine_decay_schedule(rate, steps))
    return optax.chain(optax.clip_by_global_norm(CLIP), adam) if clip else adam


def trainer(
    model: Layer,
    loss: Op,
    update: optax.GradientTransformation,
    batch: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
) -> Any:
    """A compiled ``run((params, opt_state), keys) -> (…, losses, norms)``: a step for each key, on
    the batch that ``batch(key)`` draws; norms are those of the whole gradient."""
    differentiate = value_and_grad(model, loss)

    def step(at: Any, key: jax.Array) -> tuple[Any, Any]:
        params, opt_state = at
        (value, _), grads = differentiate(params, {}, *batch(key))
        updates, opt_state = update.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), (value, optax.tree.norm(grads))

    return jax.jit(lambda at, keys: lax.scan(step, at, keys))
