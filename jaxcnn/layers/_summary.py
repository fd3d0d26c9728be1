"""What a model is made of, as a table: layers, output shapes, parameters, and the bytes kept for
the backward.

The bytes are exact (see jaxcnn._core.residuals): each array is counted once, for the first layer
that keeps it, parameters and input apart. What two neighbours share (the output of a ReLU is the
input of the next convolution) costs once."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn._core.residuals import arrays, size, trace
from jaxcnn._io.columns import columns
from jaxcnn.layers._layer import Layer, within


def table(model: Layer, input_shape: tuple[int, ...], batch: int) -> str:
    """The table as text."""
    key = jax.random.key(0)
    params, state = jax.eval_shape(lambda k: model.init(k, tuple(input_shape)), key)
    x = jax.ShapeDtypeStruct((batch, *input_shape), jnp.result_type(float))

    def forward(params: Any, state: Any, x: Any, key: Any) -> Any:
        return model.forward(params, state, x, key, train=True)

    kept = trace(forward, params, state, x, key)
    seen = kept.inputs
    rows = [("layer", "output", "parameters", "kept bytes")]
    outputs = _outputs(model, params, state, x, key)
    total = 0
    for path, residuals in _leaves(model, kept.residuals):
        fresh = arrays(residuals) - seen
        seen |= fresh
        total += size(fresh)
        rows.append(
            (
                path or type(model).__name__.lower(),
                str(outputs.get(path, "")),
                f"{_count(_at(params, path) if path else params):,}",
                f"{size(fresh):,}",
            )
        )
    rows.append(("total", "", f"{_count(params):,}", f"{total:,}"))
    lines = columns(rows, right={2, 3})
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _leaves(layer: Layer, residuals: Any, path: str = "") -> list[tuple[str, Any]]:
    inside = layer.children(residuals)
    if not inside:
        return [(path, residuals)]
    return [
        leaf
        for name, sub, part in inside
        for leaf in _leaves(sub, part, f"{path}/{name}" if path else name)
    ]


def _outputs(model: Layer, params: Any, state: Any, x: Any, key: Any) -> dict[str, tuple[int, ...]]:
    def outputs(params: Any, state: Any, x: Any, key: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        tap = within(model, lambda path, y: found.setdefault("/".join(path), y))
        model.forward(params, state, x, key, train=True, **tap)
        return found

    return {path: y.shape for path, y in jax.eval_shape(outputs, params, state, x, key).items()}


def _at(tree: Any, path: str) -> Any:
    for name in path.split("/"):
        tree = tree.get(name, {})
    return tree


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
