"""What a forward keeps for its backward, counted exactly: the forward is traced, and each array
among the residuals is one variable of its jaxpr.

An array that is also an input or output costs nothing of its own; one that two layers keep costs
once.

>>> import jax.numpy as jnp
>>> from jaxcnn import ops
>>> kept = trace(ops.max_pool.forward, jnp.ones((1, 4, 4, 1)))
>>> size(kept.own)                 # one byte for each of 4 outputs
4
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Kept:
    """Variables of a traced forward: its inputs, its outputs, and the tree of its residuals."""

    inputs: frozenset[Any]
    outputs: frozenset[Any]
    residuals: Any

    @property
    def own(self) -> frozenset[Any]:
        """Residuals that are neither input nor output."""
        return arrays(self.residuals) - self.inputs - self.outputs


def trace(forward: Callable[..., tuple[Any, Any]], *args: Any, **settings: Any) -> Kept:
    """Trace ``forward(*args, **settings) -> (y, residuals)``; ``args`` may be shapes
    (``jax.ShapeDtypeStruct``)."""
    jaxpr, shapes = jax.make_jaxpr(lambda *a: forward(*a, **settings), return_shape=True)(*args)
    y, residuals = jax.tree.structure(shapes).unflatten(jaxpr.jaxpr.outvars)
    return Kept(frozenset(jaxpr.jaxpr.invars), arrays(y), residuals)


def arrays(tree: Any) -> frozenset[Any]:
    """The variables of a tree, literals (numbers written into the program) left out."""
    return frozenset(leaf for leaf in jax.tree.leaves(tree) if not hasattr(leaf, "val"))


def size(variables: frozenset[Any]) -> int:
    """Their bytes."""
    return sum(v.aval.size * v.aval.dtype.itemsize for v in variables)
