"""A walk: what each layer made of its input, and what came back to it."""

import dataclasses
from typing import Any

import jax

from jaxcnn import activations, deltas
from jaxcnn._core.op import Op
from jaxcnn._gradient import losses_and_delta
from jaxcnn.layers import Layer
from jaxcnn.layers._chain import Chain
from jaxcnn.layers._examples import leaves


@dataclasses.dataclass(frozen=True)
class Stage:
    """A layer on the way. ``delta`` is ∂loss/∂y, ``gradients`` are those of ``params``."""

    name: str
    rules: tuple[str, ...]
    keeps: str
    y: jax.Array
    delta: jax.Array
    params: dict[str, jax.Array]
    gradients: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Walk:
    """All stages, first first; ``dx`` is what reaches the input."""

    x: jax.Array
    dx: jax.Array
    stages: tuple[Stage, ...]
    scores: jax.Array
    loss: float


def walk(model: Layer, params: Any, state: Any, x: jax.Array, target: jax.Array, loss: Op) -> Walk:
    """One pass forward, in evaluation mode, and one back, by the hand-written rules."""
    (scores, _), residuals = model.forward(params, state, x)
    losses, dy = losses_and_delta(loss, scores, target)
    outputs, errors = activations(model, params, state, x), deltas(model, residuals, dy)
    gradients, dx = model.backward(residuals, dy)
    stages = []
    for path, layer, _ in leaves(model, residuals, ()):
        name, ops = (
            "/".join(path),
            [link.op for link in layer.links] if isinstance(layer, Chain) else [],
        )
        rules = tuple(f"{op.name}: {op.equation}" for op in ops) or (type(layer).__name__.lower(),)
        keeps = "; ".join(f"{op.name} keeps {op.keeps}" for op in ops if op.keeps)
        stages.append(
            Stage(
                name,
                rules,
                keeps,
                outputs[name],
                errors[name],
                _at(params, path),
                _at(gradients, path),
            )
        )
    return Walk(x, dx, tuple(stages), scores, float(losses.mean()))


def _at(tree: Any, path: tuple[str, ...]) -> dict[str, jax.Array]:
    for name in path:
        tree = tree.get(name, {})
    return {
        "/".join(str(k.key) for k in keys): leaf
        for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
