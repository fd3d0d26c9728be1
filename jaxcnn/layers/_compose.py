"""A composition of pairs is a pair: its backward is the delta recursion.

    serial:    δ of a layer = the dx of the layer behind it
    residual:  y = body(x) + shortcut(x);   dx = dx of body + dx of shortcut
    repeat:    the same layer many times, each with parameters of its own, compiled once

>>> import jax, jax.numpy as jnp
>>> from jaxcnn import layers
>>> model = serial(hidden=layers.dense(3), act=layers.activation("tanh"), out=layers.dense(2))
>>> params, state = model.init(jax.random.key(0), (4,))
>>> (y, state), residuals = model.forward(params, state, jnp.ones((5, 4)))
>>> [("/".join(path), delta.shape) for path, delta in model.walk(residuals, y)]
[('out', (5, 2)), ('act', (5, 3)), ('hidden', (5, 3))]
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn._core.errors import check_counts
from jaxcnn._core.keys import threefry
from jaxcnn.layers._examples import example_norms
from jaxcnn.layers._layer import Layer, MapOp, Params, Path, State, Steps, Walk, collect, subkey


class Composite(Layer):
    """A layer whose forward is its steps and whose backward is its walk."""

    def forward(
        self,
        params: Params,
        state: State,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[tuple[jax.Array, State], Any]:
        return collect(self.steps(params, state, x, key, train=train))[1]

    def backward(self, residuals: Any, dy: jax.Array) -> tuple[Params, jax.Array]:
        _, gradients = collect(self.walk(residuals, dy))
        return gradients


@dataclasses.dataclass(frozen=True, eq=False)
class Serial(Composite):
    """Layers one after the other, by name. Parameters and state are dicts by the same names,
    without those that have none."""

    layers: dict[str, Layer]

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[Params, State]:
        params, state = {}, {}
        for index, (name, layer) in enumerate(self.layers.items()):
            with _naming(name, input_shape):
                p, s = layer.init(jax.random.fold_in(threefry("init", key), index), input_shape)
                input_shape = layer.output_shape(p, s, input_shape)
            keep(params, name, p)
            keep(state, name, s)
        return params, state

    def steps(
        self,
        params: Params,
        state: State,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        train: bool = False,
        path: Path = (),
    ) -> Steps:
        residuals, new_state = {}, {}
        for index, (name, layer) in enumerate(self.layers.items()):
            part, inner = (params.get(name, {}), state.get(name, {})), (*path, name)
            with _naming(name, x.shape[1:]):
                (x, s), residuals[name] = yield from layer.steps(
                    *part, x, subkey(key, index), train=train, path=inner
                )
            yield inner, x
            keep(new_state, name, s)
        return (x, new_state), residuals

    def walk(self, residuals: Any, dy: jax.Array, path: Path = ()) -> Walk:
        dparams: Params = {}
        for name, layer in reversed(self.layers.items()):
            yield (*path, name), dy
            part, dy = yield from layer.walk(residuals[name], dy, (*path, name))
            keep(dparams, name, part)
        return dparams, dy

    def children(self, residuals: Any) -> list[tuple[str, Layer, Any]]:
        return [(name, layer, residuals[name]) for name, layer in self.layers.items()]

    def map_ops(self, change: MapOp, path: Path = ()) -> "Serial":
        layers = {name: layer.map_ops(change, (*path, name)) for name, layer in self.layers.items()}
        return dataclasses.replace(self, layers=layers)


def serial(**layers: Layer) -> Serial:
    """Layers one after the other: ``serial(conv1=conv(32), relu1=relu(), …)``."""
    for name, layer in layers.items():
        if not isinstance(layer, Layer):
            raise TypeError(
                f"serial: `{name}` must be a Layer, got {type(layer).__name__}; wrap an op as"
                " layers.of(op)"
            )
    if not layers:
        raise ValueError("serial: needs at least one layer")
    return Serial(layers)


@dataclasses.dataclass(frozen=True, eq=False)
class Residual(Composite):
    """y = body(x) + shortcut(x), the shortcut being the identity where there is none."""

    body: Layer
    shortcut: Layer | None

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[Params, State]:
        params, state, shapes = {}, {}, {}
        for index, (name, layer) in enumerate(self._branches()):
            with _naming(name, input_shape):
                p, s = layer.init(jax.random.fold_in(threefry("init", key), index), input_shape)
                shapes[name] = layer.output_shape(p, s, input_shape)
            keep(params, name, p)
            keep(state, name, s)
        if shapes["body"] != shapes.get("shortcut", tuple(input_shape)):
            raise ValueError(
                f"residual: body gives {shapes['body']} but the shortcut"
                f" {shapes.get('shortcut', tuple(input_shape))} (without the batch); give a"
                " shortcut that ends in the body's shape, e.g. a 1×1 convolution"
            )
        return params, state

    def steps(
        self,
        params: Params,
        state: State,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        train: bool = False,
        path: Path = (),
    ) -> Steps:
        residuals, new_state, outputs = {}, {}, {"shortcut": x}
        for index, (name, layer) in enumerate(self._branches()):
            part, inner = (params.get(name, {}), state.get(name, {})), (*path, name)
            with _naming(name, x.shape[1:]):
                (y, s), residuals[name] = yield from layer.steps(
                    *part, x, subkey(key, index), train=train, path=inner
                )
            outputs[name] = y
            yield inner, y
            keep(new_state, name, s)
        return (outputs["body"] + outputs["shortcut"], new_state), residuals

    def walk(self, residuals: Any, dy: jax.Array, path: Path = ()) -> Walk:
        dparams, dx = {}, {"shortcut": dy}
        for name, layer in reversed(self._branches()):
            yield (*path, name), dy
            part, dx[name] = yield from layer.walk(residuals[name], dy, (*path, name))
            keep(dparams, name, part)
        return dparams, dx["body"] + dx["shortcut"]

    def children(self, residuals: Any) -> list[tuple[str, Layer, Any]]:
        return [(name, layer, residuals[name]) for name, layer in self._branches()]

    def map_ops(self, change: MapOp, path: Path = ()) -> "Residual":
        return dataclasses.replace(
            self, **{name: layer.map_ops(change, (*path, name)) for name, layer in self._branches()}
        )

    def _branches(self) -> list[tuple[str, Layer]]:
        return [("body", self.body), *([("shortcut", self.shortcut)] if self.shortcut else [])]


def residual(body: Layer, shortcut: Layer | None = None) -> Residual:
    """body(x) + shortcut(x)."""
    return Residual(body, shortcut)


@dataclasses.dataclass(frozen=True, eq=False)
class Repeat(Composite):
    """One layer ``times`` times in a row by ``lax.scan``; parameters and state have a leading axis
    of that length."""

    layer: Layer
    times: int

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[Params, State]:
        def one(key: jax.Array) -> tuple[Params, State]:
            return self.layer.init(key, input_shape)

        params, state = jax.vmap(one)(jax.random.split(threefry("init", key), self.times))
        first, first_state = jax.tree.map(lambda leaf: leaf[0], (params, state))
        if (shape := self.layer.output_shape(first, first_state, input_shape)) != tuple(
            input_shape
        ):
            raise ValueError(
                f"repeat: the layer must keep its input's shape {tuple(input_shape)}, but gives"
                f" {shape}"
            )
        return params, state

    def steps(
        self,
        params: Params,
        state: State,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        train: bool = False,
        path: Path = (),
    ) -> Steps:
        order: list[Path] = []

        def step(x: jax.Array, at: Any) -> tuple[jax.Array, Any]:
            p, s, index = at
            found, ((x, s), residuals) = collect(
                self.layer.steps(p, s, x, subkey(key, index), train=train)
            )
            order[:] = [*(inside for inside, _ in found), ()]
            return x, (s, residuals, [*(y for _, y in found), x])

        x, (new_state, residuals, outputs) = lax.scan(
            step, x, (params, state, jnp.arange(self.times))
        )
        for index in range(self.times):
            for inside, y in zip(order, outputs, strict=True):
                yield (*path, str(index), *inside), y[index]
        return (x, new_state), residuals

    def walk(self, residuals: Any, dy: jax.Array, path: Path = ()) -> Walk:
        order: list[Path] = []

        def step(dy: jax.Array, kept: Any) -> tuple[jax.Array, Any]:
            found, (dparams, dx) = collect(self.layer.walk(kept, dy))
            order[:] = [(), *(inside for inside, _ in found)]
            return dx, (dparams, [dy, *(delta for _, delta in found)])

        dx, (dparams, deltas) = lax.scan(step, dy, residuals, reverse=True)
        for index in reversed(range(self.times)):
            for inside, delta in zip(order, deltas, strict=True):
                yield (*path, str(index), *inside), delta[index]
        return dparams, dx

    def map_ops(self, change: MapOp, path: Path = ()) -> "Repeat":
        return dataclasses.replace(self, layer=self.layer.map_ops(change, path))

    def example_norms(self, residuals: Any, dy: jax.Array) -> Params:
        def step(dy: jax.Array, kept: Any) -> tuple[jax.Array, Params]:
            norms, dx = example_norms(self.layer, kept, dy)
            return dx, norms

        return lax.scan(step, dy, residuals, reverse=True)[1]


def repeat(layer: Layer, times: int) -> Repeat:
    """The same layer ``times`` times, each with parameters of its own, compiled once however
    deep."""
    check_counts("repeat", times=times)
    return Repeat(layer, times)


@contextlib.contextmanager
def _naming(name: str, input_shape: tuple[int, ...]) -> Iterator[None]:
    """An error from inside says which layer it came from."""
    try:
        yield
    except (ValueError, TypeError) as error:
        error.add_note(
            f"in layer `{name}`, whose input has shape {tuple(input_shape)} without the batch"
        )
        raise


def keep(tree: dict[str, Any], name: str, part: dict[str, Any]) -> None:
    """``tree[name] = part``, if there is anything in it."""
    if part:
        tree[name] = part
