"""The peer ``jaxcnn``: the models of this library, through their hand-written backwards."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from experiments.bench.cases import BY_NAME, OpCase
from experiments.bench.data import Arrays
from experiments.bench.networks import CLASSES, EPS, NETWORKS
from experiments.bench.peers import OP_KINDS, Order, Task, learning, xla
from jaxcnn import example_norms, layers, models, ops, value_and_grad
from jaxcnn.layers import Layer

OPS = {
    "conv": ops.conv,
    "max_pool": ops.max_pool,
    "batch_norm": ops.batch_norm.using(eps=EPS),
    "matmul": ops.dense,
}

# Images at a time, where that halves the memory and costs no time; no batch norm stands in the way
# there
MICROBATCH = {"vgg6": 64}


def prepare(order: Order, arrays: Arrays, peer: str) -> Task:
    """See the package."""
    if order.kind in OP_KINDS:
        return _op(order, BY_NAME[order.of], arrays)
    network, model = NETWORKS[order.of], build(order.of)
    loss, at_a_time = ops.softmax_cross_entropy, MICROBATCH.get(order.of)
    if at_a_time:
        at_a_time = math.gcd(at_a_time, arrays["images"].shape[1])
    differentiate = value_and_grad(model, loss, microbatch=at_a_time)
    made = learning.task(order, network, arrays, differentiate, example_norms(model, loss))
    if order.kind == "step":
        made.facts["kept_bytes"] = xla.kept_bytes(_forward(model), *learning.start(network, arrays))
    return made


def build(name: str) -> Layer:
    """The network as a model of jaxcnn: the library's own, but for LeNet, which has dropout and a
    smaller window there."""
    if name != "lenet":
        return models.MODELS[name](CLASSES)
    return layers.serial(
        conv1=layers.conv(32, kernel_size=5),
        pool1=layers.max_pool(2),
        relu1=layers.relu(),
        conv2=layers.conv(64, kernel_size=5),
        pool2=layers.max_pool(2),
        relu2=layers.relu(),
        flatten=layers.flatten(),
        dense1=layers.dense(512),
        relu3=layers.relu(),
        dense2=layers.dense(CLASSES),
    )


def _forward(model: Layer) -> Any:
    """The first half of a gradient, with what it keeps for the second."""

    def forward(params: Any, state: Any, images: jax.Array, labels: jax.Array) -> Any:
        (logits, state), kept = model.forward(params, state, images, train=True)
        losses, kept_by_loss = ops.softmax_cross_entropy.run(logits, labels)
        return (losses.mean(), state), (kept, kept_by_loss)

    return forward


def _op(order: Order, case: OpCase, arrays: Arrays) -> Task:
    op = OPS[case.op]

    def forward(*inputs: jax.Array) -> jax.Array:
        y, _ = op.run(*inputs, **case.settings)
        return y[0] if isinstance(y, tuple) else y

    def both(inputs: Sequence[jax.Array], dy: jax.Array) -> tuple[jax.Array, Sequence[jax.Array]]:
        y, saved = op.run(*inputs, **case.settings)
        # batch norm hands its statistics out, and takes cotangents for them
        if isinstance(y, tuple):
            y, *others = y
            return y, op.pull(saved, (dy, *map(jnp.zeros_like, others)))
        return y, op.pull(saved, dy)[: len(inputs)]

    return xla.op_task(order, arrays, forward, both)
