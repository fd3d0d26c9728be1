"""Three networks on four patterns: thousands of them at once, by ``vmap``, until all have arrived or time is up."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn import layers, models, ops, value_and_grad
from jaxcnn.layers import Layer
from jaxcnn.op import Op

PATTERNS = jnp.array([[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1]], jnp.float32)[:, :, None]
SIDES = jnp.array([0, 0, 1, 1])
ARRIVED = 0.005  # Σ (output − target)² over the four patterns


def _mlp(**output: Layer) -> Layer:
    hidden = {"hidden": layers.dense(2, bias=False), "sigmoid": layers.activation("sigmoid")}
    return layers.serial(flatten=layers.flatten(), **hidden, scores=layers.dense(2, bias=False), **output)


# Name → the network, its loss, and what makes outputs of its last layer
NETWORKS: dict[str, tuple[Layer, Op, Op | None]] = {
    "MLP, sigmoid": (_mlp(out=layers.activation("sigmoid")), ops.squared_error.using(scale=0.5), None),
    "MLP, softmax": (_mlp(), ops.softmax_cross_entropy, ops.softmax),
    "CNN, softmax": (models.seesaw_cnn(), ops.softmax_cross_entropy, ops.softmax),
}


def epochs_until(name: str, starts: int, cap: int, settings: jax.Array, key: jax.Array) -> jax.Array:
    """After how many epochs each network's error is below ARRIVED, ``cap`` + 1 where it never is: (starts,). ``settings``: learning rate, weight decay, scale."""
    model, loss, output = NETWORKS[name]
    rate, decay, scale = settings
    targets = jax.nn.one_hot(SIDES, 2) if output is None else SIDES
    differentiate = value_and_grad(model, loss)

    def start(key: jax.Array) -> Any:
        params, _ = model.init(key, (5, 1))
        leaves, tree = jax.tree.flatten(params)
        keys = jax.random.split(key, len(leaves))
        return tree.unflatten([scale * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)])

    def error(params: Any) -> jax.Array:
        (y, _), _ = model.forward(params, {}, PATTERNS)
        y = y if output is None else output(y)
        return ops.squared_error(y, jax.nn.one_hot(SIDES, 2)).sum()

    def epoch(params: Any) -> Any:
        """w ← w − α (∂L_i/∂w + λ w), pattern by pattern."""
        for x, t in zip(PATTERNS, targets, strict=True):
            _, grads = differentiate(params, {}, x[None], t[None])
            params = jax.tree.map(lambda w, d: w - rate * (d + decay * w), params, grads)
        return params

    def going(at: Any) -> jax.Array:
        number, _, arrived = at
        return (number < cap) & jnp.any(arrived > cap)

    def advance(at: Any) -> Any:
        number, params, arrived = at
        params = jax.vmap(epoch)(params)
        there = (jax.vmap(error)(params) < ARRIVED) & (arrived > cap)
        return number + 1, params, jnp.where(there, number + 1, arrived)

    params = jax.vmap(start)(jax.random.split(key, starts))
    return lax.while_loop(going, advance, (0, params, jnp.full(starts, cap + 1)))[2]


def all_epochs_until(starts: int, cap: int, settings: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    """The three networks in one program."""
    keys = jax.random.split(key, len(NETWORKS))
    return {name: epochs_until(name, starts, cap, settings, k) for name, k in zip(NETWORKS, keys, strict=True)}
