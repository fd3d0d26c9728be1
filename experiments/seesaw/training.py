"""Three networks on four patterns: thousands of them at once, by ``vmap``, until all have arrived
or time is up."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType

from jaxcnn import layers, models, ops, value_and_grad
from jaxcnn._core.op import Op
from jaxcnn.layers import Layer

PATTERNS = jnp.array(
    [[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1]], jnp.float32
)[:, :, None]
SIDES = jnp.array([0, 0, 1, 1])
LOOK = 1000  # epochs after which the document gives an error
ARRIVED = 0.005  # Σ (output − target)² over the four patterns


def _mlp(**output: Layer) -> Layer:
    hidden = {"hidden": layers.dense(2, bias=False), "sigmoid": layers.activation("sigmoid")}
    return layers.serial(
        flatten=layers.flatten(), **hidden, scores=layers.dense(2, bias=False), **output
    )


WEIGHTS = 14  # of the largest of the three
# Name → the network, its loss, and what makes outputs of its last layer
NETWORKS: dict[str, tuple[Layer, Op, Op | None]] = {
    "MLP, sigmoid": (_mlp(out=layers.activation("sigmoid")), ops.squared_error, None),
    "MLP, softmax": (_mlp(), ops.softmax_cross_entropy, ops.softmax),
    "CNN, softmax": (models.seesaw_cnn(), ops.softmax_cross_entropy, ops.softmax),
}


def epochs_until(
    name: str, cap: int, settings: jax.Array, noise: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """After how many epochs each network's error is below ARRIVED, ``cap`` + 1 where it never is;
    and its error after LOOK epochs, NaN where all arrived before: (starts,) each.

    ``settings``: learning rate, weight decay, scale. ``noise`` (starts, n): the first weights at
    scale 1, as many as are needed of each row."""
    model, loss, output = NETWORKS[name]
    rate, decay, scale = settings
    targets = jax.nn.one_hot(SIDES, 2) if output is None else SIDES
    differentiate = value_and_grad(model, loss)

    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), (5, 1))[0])
    zeros, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes))

    def error(params: Any) -> jax.Array:
        (y, _), _ = model.forward(params, {}, PATTERNS)
        y = y if output is None else output(y)
        return ops.squared_error(y, jax.nn.one_hot(SIDES, 2)).sum()

    def epoch(params: Any) -> Any:
        """w ← w − α (∂L_i/∂w + λ w), pattern by pattern."""

        def step(params: Any, pattern: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
            x, t = pattern
            _, grads = differentiate(params, {}, x[None], t[None])
            return jax.tree.map(lambda w, d: w - rate * (d + decay * w), params, grads), None

        return lax.scan(step, params, (PATTERNS, targets))[0]

    def going(at: Any) -> jax.Array:
        number, _, arrived, _ = at
        return (number < cap) & jnp.any(arrived > cap)

    def advance(at: Any) -> Any:
        number, params, arrived, seen = at
        params = jax.vmap(epoch)(params)
        errors = jax.vmap(error)(params)
        there = (errors < ARRIVED) & (arrived > cap)
        seen = jnp.where(number + 1 == LOOK, errors, seen)
        return number + 1, params, jnp.where(there, number + 1, arrived), seen

    params = jax.vmap(unravel)(scale * noise[:, : zeros.size])
    never, unseen = jnp.full_like(noise[:, 0], cap + 1, int), jnp.full_like(noise[:, 0], jnp.nan)
    return lax.while_loop(going, advance, (0, params, never, unseen))[2:]


def program(
    starts: int, cap: int
) -> Callable[[jax.Array, jax.Array], dict[str, tuple[jax.Array, jax.Array]]]:
    """A compiled ``(settings, noise) -> epochs and errors of each network``, all three in one
    program; ``noise`` (networks, starts, n). Each device trains its share of the starts."""
    devices = math.gcd(starts, jax.device_count())
    mesh = jax.make_mesh(
        (devices,), ("starts",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )

    def all_three(settings: jax.Array, noise: jax.Array) -> dict[str, tuple[jax.Array, jax.Array]]:
        return {
            name: epochs_until(name, cap, settings, own)
            for name, own in zip(NETWORKS, noise, strict=True)
        }

    cut = jax.P(None, "starts")
    return jax.jit(
        jax.shard_map(all_three, mesh=mesh, in_specs=(jax.P(), cut), out_specs=jax.P("starts"))
    )
