"""A composition of pairs is a pair: its backward is the delta recursion.

    serial:    δ of a layer = the dx of the layer behind it
    residual:  y = body(x) + shortcut(x);   dx = dx of body + dx of shortcut
    repeat:    the same layer many times, each with parameters of its own, compiled once

>>> import jax, jax.numpy as jnp
>>> from jaxcnn import layers
>>> model = serial(hidden=layers.dense(3), act=layers.activation("tanh"), out=layers.dense(2))
>>> params, state = model.init(jax.random.key(0), (4,))
>>> (y, state), residuals = model.forward(params, state, jnp.ones((5, 4)))
>>> dparams, dx = model.backward(residuals, y, tap=lambda path, delta: print(path, delta.shape))
('out',) (5, 2)
('act',) (5, 3)
('hidden',) (5, 3)
"""

import contextlib
import dataclasses
from collections.abc import Generator, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn._core.errors import check_counts
from jaxcnn._core.keys import threefry
from jaxcnn.layers._examples import example_norms
from jaxcnn.layers._layer import (
    Composition,
    Layer,
    MapOp,
    Params,
    Path,
    State,
    Tap,
    subkey,
    within,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Serial(Composition):
    """Layers one after the other, by name. Parameters and state are dicts by the same names,
    without those that have none."""

    layers: dict[str, Layer]

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[Params, State]:
        params, state = {}, {}
        for index, (name, layer) in enumerate(self.layers.items()):
            with naming(name, input_shape):
                p, s = layer.init(jax.random.fold_in(threefry("init", key), index), input_shape)
                input_shape = layer.output_shape(p, s, input_shape)
            keep(params, name, p)
            keep(state, name, s)
        return params, state

    def forward(
        self,
        params: Params,
        state: State,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        train: bool = False,
        tap: Tap | None = None,
    ) -> tuple[tuple[jax.Array, State], Any]:
        residuals, new_state = {}, {}
        for index, (name, layer) in enumerate(self.layers.items()):
            own = params.get(name, {}), state.get(name, {})
            with naming(name, x.shape[1:]):
                (x, s), residuals[name] = layer.forward(
                    *own, x, subkey(key, index), train=train, **within(layer, tap, name)
                )
            keep(new_state, name, s)
            if tap:
                tap((name,), x)
        return (x, new_state), residuals

    def backward(
        self, residuals: Any, dy: jax.Array, tap: Tap | None = None
    ) -> tuple[Params, jax.Array]:
        dparams: Params = {}
        for name, layer in reversed(self.layers.items()):
            if tap:
                tap((name,), dy)
            with jax.named_scope(f"{name}/backward"):
                part, dy = layer.backward(residuals[name], dy, **within(layer, tap, name))
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
        if not isinstance(layer, Layer):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"serial: `{name}` must be a Layer, got {type(layer).__name__}; wrap an op as"
                " layers.of(op)"
            )
    if not layers:
        raise ValueError("serial: needs at least one layer")
    return Serial(layers)


@dataclasses.dataclass(frozen=True, eq=False)
class Residual(Composition):
    """y = body(x) + shortcut(x), the shortcut being the identity where there is none."""

    body: Layer
    shortcut: Layer | None

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[Params, State]:
        params, state, shapes = {}, {}, {}
        for index, (name, layer) in enumerate(self._branches()):
            with naming(name, input_shape):
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

    def forward(
        self,
        params: Params,
        state: State,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        train: bool = False,
        tap: Tap | None = None,
    ) -> tuple[tuple[jax.Array, State], Any]:
        residuals, new_state, outputs = {}, {}, {"shortcut": x}
        for index, (name, layer) in enumerate(self._branches()):
            own = params.get(name, {}), state.get(name, {})
            with naming(name, x.shape[1:]):
                (outputs[name], s), residuals[name] = layer.forward(
                    *own, x, subkey(key, index), train=train, **within(layer, tap, name)
                )
            keep(new_state, name, s)
            if tap:
                tap((name,), outputs[name])
        return (outputs["body"] + outputs["shortcut"], new_state), residuals

    def backward(
        self, residuals: Any, dy: jax.Array, tap: Tap | None = None
    ) -> tuple[Params, jax.Array]:
        dparams, dx = {}, {"shortcut": dy}
        for name, layer in reversed(self._branches()):
            if tap:
                tap((name,), dy)
            with jax.named_scope(f"{name}/backward"):
                part, dx[name] = layer.backward(residuals[name], dy, **within(layer, tap, name))
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
class Repeat(Composition):
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

    def forward(
        self,
        params: Params,
        state: State,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        train: bool = False,
        tap: Tap | None = None,
    ) -> tuple[tuple[jax.Array, State], Any]:
        order: list[Path] = []

        def step(x: jax.Array, at: Any) -> tuple[jax.Array, Any]:
            p, s, index = at
            seen: dict[Path, Any] = {}
            (x, s), residuals = self.layer.forward(
                p, s, x, subkey(key, index), train=train, **_into(seen, self.layer, tap)
            )
            if tap:
                seen[()] = x
            order[:] = seen
            return x, (s, residuals, list(seen.values()))

        x, (new_state, residuals, outputs) = lax.scan(
            step, x, (params, state, jnp.arange(self.times))
        )
        _show(range(self.times), order, outputs, tap)
        return (x, new_state), residuals

    def backward(
        self, residuals: Any, dy: jax.Array, tap: Tap | None = None
    ) -> tuple[Params, jax.Array]:
        order: list[Path] = []

        def step(dy: jax.Array, kept: Any) -> tuple[jax.Array, Any]:
            seen: dict[Path, Any] = {(): dy} if tap else {}
            dparams, dx = self.layer.backward(kept, dy, **_into(seen, self.layer, tap))
            order[:] = seen
            return dx, (dparams, list(seen.values()))

        dx, (dparams, deltas) = lax.scan(step, dy, residuals, reverse=True)
        _show(reversed(range(self.times)), order, deltas, tap)
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


def _into(seen: dict[Path, Any], layer: Layer, tap: Tap | None) -> dict[str, Any]:
    """Inside of a loop: what ``tap`` is to be shown afterwards is kept in ``seen``."""
    return within(layer, seen.__setitem__ if tap else None)


def _show(rounds: Iterable[int], order: list[Path], values: list[Any], tap: Tap | None) -> None:
    """What was kept in each round of a loop, stacked along the first axis."""
    for index in rounds:
        for inside, value in zip(order, values, strict=True):
            assert tap
            tap((str(index), *inside), value[index])


@contextlib.contextmanager
def naming(name: str, input_shape: tuple[int, ...]) -> Generator[None, None, None]:
    """An error from inside says which layer it came from, and so do profiles."""
    try:
        with jax.named_scope(name):
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
