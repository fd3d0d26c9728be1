"""Layers that behave differently in training, or start from a state: batch norm, dropout, and the
recurrent layer.

>>> import jax, jax.numpy as jnp
>>> layer = batch_norm(momentum=0.5)
>>> params, state = layer.init(jax.random.key(0), (1,))
>>> _, state = layer.apply(params, state, jnp.array([[1.0], [3.0]]), train=True)
>>> {name: array.tolist() for name, array in state.items()}
{'mean': [1.0], 'var': [1.0]}
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import initializers

from jaxcnn import ops
from jaxcnn._core.cotangent import Static, first_example, varying
from jaxcnn._core.errors import setting_error
from jaxcnn._core.keys import threefry
from jaxcnn._core.op import AnyOp
from jaxcnn.layers._chain import Initializer
from jaxcnn.layers._layer import Layer, Params, State, entry


@dataclasses.dataclass(frozen=True, eq=False)
class BatchNorm(Layer):
    """Statistics of the batch in training, running averages otherwise: running ← momentum · running
    + (1 − momentum) · batch."""

    momentum: float
    across_devices: bool
    train_op: AnyOp
    frozen_op: AnyOp

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[Params, State]:
        shape = input_shape[-1:]
        return {"scale": jnp.ones(shape), "shift": jnp.zeros(shape)}, {
            "mean": jnp.zeros(shape),
            "var": jnp.ones(shape),
        }

    def forward(
        self,
        params: Params,
        state: State,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[tuple[jax.Array, State], Any]:
        affine = entry(params, "scale"), entry(params, "shift")
        running = {name: entry(state, name, "state") for name in ("mean", "var")}
        if not train:
            y, saved = self.frozen_op.run(x, *affine, running["mean"], running["var"])
            return (y, state), (Static(False), saved)
        across = tuple(sorted(varying(x))) if self.across_devices else ()
        (y, mean, var), saved = self.train_op.run(x, *affine, across=across)
        if not math.prod(x.shape[:-1]):  # nothing was seen, and its mean is NaN
            return (y, state), (Static(True), saved)
        keep = self.momentum
        new = {
            "mean": keep * running["mean"] + (1 - keep) * mean,
            "var": keep * running["var"] + (1 - keep) * var,
        }
        new = {name: value.astype(running[name].dtype) for name, value in new.items()}
        return (y, lax.stop_gradient(new)), (Static(True), saved)

    def backward(self, residuals: Any, dy: jax.Array) -> tuple[Params, jax.Array]:
        was_training, saved = residuals
        if was_training.value:
            _, (_, (_, like_mean, like_var)), _ = saved
            nothing = tuple(
                jnp.zeros(like.value.shape, like.value.dtype) for like in (like_mean, like_var)
            )
            dx, dscale, dshift = self.train_op.pull(saved, (dy, *nothing))
        else:
            dx, dscale, dshift, _, _ = self.frozen_op.pull(saved, dy)
        return {"scale": dscale, "shift": dshift}, dx

    def example_norms(self, residuals: Any, dy: jax.Array) -> Params:
        was_training, saved = residuals
        if was_training.value:
            raise TypeError(
                "batch_norm: in training it mixes the examples of a batch, so none has a gradient"
                " of its own; use train=False, or group_norm"
            )
        return dict(
            zip(("scale", "shift"), self.frozen_op.example_norms(saved, dy)[1:3], strict=True)
        )


def batch_norm(
    *, momentum: float = 0.9, eps: float = 1e-5, across_devices: bool = True
) -> BatchNorm:
    """Batch norm over all axes but the last; parameters ``scale`` and ``shift``, state ``mean`` and
    ``var`` (biased).

    A batch without an example leaves the running averages as they were.

    Where ``shard_map`` cuts up the batch, the statistics are those of the whole batch, or, without
    ``across_devices``, of each device's part."""
    if not 0 <= momentum <= 1:
        raise setting_error("batch_norm", "momentum", "a number in [0, 1]", momentum)
    return BatchNorm(
        momentum, across_devices, ops.batch_norm.using(eps=eps), ops.frozen_norm.using(eps=eps)
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Dropout(Layer):
    """Silent outside training."""

    op: AnyOp

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[Params, State]:
        return {}, {}

    def forward(
        self,
        params: Params,
        state: State,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[tuple[jax.Array, State], Any]:
        if not train:
            return (x, state), None
        if key is None:
            raise ValueError(
                "dropout: `key` is needed in training; pass key=jax.random.key(seed) to forward or"
                " apply"
            )
        # By the example's place in the whole batch, so that a device with a part of it draws what
        # one with all of it would
        keys = jax.vmap(jax.random.fold_in, (None, 0))(
            threefry("dropout", key), first_example(x) + jnp.arange(len(x))
        )
        y, saved = self.op.run(x, keys)
        return (y, state), saved

    def backward(self, residuals: Any, dy: jax.Array) -> tuple[Params, jax.Array]:
        return {}, dy if residuals is None else self.op.pull(residuals, dy)[0]

    def example_norms(self, residuals: Any, dy: jax.Array) -> Params:
        return {}


def dropout(rate: float) -> Dropout:
    """Each number silenced with probability ``rate`` in training."""
    if not 0 <= rate < 1:
        raise setting_error("dropout", "rate", "a number in [0, 1)", rate)
    return Dropout(ops.dropout.using(rate=rate))


@dataclasses.dataclass(frozen=True, eq=False)
class Rnn(Layer):
    """h[t] = f(x[t] wx + h[t−1] wh + b) from h[0] = 0; x (n, t, i) → all states (n, t,
    features)."""

    features: int
    op: AnyOp
    recurrent_init: Initializer

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[Params, State]:
        if len(input_shape) != 2:
            raise ValueError(
                "rnn: needs inputs of shape (steps, features) without the batch, got"
                f" {tuple(input_shape)}"
            )
        key_x, key_h = jax.random.split(threefry("init", key))
        wx = initializers.glorot_uniform()(key_x, (input_shape[-1], self.features))
        wh = self.recurrent_init(key_h, (self.features, self.features))
        return {"wx": wx, "wh": wh, "bias": jnp.zeros(self.features)}, {}

    def forward(
        self,
        params: Params,
        state: State,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[tuple[jax.Array, State], Any]:
        h0 = jnp.zeros((x.shape[0], self.features), x.dtype)
        y, saved = self.op.run(
            x, h0, entry(params, "wx"), entry(params, "wh"), entry(params, "bias")
        )
        return (y, state), saved

    def backward(self, residuals: Any, dy: jax.Array) -> tuple[Params, jax.Array]:
        dx, _, dwx, dwh, db = self.op.pull(residuals, dy)
        return {"wx": dwx, "wh": dwh, "bias": db}, dx

    def example_norms(self, residuals: Any, dy: jax.Array) -> Params:
        return dict(
            zip(("wx", "wh", "bias"), self.op.example_norms(residuals, dy)[2:], strict=True)
        )


def orthogonal(key: jax.Array, shape: tuple[int, ...], dtype: Any = None) -> jax.Array:
    return initializers.orthogonal()(key, shape, dtype)


def rnn(
    features: int, *, activation: str = "tanh", recurrent_init: Initializer | None = None
) -> Rnn:
    """A recurrent layer; parameters ``wx``, ``wh`` (starts orthogonal, if nothing else is given)
    and ``bias``."""
    return Rnn(features, ops.rnn.using(activation=activation), recurrent_init or orthogonal)
