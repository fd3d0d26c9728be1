"""The squared norm of each example's own gradient, without forming it (Goodfellow 2015).

The gradient of a weight is a sum of outer products, one for each place p of an example: g[n] = Σ_p a[n,p] b[n,p]ᵀ. Its squared norm is

    ‖g[n]‖² = Σ_{p,q} (a[n,p]·a[n,q]) (b[n,p]·b[n,q])

which for one place is ‖a‖²‖b‖², and for few places far less work than g itself.

>>> import jax.numpy as jnp
>>> a, b = jnp.array([[[3.0, 4.0]]]), jnp.array([[[2.0]]])
>>> of_outer_products(a, b)
Array([100.], dtype=float32)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn.wide import wide


def of_rows(g: jax.Array) -> jax.Array:
    """Σ g² over all axes but the first; 16-bit numbers are added in float32."""
    return jnp.square(wide(g)).sum(tuple(range(1, g.ndim)))


def of_outer_products(a: jax.Array, b: jax.Array) -> jax.Array:
    """‖Σ_p a[n,p] b[n,p]ᵀ‖² of a (n, p, i) and b (n, p, o): (n,), by whichever of the two roads is shorter."""
    a, b = wide(a), wide(b)
    places, i, o = a.shape[1], a.shape[2], b.shape[2]
    if places == 1:
        return of_rows(a) * of_rows(b)
    if places * (i + o) < i * o:
        return (jnp.einsum("npi,nqi->npq", a, a) * jnp.einsum("npo,nqo->npq", b, b)).sum((1, 2))
    return of_rows(jnp.einsum("npi,npo->nio", a, b))


def by_example(backward: Callable[..., tuple[Any, ...]], own: Any) -> Callable[..., tuple[Any, ...]]:
    """The plain road, for parameters as small as a channel: ``backward`` of each example alone.

    ``own`` has the tree of the residuals, and says which of them have a row for each example.
    """

    def squares(residuals: Any, dy: jax.Array, /, **settings: Any) -> tuple[Any, ...]:
        alone = jax.tree.map(lambda is_own, kept: kept[:, None] if is_own else kept, own, residuals)
        axes = jax.tree.map(lambda is_own: 0 if is_own else None, own)
        _, *cotangents = jax.vmap(lambda kept, d: backward(kept, d, **settings), (axes, 0))(alone, dy[:, None])
        return None, *map(of_rows, cotangents)

    return squares
