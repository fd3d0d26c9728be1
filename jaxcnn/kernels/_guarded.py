"""A fast kernel whose result stands where it is finite; where it is not, the convolution itself
says what is NaN, what infinite, and what neither.

Winograd's sums mix the pixels of a tile: one NaN or infinite number makes NaN of results that do
not see it, and sums between input and result can overflow where those of the convolution do not.
Either always leaves something in the result that is not finite, so the result alone needs to be
asked, once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn._core.cotangent import match_varying

Product = Callable[[jax.Array, jax.Array], jax.Array]


def guarded(fast: Product, exact: Product) -> Product:
    """``fast``, or ``exact`` where ``fast`` gives a number that is not finite. It can be compiled
    but not differentiated.

    A loop of one round or none, not a condition: that would copy the result.
    """

    def product(left: jax.Array, right: jax.Array) -> jax.Array:
        def again(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            # Held with what changes in the loop, so that no compiler computes it before the loop
            _, held_left, held_right = lax.optimization_barrier((state[0], left, right))
            return done, exact(held_left, held_right)

        y = fast(left, right)
        done = match_varying(jnp.array(False), y)
        return lax.while_loop(lambda state: state[0], again, (~finite(y), y))[1]

    return product


def finite(y: jax.Array) -> jax.Array:
    """Whether there is no NaN and no infinity in ``y``: a sum that cannot overflow, as a matrix
    product, which takes a third of the time that asking each number takes."""
    rows = y.reshape(-1, y.shape[-1])
    return jnp.isfinite((rows @ jnp.full(y.shape[-1], 1e-30, y.dtype)).sum())
