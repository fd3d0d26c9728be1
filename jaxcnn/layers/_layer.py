"""A layer is a pair that owns parameters; a model is a layer made of layers.

    init(key, input_shape)                     -> (params, state)     shape without the batch
    forward(params, state, x, key, *, train)   -> ((y, new_state), residuals)
    backward(residuals, dy)                    -> (dparams, dx)

``params`` and ``state`` are nested dicts of arrays. ``apply`` is the same pair wired to JAX, so
``jax.grad`` of anything written over it runs the hand-written backward. A composition's forward and
backward take a ``tap``, which is shown every layer's output, or δ, by the layer's path."""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn._core.keys import threefry
from jaxcnn._core.op import AnyOp, Op

Params = dict[str, Any]
State = dict[str, Any]
Path = tuple[str, ...]
Tap = Callable[[Path, Any], Any]
MapOp = Callable[[Path, AnyOp], AnyOp]


class Layer(abc.ABC):
    """The interface above. Instances are immutable and compared by identity, so that they can be
    settings of a compiled program."""

    @abc.abstractmethod
    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[Params, State]:
        """Fresh parameters and state for inputs of ``input_shape`` (no batch axis)."""

    @abc.abstractmethod
    def forward(
        self,
        params: Params,
        state: State,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[tuple[jax.Array, State], Any]:
        """``((y, new_state), residuals)``. ``train`` switches dropout on and batch norm to the
        statistics of the batch."""

    @abc.abstractmethod
    def backward(self, residuals: Any, dy: jax.Array) -> tuple[Params, jax.Array]:
        """``(dparams, dx)``: the cotangents of the parameters, in their tree, and of the input."""

    def map_ops(self, change: MapOp, path: Path = ()) -> "Layer":
        """The same layer with every op inside replaced by ``change(path, op)``, so that a whole
        model takes another rule.

        ``path`` names the layer that the op is in. The parameters stay what they are.
        """
        names = [f.name for f in dataclasses.fields(self)]  # pyright: ignore[reportArgumentType]
        ops = {name: op for name in names if isinstance(op := getattr(self, name), Op)}
        return dataclasses.replace(self, **{name: change(path, op) for name, op in ops.items()})  # pyright: ignore[reportArgumentType]

    def children(self, residuals: Any) -> list[tuple[str, "Layer", Any]]:
        """The layers inside that stand in a row of their own in :meth:`summary`, first first, each
        with its part of ``residuals``."""
        return []

    def example_norms(self, residuals: Any, dy: jax.Array) -> Params:
        """For a layer without :meth:`children`: ‖gradient‖ of each parameter for each example
        alone, (n,)."""
        raise TypeError(f"{type(self).__name__}: has no rule for the gradients of single examples")

    def apply(
        self,
        params: Params,
        state: State,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, State]:
        """``(y, new_state)``, differentiable by JAX in ``params`` and ``x`` through the
        hand-written backward.

        ``new_state`` carries no gradient: a loss that reads it gets zero from there, as it is meant
        to be carried to the next step."""
        return self._op(params, x, state, key, train=train)

    def output_shape(
        self, params: Params, state: State, input_shape: tuple[int, ...]
    ) -> tuple[int, ...]:
        """The shape of an output without its batch axis; nothing is computed, but every shape is
        checked."""
        dtype = next((p.dtype for p in jax.tree.leaves(params)), jnp.result_type(float))
        x = jax.ShapeDtypeStruct((1, *input_shape), dtype)
        (y, _), _ = jax.eval_shape(lambda p, s, v: self.forward(p, s, v), params, state, x)
        return y.shape[1:]

    def __getstate__(self) -> dict[str, Any]:
        """Copied and pickled without what :meth:`apply` was wired to."""
        return {name: value for name, value in self.__dict__.items() if name != "_op"}

    def summary(self, input_shape: tuple[int, ...], *, batch: int = 1) -> None:
        """Print layers, shapes, parameters and the bytes that each keeps for the backward of a
        batch."""
        from jaxcnn.layers._summary import table

        print(table(self, input_shape, batch))

    @functools.cached_property
    def _op(self) -> AnyOp:
        return Op("model", _model_forward, _model_backward, aux=2).using(layer=self)


def _model_forward(
    params: Params,
    x: jax.Array,
    state: State,
    key: jax.Array | None,
    /,
    *,
    layer: Layer,
    train: bool = False,
) -> tuple[tuple[jax.Array, State], Any]:
    (y, new_state), residuals = layer.forward(params, state, x, key, train=train)
    return (y, lax.stop_gradient(new_state)), residuals


def _model_backward(
    residuals: Any, cotangents: tuple[jax.Array, State], /, *, layer: Layer, train: bool = False
) -> tuple[Params, jax.Array]:
    return layer.backward(residuals, cotangents[0])


class Composition(Layer):
    """A layer made of layers. ``tap(path, value)`` is called with the output of each layer inside
    on the way forward, and with δ at that output on the way back, last layer first."""

    @abc.abstractmethod
    def forward(
        self,
        params: Params,
        state: State,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        train: bool = False,
        tap: Tap | None = None,
    ) -> tuple[tuple[jax.Array, State], Any]: ...

    @abc.abstractmethod
    def backward(
        self, residuals: Any, dy: jax.Array, tap: Tap | None = None
    ) -> tuple[Params, jax.Array]: ...


def within(layer: Layer, tap: Tap | None, *path: str) -> dict[str, Any]:
    """The argument by which ``tap`` sees what is inside of ``layer``, at ``path``; none where
    nothing is."""
    if tap is None or not isinstance(layer, Composition):
        return {}
    return {"tap": lambda inside, value: tap((*path, *inside), value)}


def subkey(key: jax.Array | None, index: int | jax.Array) -> jax.Array | None:
    """The key of the ``index``-th layer inside."""
    return None if key is None else jax.random.fold_in(threefry("apply", key), index)


def entry(tree: dict[str, Any], name: str, kind: str = "parameter") -> Any:
    """``tree[name]``, or an error that says what there is."""
    if name not in tree:
        raise ValueError(
            f"{kind} `{name}` is missing; found {sorted(tree) or 'none'} (use what `init` returned)"
        )
    return tree[name]
