"""What is checked: a function, the inputs it is checked at, and (if there is one) a reference that says what is right.

Inputs and outputs may be any pytrees. Only floating-point leaves are differentiated; they are named by their path (``args[0]['conv1']['kernel']``).
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Arrays = list[Any]


@dataclasses.dataclass(frozen=True)
class Subject:
    """``f`` and ``reference`` as functions of ``args``; ``batched`` says which positions have a leading batch axis."""

    f: Callable[..., Any]
    args: tuple[Any, ...]
    reference: Callable[..., Any] | None = None
    batched: tuple[int, ...] = (0,)

    @functools.cached_property
    def names(self) -> list[str]:
        """The path of each differentiable leaf."""
        paths, _ = jax.tree_util.tree_flatten_with_path(self.args)
        return [f"args{jax.tree_util.keystr(path)}" for path, leaf in paths if differentiable(leaf)]

    @functools.cached_property
    def leaves(self) -> Arrays:
        """The differentiable leaves."""
        return [leaf for leaf in jax.tree.leaves(self.args) if differentiable(leaf)]

    def primal(self, f: Callable[..., Any]) -> Callable[[Arrays], Arrays]:
        """``f`` as a function from the differentiable leaves of its inputs to those of its output."""

        def call(leaves: Arrays) -> Arrays:
            return floating_outputs(f(*self.rebuild(leaves)))

        return call

    def rebuild(self, leaves: Arrays) -> tuple[Any, ...]:
        """``args`` with its differentiable leaves replaced."""
        everything, tree = jax.tree.flatten(self.args)
        fresh = iter(leaves)
        return tree.unflatten([next(fresh) if differentiable(leaf) else leaf for leaf in everything])

    def pull(self, f: Callable[..., Any]) -> Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]:
        """(leaves, cotangents) ↦ (value, gradient) of ``f`` by ``jax.vjp``."""

        def value_and_pull(leaves: Arrays, cotangents: Arrays) -> tuple[Arrays, Arrays]:
            value, pull = jax.vjp(self.primal(f), leaves)
            return value, pull(cotangents)[0]

        return value_and_pull

    def cotangents(self, seed: int) -> Arrays:
        """Random cotangents, shaped like the outputs."""
        shapes = jax.eval_shape(self.primal(self.f), self.leaves)
        return random_like(shapes, seed)

    def astype(self, dtype: Any) -> "Subject":
        """The same subject with its floating inputs cast."""
        cast = [jnp.asarray(leaf, dtype) for leaf in self.leaves]
        return dataclasses.replace(self, args=self.rebuild(cast))


def differentiable(leaf: Any) -> bool:
    """Whether ``leaf`` is a floating-point array."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def floating_outputs(value: Any) -> Arrays:
    return [leaf for leaf in jax.tree.leaves(value) if differentiable(leaf)]


def random_like(shapes: Sequence[Any], seed: int) -> Arrays:
    """Normal numbers of the given shapes and dtypes."""
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(s.shape), s.dtype) for s in shapes]
