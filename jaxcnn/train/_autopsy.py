"""Which layer, forward or back, made the first NaN or infinity of a step.

>>> import jax, jax.numpy as jnp
>>> from jaxcnn import layers, ops
>>> model = layers.serial(dense=layers.dense(2), relu=layers.relu(), out=layers.dense(2))
>>> recipe = Recipe(model, ops.softmax_cross_entropy)
>>> params, state = model.init(jax.random.key(0), (3,))
>>> x, labels = jnp.full((4, 3), 1e30), jnp.zeros(4, int)
>>> print(autopsy(recipe, params, state, x, labels))
None
>>> print(autopsy(recipe, params, state, x * 1e9, labels))
input: 12 of 12 numbers of x are not finite
>>> params["dense"]["kernel"] = params["dense"]["kernel"] * 1e20
>>> print(autopsy(recipe, params, state, x, labels))
forward: 8 of 8 numbers of the output of layer `dense` (dense) are not finite
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcnn._core.op import Op
from jaxcnn._gradient import activations, deltas, losses_and_delta
from jaxcnn.layers import Layer
from jaxcnn.train._names import named
from jaxcnn.train._older import or_its_parts
from jaxcnn.train._recipe import Recipe, needs_loss


class Finding(NamedTuple):
    """``stage`` is input, target, parameters, forward, loss or backward; ``layer`` and ``ops`` say
    who made it, "" before the first layer; ``bad`` of ``size`` numbers of ``what`` are not
    finite."""

    stage: str
    layer: str
    ops: tuple[str, ...]
    what: str
    bad: int
    size: int

    def __str__(self) -> str:
        return f"{self.stage}: {self.bad} of {self.size} numbers of {self.what} are not finite"


@or_its_parts("model", "loss", "params", "state", "x", "target", "key")
def autopsy(
    recipe: Recipe,
    params: Any,
    state: Any,
    x: Any,
    target: Any,
    key: jax.Array | None = None,
    *,
    train: bool = True,
    scale: Any = 1.0,
) -> Finding | None:
    """The first array of a step, in the order in which it is computed, that has a NaN or an
    infinity; None if all are finite.

    Takes what the step took, but for augmentation; ``key`` is dropout's. δ starts ``scale`` times
    as large, as under a loss scale. Forward it is a layer's output, back it is δ below the layer
    whose backward made it, or the gradient of a parameter.

    Raises ValueError for a recipe without a loss."""
    x, target = recipe.prepared(x, target)
    if recipe.policy is not None:
        params, x = recipe.policy.to_compute(params), recipe.policy.to_compute(x)
    for stage, layer, ops, what, array in _in_turn(
        recipe, params, state, x, target, key, train, scale
    ):
        if jnp.issubdtype(jnp.result_type(array), jnp.floating):
            bad = int((~jnp.isfinite(array)).sum())
            if bad:
                return Finding(stage, layer, ops, what, bad, jnp.size(array))
    return None


def _in_turn(
    recipe: Recipe,
    params: Any,
    state: Any,
    x: Any,
    target: Any,
    key: Any,
    train: bool,
    scale: Any,
) -> Iterator[tuple[str, str, tuple[str, ...], str, Any]]:
    model, loss, policy = recipe.model, needs_loss("autopsy", recipe), recipe.policy
    inside = _ops(model)
    yield "input", "", (), "x", x
    yield "target", "", (), "the target", target
    for name, array in named(params).items():
        yield "parameters", name.rpartition("/")[0], (), name, array
    for name, array in named(state).items():
        yield "parameters", name.rpartition("/")[0], (), f"state/{name}", array
    for name, y in activations(model, params, state, x, key, train=train).items():
        ops = _ops_in(inside, name)
        yield "forward", name, ops, f"the output of layer `{name}`{_told(ops)}", y
    (y, _), residuals = model.forward(params, state, x, key, train=train)
    output = y if policy is None else policy.to_output(y)
    losses, dy = losses_and_delta(loss, output, target, scale)
    yield "loss", "", (loss.name,), f"the loss ({loss.name})", losses
    above, ops = "", (loss.name,)
    for name, delta in reversed(deltas(model, residuals, dy.astype(y.dtype)).items()):
        yield (
            "backward",
            above,
            ops,
            (
                f"δ at the output of `{name}`, made by the backward of"
                f" {f'layer `{above}`' if above else 'the loss'}{_told(ops)},"
            ),
            delta,
        )
        above, ops = name, _ops_in(inside, name)
    grads, _ = model.backward(residuals, dy.astype(y.dtype))
    for name, gradient in named(grads).items():
        layer = name.rpartition("/")[0]
        yield "backward", layer, _ops_in(inside, layer), f"the gradient of {name}", gradient


def _ops(model: Layer) -> dict[str, tuple[str, ...]]:
    """The names of the ops in each layer, by its name."""
    found: dict[str, tuple[str, ...]] = {}

    def note(path: tuple[str, ...], op: Op) -> Op:
        name = "/".join(path)
        found[name] = (*found.get(name, ()), op.name)
        return op

    model.map_ops(note)
    return found


def _ops_in(inside: dict[str, tuple[str, ...]], layer: str) -> tuple[str, ...]:
    """Those of ``layer``; in a ``repeat`` its name has a number more than the ops' path."""
    without = "/".join(part for part in layer.split("/") if not part.isdecimal())
    return inside.get(layer, inside.get(without, ()))


def _told(ops: tuple[str, ...]) -> str:
    return f" ({', '.join(ops)})" if ops else ""
