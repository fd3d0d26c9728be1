"""What an op is proven on: drawn inputs, settings, points where the derivative jumps, and calls
that must be refused.

A case is data. The test suite, the benchmark and the README's table are loops over the cases of
:data:`jaxcnn.ops.OPS`, so that a new op brings its own proof in its own file.

>>> case = Case("a row", (normal(2, 3), integers(2, high=3)))
>>> [array.shape for array in case.draw(seed=0)]
[(2, 3), (2,)]
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

Kind = Literal["normal", "distinct", "rows", "integers", "key", "values"]


@dataclasses.dataclass(frozen=True)
class Draw:
    """A recipe for one input array; the module's functions of the same names make them."""

    kind: Kind
    shape: tuple[int, ...]
    scale: float = 1.0
    high: int = 0
    values: Any = None

    def sample(self, rng: np.random.Generator, batch: int | None) -> Any:
        """A NumPy array (float64 or int32) or a key; ``batch`` replaces the length of the leading
        axis."""
        shape = self.shape if batch is None else (batch, *self.shape[1:])
        if self.kind == "key":
            one = jax.random.key(int(rng.integers(2**31)))
            return jax.random.split(one, shape) if self.shape else one
        if self.kind == "values":
            literal = np.asarray(self.values)
            return literal if batch is None else np.resize(literal, (batch, *literal.shape[1:]))
        if self.kind == "integers":
            return rng.integers(self.high, size=shape, dtype=np.int32)
        if self.kind == "distinct":
            count = math.prod(shape)
            return self.scale * rng.permutation(
                np.linspace(-1.0, 1.0, count) + 0.5 / count
            ).reshape(shape)
        if self.kind == "rows":
            weights = rng.uniform(0.1, 1.0, size=shape)
            return self.scale * weights / weights.sum(-1, keepdims=True)
        return self.scale * rng.standard_normal(shape)


def normal(*shape: int, scale: float = 1.0) -> Draw:
    """Independent normal numbers."""
    return Draw("normal", shape, scale)


def distinct(*shape: int, scale: float = 1.0) -> Draw:
    """Evenly spaced numbers in random order: none is 0 and no two are close, so that no kink or tie
    is near."""
    return Draw("distinct", shape, scale)


def rows(*shape: int, scale: float = 1.0) -> Draw:
    """Positive rows that sum to ``scale``."""
    return Draw("rows", shape, scale)


def integers(*shape: int, high: int) -> Draw:
    """Integers in [0, high)."""
    return Draw("integers", shape, high=high)


def key(*shape: int) -> Draw:
    """A random key, or an array of keys."""
    return Draw("key", shape)


def values(literal: Any) -> Draw:
    """These very numbers."""
    return Draw("values", np.shape(literal), values=literal)


@dataclasses.dataclass(frozen=True)
class Case:
    """Inputs and settings on which an op must agree with its reference.

    ``batched`` names (by position) the inputs whose leading axis is the batch; ``ulps`` is how many
    units in its own last place each component may be off in float32, small ones beside large ones
    too (0: not claimed).
    """

    label: str
    inputs: tuple[Draw | None, ...]
    static: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    batched: tuple[int, ...] = (0,)
    ulps: float = 0.0

    def draw(self, seed: int, dtype: Any = np.float32, batch: int | None = None) -> tuple[Any, ...]:
        """The inputs as arrays: floating ones in ``dtype``, with ``batch`` examples if given."""
        rng = np.random.default_rng(seed)
        drawn = []
        for position, recipe in enumerate(self.inputs):
            value = (
                None
                if recipe is None
                else recipe.sample(rng, batch if position in self.batched else None)
            )
            floating = isinstance(value, np.ndarray) and value.dtype.kind == "f"
            drawn.append(
                jnp.asarray(value, dtype)
                if floating
                else value
                if value is None
                else jnp.asarray(value)
            )
        return tuple(drawn)


@dataclasses.dataclass(frozen=True)
class Kink:
    """A point where the derivative jumps, with the value that the op's convention gives it.

    ``gradient`` is the cotangent of the first input for a cotangent of ones.
    """

    label: str
    inputs: tuple[Any, ...]
    gradient: Any
    static: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Bad:
    """A call that must be refused before anything is computed, with the words that its message must
    contain. Its inputs are arrays, or recipes for them."""

    label: str
    inputs: tuple[Any, ...]
    message: str
    static: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    error: type[Exception] = ValueError


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """An array for a :class:`Bad` call, where only shape and dtype count."""
    return np.zeros(shape, dtype)
