"""What the corpus is made of: a gradient rule, arguments that show what it does, and what is
right."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# The checks that find a plainly wrong gradient: with a reference the first, without one the second.
GRADIENT = ("gradient", "finite differences")
LINEAR = (*GRADIENT, "adjoint")
AT_KINK = ("gradient", "kinks", "finite differences")


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule and its label.

    Attributes:
        name: unique in the corpus.
        f, args: the function and where it is checked.
        reference: the same function in plain JAX, or one whose ``jax.vjp`` is what is wanted.
        check: for a wrong rule, the checks any of which may be the first to fail.
        cause: for a wrong rule, what a guess at the cause must contain (empty if the numbers do not
            show it).
        needs: ``"reference"`` if the rule can only be judged against its reference.
        note: what is particular about it.
        single: cannot run in float64.
    """

    name: str
    f: Callable[..., Any]
    args: tuple[Any, ...]
    reference: Callable[..., Any]
    check: tuple[str, ...] = ()
    cause: str = ""
    needs: str = ""
    note: str = ""
    single: bool = False


def rule(
    forward: Callable[..., Any], backward: Callable[..., Any], nondiff_argnums: tuple[int, ...] = ()
) -> Callable[..., Any]:
    """The ``jax.custom_vjp`` of ``forward(*args) -> (y, residuals)`` and
    ``backward(residuals, dy)``."""

    def f(*args: Any) -> Any:
        return forward(*args)[0]

    f.__name__ = f.__qualname__ = getattr(forward, "__name__", "f").removesuffix("_forward")
    wired = jax.custom_vjp(f, nondiff_argnums=nondiff_argnums)
    wired.defvjp(forward, backward)
    return wired


def normal(seed: int, *shape: int, scale: float = 1.0) -> jax.Array:
    """Fixed normal numbers in float32."""
    return jnp.asarray(scale * np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def uniform(seed: int, *shape: int, low: float = 0.0, high: float = 1.0) -> jax.Array:
    """Fixed uniform numbers in float32."""
    return jnp.asarray(np.random.default_rng(seed).uniform(low, high, shape), jnp.float32)


def array(*numbers: Any) -> jax.Array:
    """These numbers in float32."""
    return jnp.asarray(numbers, jnp.float32)
