"""The norm of each example's own gradient, without forming it (Goodfellow 2015).

The gradient of a weight is a sum of outer products, one for each place p of an example: g[n] = Σ_p
a[n,p] b[n,p]ᵀ. Its squared norm is

    ‖g[n]‖² = Σ_{p,q} (a[n,p]·a[n,q]) (b[n,p]·b[n,q])

which for one place is ‖a‖²‖b‖², and for few places far less work than g itself.

Numbers are scaled by a power of 2 before they are squared: the square of 1e-23 is no float32, the
norm is. 0 has the norm 0, what is infinite ∞, NaN NaN.

>>> import jax.numpy as jnp
>>> a, b = jnp.array([[[3.0, 4.0]]]), jnp.array([[[2e-25]]])
>>> of_outer_products(a, b), of_rows(jnp.array([[3e30, 4e30], [0.0, 0.0]]))
(Array([1.e-24], dtype=float32), Array([5.e+30, 0.e+00], dtype=float32))
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn._core.upcast import upcast


def of_rows(g: jax.Array) -> jax.Array:
    """‖g[n]‖ over all axes but the first; 16-bit numbers are added in float32."""
    axes = tuple(range(1, g.ndim))
    scaled, exponent = _scaled(upcast(g), axes)
    return _by_power(jnp.sqrt(jnp.square(scaled).sum(axes)), exponent.reshape(-1))


def of_outer_products(a: jax.Array, b: jax.Array) -> jax.Array:
    """‖Σ_p a[n,p] b[n,p]ᵀ‖ of a (n, p, i) and b (n, p, o): (n,), by whichever of the two roads is
    shorter."""
    a, b = upcast(a), upcast(b)
    places, i, o = a.shape[1], a.shape[2], b.shape[2]
    if places == 1:
        return of_rows(a) * of_rows(b)
    if places * (i + o) >= i * o:
        return of_rows(jnp.einsum("npi,npo->nio", a, b))
    # each place by itself, so that a large a beside a small b is as good as two of middle size
    (a, of_a), (b, of_b) = _scaled(a, (2,)), _scaled(b, (2,))
    exponent = of_a + of_b
    largest = exponent.max(1, keepdims=True)
    a = _by_power(a, exponent - largest)
    squares = jnp.einsum("npi,nqi->npq", a, a) * jnp.einsum("npo,nqo->npq", b, b)
    # where terms cancel, rounding may leave less than 0
    return _by_power(jnp.sqrt(jnp.maximum(squares.sum((1, 2)), 0)), largest.reshape(-1))


def by_example(
    backward: Callable[..., tuple[Any, ...]],
    own: Any,
    residuals: Any,
    dy: jax.Array,
    /,
    **settings: Any,
) -> tuple[Any, ...]:
    """The plain way, for parameters as small as a channel: ``backward`` of each example alone.

    ``own`` has the tree of the residuals, and says which of them have a row for each example.
    """
    alone = jax.tree.map(lambda is_own, kept: kept[:, None] if is_own else kept, own, residuals)
    axes = jax.tree.map(lambda is_own: 0 if is_own else None, own)
    _, *cotangents = jax.vmap(lambda kept, d: backward(kept, d, **settings), (axes, 0))(
        alone, dy[:, None]
    )
    return None, *map(of_rows, cotangents)


def of_all(array: jax.Array) -> jax.Array:
    """‖array‖ over all axes: one number, 0 if there are none."""
    return of_rows(array[None]).reshape(())


def _scaled(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """``x`` / 2^e and e, for which the largest number along ``axes`` is between ½ and 1; e is 0
    where that is 0 or not finite."""
    largest = jnp.abs(x).max(axes, keepdims=True, initial=0)
    exponent = jnp.frexp(jnp.where(jnp.isfinite(largest), largest, 0))[1]
    return _by_power(x, -exponent), exponent


def _by_power(x: jax.Array, exponent: jax.Array) -> jax.Array:
    """``x`` · 2^exponent, in two steps, as 2^exponent alone may be out of range."""
    half = exponent // 2
    one = jnp.ones((), x.dtype)
    return x * jnp.ldexp(one, half) * jnp.ldexp(one, exponent - half)
