"""The peer ``autodiff``: the same networks and ops written plainly, and differentiated by JAX. In
float64 it is what all others are compared with."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from experiments.bench import networks
from experiments.bench.cases import BY_NAME, OpCase
from experiments.bench.data import Arrays
from experiments.bench.peers import OP_KINDS, Order, Task, learning, xla

Tree = dict[str, Any]


def prepare(order: Order, arrays: Arrays, peer: str) -> Task:
    """See the package."""
    if order.kind in OP_KINDS:
        return _op(order, BY_NAME[order.of], arrays)
    network = networks.NETWORKS[order.of]
    loss = loss_of(network)
    made = learning.task(order, network, arrays, jax.value_and_grad(loss, has_aux=True))
    if order.kind == "step":
        made.facts["kept_bytes"] = xla.kept_bytes(_forward(loss), *learning.start(network, arrays))
    return made


def loss_of(network: networks.Network) -> Callable[..., tuple[jax.Array, Tree]]:
    """``loss(params, state, images, labels) -> (mean loss, new state)``."""

    def loss(
        params: Tree, state: Tree, images: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, Tree]:
        logits, new_state = _run(network.plan, params, state, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), new_state

    return loss


def _forward(loss: Callable[..., tuple[jax.Array, Tree]]) -> Callable[..., Any]:
    """The first half of a gradient, with what JAX keeps for the second."""

    def forward(params: Tree, state: Tree, images: jax.Array, labels: jax.Array) -> Any:
        value, pull, new_state = jax.vjp(
            lambda p: loss(p, state, images, labels), params, has_aux=True
        )
        return (value, new_state), pull

    return forward


def _run(plan: networks.Plan, params: Tree, state: Tree, x: jax.Array) -> tuple[jax.Array, Tree]:
    """networks.Layer by layer; the new running statistics beside the output."""
    new_state: Tree = {}
    for layer in plan:
        name = getattr(layer, "name", "")
        x, new = _layer(layer, params.get(name, {}), state.get(name, {}), x)
        new_state |= {name: new} if new else {}
    return x, new_state


def _layer(
    layer: networks.Layer, params: Tree, state: Tree, x: jax.Array
) -> tuple[jax.Array, Tree]:
    match layer:
        case networks.Conv():
            y = _conv(x, params["kernel"], layer.stride, "SAME")
            return y + params["bias"] if layer.bias else y, {}
        case networks.Norm():
            y, mean, var = _batch_norm(x, params["scale"], params["shift"])
            now = {"mean": mean, "var": var}
            return y, {
                k: networks.KEEP * state[k] + (1 - networks.KEEP) * lax.stop_gradient(now[k])
                for k in now
            }
        case networks.Pool():
            return _max_pool(x, 2, 2, 0), {}
        case networks.Relu():
            return jax.nn.relu(x), {}
        case networks.Flatten():
            return x.reshape(len(x), -1), {}
        case networks.Mean():
            return x.mean((1, 2)), {}
        case networks.Dense():
            return x @ params["kernel"] + params["bias"], {}
        case networks.Block():
            y, body = _run(layer.body, params["body"], state["body"], x)
            beside, shortcut = _run(
                layer.shortcut, params.get("shortcut", {}), state.get("shortcut", {}), x
            )
            return y + beside, {"body": body} | ({"shortcut": shortcut} if shortcut else {})


def _conv(x: jax.Array, w: jax.Array, stride: int, padding: Any, groups: int = 1) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, w, (stride, stride), padding, dimension_numbers=layout, feature_group_count=groups
    )


def _max_pool(x: jax.Array, window: int, stride: int, padding: int) -> jax.Array:
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return lax.reduce_window(
        x, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), around
    )


def _batch_norm(
    x: jax.Array, scale: jax.Array, shift: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) * lax.rsqrt(var + networks.EPS) * scale + shift, mean, var


def _op(order: Order, case: OpCase, arrays: Arrays) -> Task:
    settings = dict(case.settings)
    padding = settings.pop("padding", 0)

    def forward(x: jax.Array, *weights: jax.Array) -> jax.Array:
        match case.op:
            case "conv":
                return _conv(x, weights[0], padding=((padding, padding),) * 2, **settings)
            case "max_pool":
                return _max_pool(x, padding=padding, **settings)
            case "batch_norm":
                return _batch_norm(x, *weights)[0]
            case "matmul":
                return x @ weights[0]

    def both(inputs: Sequence[jax.Array], dy: jax.Array) -> tuple[jax.Array, Sequence[jax.Array]]:
        y, pull = jax.vjp(forward, *inputs)
        return y, pull(dy)

    return xla.op_task(order, arrays, forward, both)
