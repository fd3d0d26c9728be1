"""What PyTorch calls each array of a model, and how it lays it out.

    ours              theirs
    kernel            weight          conv (*taps, i/g, o) ↔ (o, i/g, *taps);
                                      conv_transpose (*taps, o/g, i) ↔ (i, o/g, *taps);
                                      dense (i, o) ↔ (o, i)
    bias              bias
    scale, shift      weight, bias
    mean, var         running_mean, running_var

A flatten here gives (*space, c), there (c, *space): what has one entry for each flattened feature,
up to the next dense layer, is put in that order.

>>> import jax
>>> from jaxcnn import layers
>>> model = layers.serial(flatten=layers.flatten(), dense=layers.dense(4))
>>> params, state = model.init(jax.random.key(0), (2, 2, 3))
>>> entry = entries_of(model, params, state, (2, 2, 3))["dense"]["weight"]
>>> entry
Entry(layer='dense', tree='params', parameter='kernel', flat=(2, 2, 3), flip=False)
>>> to_torch_form(np.arange(12)[:, None], entry)
array([[ 0,  3,  6,  9,  1,  4,  7, 10,  2,  5,  8, 11]])
"""

import math
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.layers import Layer
from jaxcnn.layers._chain import Chain
from jaxcnn.layers._compose import Residual
from jaxcnn.layers._stateful import BatchNorm
from jaxcnn.weights._store import WeightsError, names_of

THEIRS = {
    "kernel": "weight",
    "bias": "bias",
    "scale": "weight",
    "shift": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
KNOWN = "conv", "conv_transpose", "dense", "bias", "layer_norm", "group_norm"
Shape = tuple[int, ...]


class Entry(NamedTuple):
    """One array of a layer, in ``tree`` "params" or "state".

    ``flat`` is the shape, before a flatten, of what its first axis counts, () where the order is
    the same; ``flip`` means that the taps are read backwards."""

    layer: str
    tree: str
    parameter: str
    flat: Shape = ()
    flip: bool = False

    @property
    def ours(self) -> str:
        return dotted(self.tree, self.layer, self.parameter)


def entries_of(
    model: Layer, params: Any, state: Any, input_shape: Sequence[int]
) -> dict[str, dict[str, Entry]]:
    """The layers that have arrays, in order, each with its entries by PyTorch's names. Raises
    WeightsError for layers that PyTorch has not."""
    dtype = next((leaf.dtype for leaf in jax.tree.leaves(params)), jnp.result_type(float))
    x = jax.ShapeDtypeStruct((1, *input_shape), dtype)
    residuals = jax.eval_shape(lambda p, s, v: model.forward(p, s, v)[1], params, state, x)
    layers: dict[str, dict[str, Entry]] = {}
    for entry in _entries(model, residuals, "", ()):
        layers.setdefault(entry.layer, {})[THEIRS[entry.parameter]] = entry
    known = {entry.ours for entries in layers.values() for entry in entries.values()}
    unknown = sorted(names_of(params, state).keys() - known)
    if unknown:
        raise WeightsError(
            f"`{unknown[0]}` is of a layer that has no counterpart in PyTorch; there are"
            f" {', '.join(KNOWN)} and batch_norm, in serial and residual"
        )
    return layers


def torch_shape(shape: Shape) -> Shape:
    """The shape there of what has ``shape`` here."""
    return (*shape[:-3:-1], *shape[:-2])


def from_torch_form(array: np.ndarray, entry: Entry) -> np.ndarray:
    """PyTorch's array as ours."""
    if array.ndim > 1:
        array = array.transpose(*range(2, array.ndim), 1, 0)
    array = _flip(array) if entry.flip else array
    return array[_positions(entry.flat)] if entry.flat else array


def to_torch_form(array: np.ndarray, entry: Entry) -> np.ndarray:
    """Our array as PyTorch's."""
    array = array[np.argsort(_positions(entry.flat))] if entry.flat else array
    array = _flip(array) if entry.flip else array
    return array.transpose(-1, -2, *range(array.ndim - 2)) if array.ndim > 1 else array


def dotted(*parts: str) -> str:
    """A name from those of its parts that are not empty."""
    return ".".join(part for part in parts if part)


def _flip(kernel: np.ndarray) -> np.ndarray:
    return np.flip(kernel, tuple(range(kernel.ndim - 2)))


def _positions(flat: Shape) -> np.ndarray:
    """Where PyTorch has what we have, feature by feature."""
    return np.moveaxis(np.arange(math.prod(flat)).reshape(flat[-1], *flat[:-1]), 0, -1).ravel()


def _entries(layer: Layer, residuals: Any, name: str, flat: Shape) -> Generator[Entry, None, Shape]:
    """The entries of a layer, in order; ``flat`` tells the order of its input's features, and what
    is returned that of its output's."""
    inside = [(sub, part, dotted(name, inner)) for inner, sub, part in layer.children(residuals)]
    if isinstance(layer, Residual):
        ends = set() if layer.shortcut else {flat}
        for branch in inside:
            ends.add((yield from _entries(*branch, flat)))
        if len(ends) > 1:
            raise WeightsError(
                f"layer `{name}` adds flattened features to others, whose order differs in PyTorch"
            )
        return ends.pop()
    for branch in inside:
        flat = yield from _entries(*branch, flat)
    if isinstance(layer, BatchNorm):
        for tree, parameters in ("params", ("scale", "shift")), ("state", ("mean", "var")):
            for parameter in parameters:
                yield Entry(name, tree, parameter, flat)
    if isinstance(layer, Chain):
        flat = yield from _chain_entries(layer, residuals, name, flat)
    return flat


def _chain_entries(
    layer: Chain, residuals: Any, name: str, flat: Shape
) -> Generator[Entry, None, Shape]:
    for link, (kept, *_) in zip(layer.links, residuals, strict=True):
        op = link.op.name
        if op == "group_norm" and flat:
            raise WeightsError(
                f"layer `{name}` norms groups of flattened features, which are other groups in"
                " PyTorch"
            )
        for parameter in [name for name in link.parameters if name in THEIRS and op in KNOWN]:
            is_output = op == "dense" and parameter == "bias"
            yield Entry(
                name,
                "params",
                parameter,
                () if is_output else flat,
                bool(link.op.fixed.get("flip")),
            )
        if op == "flatten" and len(kept.value) > 1:
            *space, channels = kept.value
            flat = kept.value if channels > 1 and math.prod(space) > 1 else ()
        if op == "dense":
            flat = ()
    return flat
