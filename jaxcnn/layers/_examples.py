"""Gradient norms of single examples, layer by layer: from residuals and δ, without the gradients
themselves."""

from collections.abc import Iterator
from typing import Any

import jax

from jaxcnn.layers._layer import Layer, Params, Path, within


def example_norms(layer: Layer, residuals: Any, dy: jax.Array) -> tuple[Params, jax.Array]:
    """``(norms, dx)``: ‖gradient‖ of every parameter for each example alone, (n,), in the
    parameters' tree."""
    deltas: dict[Path, Any] = {(): dy}
    _, dx = layer.backward(residuals, dy, **within(layer, deltas.__setitem__))
    norms: Params = {}
    for path, inside, kept in leaves(layer, residuals, ()):
        try:
            found = inside.example_norms(kept, deltas[path])
        except TypeError as error:
            error.add_note(f"in layer `{'/'.join(path)}`")
            raise
        at = norms
        for name in path if found else ():
            at = at.setdefault(name, {})
        at.update(found)
    return norms, dx


def leaves(layer: Layer, residuals: Any, path: Path) -> Iterator[tuple[Path, Layer, Any]]:
    inside = layer.children(residuals)
    if not inside:
        yield path, layer, residuals
    for name, child, kept in inside:
        yield from leaves(child, kept, (*path, name))
