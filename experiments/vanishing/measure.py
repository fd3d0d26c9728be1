"""One deep network: its δ by layer, its silent units and its accuracy, before and after training.
The scales are trained side by side by ``vmap``."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.nn import initializers

from experiments.images import Images
from jaxcnn import activations, deltas, layers, ops, value_and_grad
from jaxcnn._gradient import losses_and_delta
from jaxcnn.layers import Serial

WIDTH = 64
BATCH = 100
OPTIMIZER = optax.adam(1e-3)
LOSS = ops.softmax_cross_entropy


class Measured(NamedTuple):
    """Each with a leading axis for the scales. ``norms``, ``silent``, ``silent_deltas``: (scale,
    depth), from the first layer up; ``correct``: of the test images; ``correct_in_training``: of
    the first 2,000 training images."""

    norms: jax.Array
    silent: jax.Array
    silent_deltas: jax.Array
    correct: jax.Array
    correct_in_training: jax.Array


def network(activation: str, depth: int, classes: int) -> Serial:
    """``depth`` hidden layers, all alike but for the first, whose input is the image."""
    block = layers.serial(dense=layers.dense(WIDTH), act=layers.activation(activation))
    deeper = {"rest": layers.repeat(block, depth - 1)} if depth > 1 else {}
    return layers.serial(
        flatten=layers.flatten(), first=block, **deeper, scores=layers.dense(classes)
    )


def start(model: Serial, shape: tuple[int, ...], key: jax.Array, scale: jax.Array) -> Any:
    """Normal weights with standard deviation scale/√(inputs), biases 0; the scores always start at
    scale 1."""
    params, _ = model.init(key, shape)
    leaves, tree = jax.tree.flatten_with_path(params)
    keys = jax.random.split(key, len(leaves))

    def draw(path: Any, key: jax.Array, leaf: jax.Array) -> jax.Array:
        if path[-1].key == "bias":
            return jnp.zeros_like(leaf)
        size = 1.0 if path[0].key == "scores" else scale
        return size * initializers.variance_scaling(
            1.0, "fan_in", "normal", batch_axis=range(leaf.ndim - 2)
        )(key, leaf.shape)

    return tree.unflatten(
        [draw(path, k, leaf) for k, (path, leaf) in zip(keys, leaves, strict=True)]
    )


def measure(model: Serial, depth: int, params: Any, data: Images) -> Measured:
    """On the first images of the training set, in float64: in fifty layers δ fades to 1e-31 and
    grows to 1e21, and the square of that is no float32."""
    params, data = jax.tree.map(_in_float64, (params, data))
    x, labels = (part[: 2 * BATCH] for part in data.train)
    (scores, _), residuals = model.forward(params, {}, x)
    _, dy = losses_and_delta(LOSS, scores, labels)
    found, outputs = deltas(model, residuals, dy), activations(model, params, {}, x)
    names = ["first", *(f"rest/{number}" for number in range(depth - 1))]
    # ∂loss/∂(what goes into the activation)
    d = jnp.stack([found[f"{name}/dense"] for name in names])
    y = jnp.stack([outputs[f"{name}/act"] for name in names])
    correct = [
        (model.forward(params, {}, x)[0][0].argmax(-1) == labels).mean()
        for x, labels in (data.test, (data.train[0][:2000], data.train[1][:2000]))
    ]
    return Measured(
        jnp.sqrt(jnp.square(d).sum((1, 2))), (y == 0).mean((1, 2)), (d == 0).mean((1, 2)), *correct
    )


def best(trained: Measured) -> int:
    """Which scale learned best, by the training images: those that the network is judged by have no
    say in it."""
    return int(np.argmax(trained.correct_in_training))


def _in_float64(leaf: Any) -> Any:
    return leaf.astype(jnp.float64) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf


def before_and_after(
    activation: str, depth: int, scales: jax.Array, steps: int, data: Images, key: jax.Array
) -> tuple[Measured, Measured]:
    """At the start, and after ``steps`` steps of Adam in float32."""
    model = network(activation, depth, data.classes)
    differentiate = value_and_grad(model, LOSS)
    rows = jax.random.randint(jax.random.fold_in(key, 1), (steps, BATCH), 0, len(data.train[0]))

    def step(at: Any, row: jax.Array) -> tuple[Any, None]:
        params, opt_state = at
        _, grads = differentiate(params, {}, data.train[0][row], data.train[1][row])
        updates, opt_state = OPTIMIZER.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    def train(params: Any) -> Any:
        return lax.scan(step, (params, OPTIMIZER.init(params)), rows)[0][0]

    first = jax.jit(jax.vmap(lambda scale: start(model, data.shape, key, scale)))(scales)
    trained = jax.jit(jax.vmap(train))(first)
    with jax.enable_x64(True):
        look = jax.jit(jax.vmap(lambda params: measure(model, depth, params, data)))
        return look(first), look(trained)
