"""Functions that are right on a part of the space only: on rows that sum to 1, on unit vectors, on
symmetric matrices.

Such a function is checked as f ∘ P, with P the projection onto its domain: every step that a check
takes stays inside, and of the gradient what counts is its part along the domain.

>>> import numpy as np
>>> fits(np.array([0.2, 0.3, 0.5])), fits(np.eye(3) + 1), fits(np.ones(3))
(['simplex'], ['symmetric'], [])
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.verify._subject import differentiable, widest

Name = Literal["simplex", "symmetric", "unit"]
Domain = Name | Callable[..., Any]
NEAR = 1e-5  # what float32 makes of a sum that should be 1


def simplex(x: Any) -> Any:
    """Rows (along the last axis) that sum to 1."""
    return x - (x.sum(-1, keepdims=True) - 1) / x.shape[-1]


def symmetric(x: Any) -> Any:
    """Matrices that equal their transpose."""
    return (x + jnp.swapaxes(x, -1, -2)) / 2


def unit(x: Any) -> Any:
    """Vectors (along the last axis) of length 1."""
    return x / jnp.sqrt((x * x).sum(-1, keepdims=True))


PROJECTIONS: dict[str, Callable[[Any], Any]] = {
    "simplex": simplex,
    "symmetric": symmetric,
    "unit": unit,
}


def fits(x: Any) -> list[str]:
    """The domains that an array lies in, for a start; () where it is too small to tell."""
    a = widest(x)
    if a.ndim == 0 or a.shape[-1] < 2 or np.iscomplexobj(a) or not np.isfinite(a).all():
        return []
    found = []
    if (a >= 0).all() and np.abs(a.sum(-1) - 1).max() < NEAR:
        found.append("simplex")
    square = a.ndim >= 2 and a.shape[-1] == a.shape[-2]
    if square and np.abs(a - np.swapaxes(a, -1, -2)).max() <= NEAR * np.abs(a).max():
        found.append("symmetric")
    if np.abs((a * a).sum(-1) - 1).max() < NEAR:
        found.append("unit")
    return found


def inside(f: Callable[..., Any], domain: Domain, args: Sequence[Any]) -> Callable[..., Any]:
    """``f`` of projected arguments: by a function, which takes and returns all of them; or by
    name those arrays that lie in that domain at ``args``. Raises ValueError where none does."""
    if callable(domain):

        def all_projected(*args: Any) -> Any:
            found = domain(*args)
            return f(*(found if isinstance(found, tuple) else (found,)))

        return all_projected
    if domain not in PROJECTIONS:
        raise ValueError(
            f"check: there is no domain {domain!r}; choose from {', '.join(PROJECTIONS)}, or give a"
            " projection of all arguments"
        )
    chosen = [
        differentiable(leaf) and domain in fits(leaf) for leaf in jax.tree.leaves(tuple(args))
    ]
    if not any(chosen):
        raise ValueError(f"check: no argument lies in domain={domain!r} at this point")

    def projected(*args: Any) -> Any:
        leaves, tree = jax.tree.flatten(args)
        moved = [
            PROJECTIONS[domain](leaf) if own else leaf
            for own, leaf in zip(chosen, leaves, strict=True)
        ]
        return f(*tree.unflatten(moved))

    return projected
