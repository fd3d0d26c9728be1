"""The weights of the same network in PyTorch, from there and to there.

Modules and layers are paired in the order in which they stand (a residual's body, then its
shortcut), whatever their names, or as ``names`` says. Both convolve alike: a correlation. What
PyTorch stores nowhere must be right in the model: settings, eps, and padding. ``padding=1`` in
PyTorch is ``padding=1`` here, which for a 3×3 window is ``SAME`` where the stride is 1, and is not
where it is 2. A running variance is the unbiased one there, and is used alike.

>>> import jax, numpy as np
>>> from jaxcnn import layers
>>> model = layers.serial(
...     conv=layers.conv(4, kernel_size=3), relu=layers.relu(),
...     flatten=layers.flatten(), dense=layers.dense(2)
... )
>>> params, state = model.init(jax.random.key(0), (5, 5, 1))
>>> theirs = {"0.weight": np.ones((4, 1, 3, 3)), "0.bias": np.ones(4)}
>>> theirs |= {"3.weight": np.ones((2, 100)), "3.bias": np.ones(2)}
>>> params, state = from_torch(theirs, model, params, state, (5, 5, 1))
>>> params["conv"]["kernel"].shape, params["dense"]["kernel"].shape
((3, 3, 1, 4), (100, 2))
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcnn.layers import Layer
from jaxcnn.weights._form import (
    Shape,
    dotted,
    entries_of,
    from_torch_form,
    to_torch_form,
    torch_shape,
)
from jaxcnn.weights._store import WeightsError, names_of, read_tensors, rebuilt

Modules = dict[str, dict[str, np.ndarray]]
Shapes = dict[str, dict[str, Shape]]


def from_torch(
    state_dict: Mapping[str, Any],
    model: Layer,
    params: Any,
    state: Any,
    input_shape: Sequence[int],
    *,
    names: Mapping[str, str] | None = None,
) -> tuple[Any, Any]:
    """``(params, state)`` for ``model`` from the ``state_dict`` of the same network: tensors or
    arrays by name.

    Args:
        params, state: what ``model.init`` returned; the new ones have their dtypes and devices.
        input_shape: without the batch, channels last, as for ``init``: it tells the shape before a
            flatten.
        names: layers and the modules that are theirs, ``{"conv1": "features.0"}``; the others are
            paired in order.

    Raises:
        WeightsError: modules are left over or missing, a shape does not fit, or PyTorch has no such
            layer; before anything is converted.
    """
    layers, modules, like = (
        entries_of(model, params, state, input_shape),
        _modules(state_dict),
        names_of(params, state),
    )
    needs = {
        name: {t: torch_shape(like[e.ours].shape) for t, e in layer.items()}
        for name, layer in layers.items()
    }
    found = {}
    for layer, module in _pairs(needs, modules, names or {}):
        for theirs, entry in layers[layer].items():
            array = from_torch_form(modules[module][theirs], entry)
            # a copy: theirs may go on training
            found[entry.ours] = array.astype(like[entry.ours].dtype)
    return rebuilt(found, params, state)


def load_torch(
    path: str | Path,
    model: Layer,
    params: Any,
    state: Any,
    input_shape: Sequence[int],
    *,
    names: Mapping[str, str] | None = None,
) -> tuple[Any, Any]:
    """:func:`from_torch` of a file that ``safetensors.torch.save_file(net.state_dict(), path)``
    wrote.

    Such a file does not keep the order of its modules. It is known where they are numbered
    (``nn.Sequential``) or where the file was written with
    ``metadata={"order": " ".join(net.state_dict())}``; ``names`` must tell the rest. Raises
    WeightsError."""
    tensors, about = read_tensors(path)
    order = about.get("order", "").split()
    try:
        if sorted(order) != sorted(tensors):
            order = _numbered(tensors, set((names or {}).values()))
        return from_torch(
            {name: tensors[name] for name in order}, model, params, state, input_shape, names=names
        )
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def to_torch(
    model: Layer,
    params: Any,
    state: Any,
    input_shape: Sequence[int],
    *,
    names: Mapping[str, str] | None = None,
) -> dict[str, np.ndarray]:
    """The inverse of :func:`from_torch`: a ``state_dict`` of arrays, under our layers' names
    ("conv1.weight") or those that ``names`` gives them.

    ``net.load_state_dict({name: torch.from_numpy(array) for name, array in found.items()})`` takes
    it. Raises WeightsError for layers that PyTorch has not."""
    layers, arrays, names = (
        entries_of(model, params, state, input_shape),
        names_of(params, state),
        names or {},
    )
    _check_names(layers, names)
    found = {}
    for layer, entries in layers.items():
        for theirs, entry in entries.items():
            name = dotted(names.get(layer, layer), theirs)
            if name in found:
                raise WeightsError(
                    f"`names` gives two layers the module `{names.get(layer, layer)}`; give each"
                    " its own"
                )
            found[name] = np.array(to_torch_form(np.asarray(arrays[entry.ours]), entry), order="C")
    return found


def _modules(state_dict: Any) -> Modules:
    """The arrays of each module, in order."""
    if not isinstance(state_dict, Mapping):
        raise WeightsError(
            "`state_dict` must map names to arrays, as net.state_dict() does; got"
            f" {type(state_dict).__name__}"
        )
    modules: Modules = {}
    for name, value in state_dict.items():
        module, _, theirs = name.rpartition(".")
        if theirs != "num_batches_tracked":
            modules.setdefault(module, {})[theirs] = _array(name, value)
    return modules


def _array(name: str, value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor, perhaps of the dtype that NumPy has not
        value = value.detach().cpu()
        value = (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    if not hasattr(value, "__array__") or not jnp.issubdtype(np.asarray(value).dtype, jnp.floating):
        raise WeightsError(
            "`state_dict` must map names to floating-point arrays, as net.state_dict() does;"
            f" `{name}` is {getattr(value, 'dtype', type(value).__name__)}"
        )
    return np.asarray(value)


def _pairs(needs: Shapes, modules: Modules, names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Layers and their modules, all of which fit."""
    _check_names(needs, names)
    for layer, module in names.items():
        if module not in modules:
            raise WeightsError(
                f"`names` gives layer `{layer}` the module `{module}`, which is not there; there"
                f" are {', '.join(modules)}"
            )
    has = {
        module: {name: array.shape for name, array in arrays.items()}
        for module, arrays in modules.items()
    }
    rest = (
        [layer for layer in needs if layer not in names],
        [m for m in modules if m not in names.values()],
    )
    pairs = [*names.items(), *itertools.zip_longest(*rest)]
    for layer, module in pairs:
        if layer is None or module is None or needs[layer] != has[module]:
            there = (
                "PyTorch has no module left"
                if module is None
                else f"PyTorch's module `{module}` has {_told(has[module])}"
            )
            here = (
                "the model has no layer left"
                if layer is None
                else f"layer `{layer}` needs {_told(needs[layer])}"
            )
            raise WeightsError(
                f"{there}, but {here} ({len(has)} modules, {len(needs)} layers, paired in order);"
                " names={'layer': 'module'} pairs them otherwise"
            )
    return pairs


def _check_names(layers: Mapping[str, Any], names: Mapping[str, str]) -> None:
    for layer in names:
        if layer not in layers:
            raise WeightsError(
                f"`names` has `{layer}`, which is no layer with weights; there are"
                f" {', '.join(layers)}"
            )


def _told(shapes: dict[str, Shape]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())


def _numbered(tensors: Mapping[str, Any], named: set[str]) -> list[str]:
    """The names in the order of the numbers in them, but for modules that are ``named``. Raises
    WeightsError where words would have to be put in order."""
    siblings: dict[str, set[str]] = {}
    for module in {name.rpartition(".")[0] for name in tensors} - named:
        parts = module.split(".")
        for depth, part in enumerate(parts):
            siblings.setdefault(".".join(parts[:depth]), set()).add(part)
    for parts in siblings.values():
        if len(parts) > 1 and not all(part.isdecimal() for part in parts):
            raise WeightsError(
                f"the file does not keep the order of the modules {', '.join(sorted(parts))}; give"
                " names={'layer': 'module'}, or write it with metadata={'order': '"
                " '.join(net.state_dict())}"
            )
    return sorted(
        tensors,
        key=lambda name: [int(part) if part.isdecimal() else 0 for part in name.split(".")[:-1]],
    )
