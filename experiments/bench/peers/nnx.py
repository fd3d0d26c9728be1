"""The peer ``flax``: modules of flax.nnx with its own optimizer wrapper, in the split-and-merge
form that its documentation gives for the least overhead."""

from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from experiments.bench import networks
from experiments.bench.data import GRADIENT, Arrays, params_of
from experiments.bench.peers import Order, Task
from experiments.bench.peers.learning import OPTIMIZER
from experiments.bench.peers.xla import compile_program, put


class Stack(nnx.Module):
    """Layers one after the other, those with parameters by name."""

    def __init__(
        self, plan: networks.Plan, channels: dict[str, tuple[int, ...]], prefix: str, rngs: nnx.Rngs
    ) -> None:
        self.plan = plan
        for layer in plan:
            match layer:
                case networks.Conv(name, features, window, stride, bias):
                    inputs = channels[prefix + name][-1]
                    made = nnx.Conv(
                        inputs, features, (window, window), stride, use_bias=bias, rngs=rngs
                    )
                case networks.Norm(name):
                    made = nnx.BatchNorm(
                        channels[prefix + name][-1],
                        use_running_average=False,
                        momentum=networks.KEEP,
                        epsilon=networks.EPS,
                        rngs=rngs,
                    )
                case networks.Dense(name, features):
                    made = nnx.Linear(channels[prefix + name][-1], features, rngs=rngs)
                case networks.Block(name):
                    made = Residual(layer, channels, f"{prefix}{name}/", rngs)
                case _:
                    continue
            setattr(self, name, made)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.plan:
            match layer:
                case networks.Pool():
                    x = nnx.max_pool(x, (2, 2), strides=(2, 2))
                case networks.Relu():
                    x = nnx.relu(x)
                case networks.Flatten():
                    x = x.reshape(x.shape[0], -1)
                case networks.Mean():
                    x = x.mean((1, 2))
                case _:
                    x = getattr(self, layer.name)(x)
        return x


class Residual(nnx.Module):
    """body(x) + shortcut(x)."""

    def __init__(
        self,
        block: networks.Block,
        channels: dict[str, tuple[int, ...]],
        prefix: str,
        rngs: nnx.Rngs,
    ) -> None:
        self.body = Stack(block.body, channels, f"{prefix}body/", rngs)
        self.shortcut = Stack(block.shortcut, channels, f"{prefix}shortcut/", rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.body(x) + self.shortcut(x)


def build(network: networks.Network, arrays: Arrays) -> Stack:
    """With the parameters that were drawn."""
    inputs = {place.path: place.input for place in networks.places(network)}
    model = Stack(network.plan, inputs, "", nnx.Rngs(0))
    for path, array in params_of(arrays).items():
        *folders, name = path.split("/")
        module: Any = model
        for folder in folders:
            module = getattr(module, folder)
        variable = getattr(module, "bias" if name == "shift" else name)
        assert variable[...].shape == array.shape, path
        variable[...] = put(array)
    return model


def prepare(order: Order, arrays: Arrays, peer: str) -> Task:
    """See the package. A step is all that there is."""
    network = networks.NETWORKS[order.of]
    images, labels = put(arrays["images"][0]), put(arrays["labels"][0])
    model = build(network, arrays)
    graph, carry = nnx.split((model, nnx.Optimizer(model, OPTIMIZER, wrt=nnx.Param)))
    norms = {
        place.path for place in networks.places(network) if isinstance(place.layer, networks.Norm)
    }

    def mean_loss(model: Stack, images: jax.Array, labels: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    def step(carry: nnx.State, images: jax.Array, labels: jax.Array) -> tuple[Any, jax.Array]:
        model, optimizer = nnx.merge(graph, carry)
        loss, grads = nnx.value_and_grad(mean_loss)(model, images, labels)
        optimizer.update(model, grads)
        return nnx.state((model, optimizer)), loss

    program = compile_program(step, carry, images, labels, donate=(0,))
    carry, loss = program.run(carry, images, labels)
    outputs = {"loss": np.array(loss), **_momentum(nnx.merge(graph, carry)[1], norms)}

    def call() -> jax.Array:
        nonlocal carry
        carry, loss = jax.block_until_ready(program.run(carry, images, labels))
        return loss

    return Task(call, outputs, program.facts)


def _momentum(optimizer: nnx.Optimizer, norms: set[str]) -> Arrays:
    """After one step it is the gradient."""
    found: Arrays = {}
    for key, variable in nnx.to_flat_state(nnx.state(optimizer)):
        if "trace" in key:
            *folders, name = key[key.index("trace") + 1 :]
            path = "/".join(map(str, folders))
            name = "shift" if path in norms and name == "bias" else name
            found[f"{GRADIENT}{path}/{name}"] = np.array(variable[...])
    return found
