"""One deep network: its δ by layer, its silent units and its accuracy, before and after training. The scales are trained side by side by ``vmap``."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.nn import initializers

from jaxcnn import activations, deltas, layers, ops, value_and_grad
from jaxcnn.layers import Serial

WIDTH = 64
BATCH = 100
OPTIMIZER = optax.adam(1e-3)
LOSS = ops.softmax_cross_entropy


class Measured(NamedTuple):
    """Each with a leading axis for the scales. ``norms``, ``silent``, ``silent_deltas``: (scale, depth), from the first layer up; ``correct``: of the test images."""

    norms: jax.Array
    silent: jax.Array
    silent_deltas: jax.Array
    correct: jax.Array


def network(activation: str, depth: int) -> Serial:
    """``depth`` hidden layers, all alike but for the first, whose input is the image."""
    block = layers.serial(dense=layers.dense(WIDTH), act=layers.activation(activation))
    deeper = {"rest": layers.repeat(block, depth - 1)} if depth > 1 else {}
    return layers.serial(flatten=layers.flatten(), first=block, **deeper, scores=layers.dense(10))


def start(model: Serial, key: jax.Array, scale: jax.Array) -> Any:
    """Normal weights with standard deviation scale/√(inputs), biases 0; the scores always start at scale 1."""
    params, _ = model.init(key, (28, 28, 1))
    leaves, tree = jax.tree.flatten_with_path(params)
    keys = jax.random.split(key, len(leaves))

    def draw(path: Any, key: jax.Array, leaf: jax.Array) -> jax.Array:
        if path[-1].key == "bias":
            return jnp.zeros_like(leaf)
        size = 1.0 if path[0].key == "scores" else scale
        return size * initializers.variance_scaling(1.0, "fan_in", "normal", batch_axis=range(leaf.ndim - 2))(
            key, leaf.shape
        )

    return tree.unflatten([draw(path, k, leaf) for k, (path, leaf) in zip(keys, leaves, strict=True)])


@dataclasses.dataclass(frozen=True)
class Data:
    """Images as floats in rows, and labels."""

    train: tuple[jax.Array, jax.Array]
    test: tuple[jax.Array, jax.Array]


def measure(model: Serial, depth: int, params: Any, data: Data) -> Measured:
    """On the first images of the training set."""
    x, labels = (part[: 2 * BATCH] for part in data.train)
    (scores, _), residuals = model.forward(params, {}, x)
    losses, saved = LOSS.run(scores, labels)
    dy, _ = LOSS.pull(saved, jnp.full_like(losses, 1 / len(losses)))
    found, outputs = deltas(model, residuals, dy), activations(model, params, {}, x)
    names = ["first", *(f"rest/{number}" for number in range(depth - 1))]
    d = jnp.stack([found[f"{name}/dense"] for name in names])  # ∂loss/∂(what goes into the activation)
    y = jnp.stack([outputs[f"{name}/act"] for name in names])
    (test_scores, _), _ = model.forward(params, {}, data.test[0])
    correct = (test_scores.argmax(-1) == data.test[1]).mean()
    return Measured(jnp.sqrt(jnp.square(d).sum((1, 2))), (y == 0).mean((1, 2)), (d == 0).mean((1, 2)), correct)


def before_and_after(
    activation: str, depth: int, scales: jax.Array, steps: int, data: Data, key: jax.Array
) -> tuple[Measured, Measured]:
    """At the start, and after ``steps`` steps of Adam."""
    model = network(activation, depth)
    differentiate = value_and_grad(model, LOSS)
    rows = jax.random.randint(jax.random.fold_in(key, 1), (steps, BATCH), 0, len(data.train[0]))

    def step(at: Any, row: jax.Array) -> tuple[Any, None]:
        params, opt_state = at
        _, grads = differentiate(params, {}, data.train[0][row], data.train[1][row])
        updates, opt_state = OPTIMIZER.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    def one(scale: jax.Array) -> tuple[Measured, Measured]:
        params = start(model, key, scale)
        trained = lax.scan(step, (params, OPTIMIZER.init(params)), rows)[0][0]
        return measure(model, depth, params, data), measure(model, depth, trained, data)

    return jax.jit(jax.vmap(one))(scales)
