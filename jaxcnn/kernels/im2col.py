"""Convolution as matrix products over a few images at a time, for CPUs.

    cols[n,p,(k,i)] = x[n, p·s + k·d − lo, i]          what every tap reads, side by side
    y  = cols W          W[(k,i),o] = w[k,i,o]
    dx = the adjoint of cols, applied to dy Wᵀ
    dW = colsᵀ dy

Over the whole batch the columns would fall out of the cache and this would be slower than the convolution of XLA; in blocks of about 3 MB it is faster (see
README.md beside this file). dx multiplies no zeros, whatever the stride. Every step is an ordinary JAX op, so it batches, shards by ``shard_map`` and
differentiates again.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.cotangent import match_varying, varying
from jaxcnn.window import Window, add_taps, taps_of

BLOCK_BYTES = 3 * 2**20
LEAST_PRODUCTS = 10**6


def suits(x: jax.Array, window: Window, weights: int, groups: int) -> bool:
    """Whether the blocked form may be used: enough work to pay (``weights`` is the size of the kernel), one group, 32 or 64 bits, and a batch
    that is not cut up by a mesh.
    """
    products = x.shape[0] * math.prod(window.places) * weights
    whole = jax.typeof(x).sharding.mesh.empty or bool(varying(x))
    return groups == 1 and products >= LEAST_PRODUCTS and x.dtype.itemsize >= 4 and whole


def columns(x: jax.Array, window: Window) -> jax.Array:
    """(n, *cells, i) → (n, *places, taps·i)."""
    return jnp.concatenate([seen for _, seen in taps_of(x, window)], axis=-1)


def correlate(x: jax.Array, w: jax.Array, *, window: Window, block: int | None = None) -> jax.Array:
    """y = cols W."""
    matrix = w.reshape(-1, w.shape[-1])
    return _over_blocks(
        lambda part: columns(part, window) @ matrix, x, block or block_size(w.shape[-2], window, w.dtype)
    )


def input_gradient(dy: jax.Array, w: jax.Array, *, window: Window, block: int | None = None) -> jax.Array:
    """dx: each tap's share of dy Wᵀ laid over the cells that it read."""
    inputs = w.shape[-2]
    matrix = w.reshape(-1, w.shape[-1]).T

    def one(part: jax.Array) -> jax.Array:
        shares = part @ matrix
        taps = enumerate(window.offsets())
        return add_taps(((tap, shares[..., t * inputs : (t + 1) * inputs]) for t, tap in taps), window)

    return _over_blocks(one, dy, block or block_size(w.shape[-2], window, w.dtype))


def weight_gradient(x: jax.Array, dy: jax.Array, *, window: Window, block: int | None = None) -> jax.Array:
    """dW = colsᵀ dy, summed over blocks. dy stands on the left: XLA's product is half as fast again that way round."""
    inputs, outputs = x.shape[-1], dy.shape[-1]
    size = block or block_size(inputs, window, x.dtype)

    def product(x: jax.Array, dy: jax.Array) -> jax.Array:
        cols = columns(x, window).reshape(-1, math.prod(window.taps) * inputs)
        return dy.reshape(-1, outputs).T @ cols

    if x.shape[0] <= size:
        total = product(x, dy)
    else:
        zero = match_varying(jnp.zeros((outputs, math.prod(window.taps) * inputs), x.dtype), x, dy)
        blocks = _blocks(x, size), _blocks(dy, size)  # zeros fill the last block up, and add nothing
        total, _ = lax.scan(lambda total, part: (total + product(*part), None), zero, blocks)
    return total.T.reshape(*window.taps, inputs, outputs)


def block_size(inputs: int, window: Window, dtype: jnp.dtype) -> int:
    """So many images that their columns stay in the cache."""
    an_image = math.prod(window.places) * math.prod(window.taps) * inputs * dtype.itemsize
    return max(1, BLOCK_BYTES // an_image)


def _over_blocks(one: Callable[[jax.Array], jax.Array], x: jax.Array, size: int) -> jax.Array:
    if x.shape[0] <= size:
        return one(x)
    done = lax.map(one, _blocks(x, size))
    return done.reshape(-1, *done.shape[2:])[: x.shape[0]]


def _blocks(x: jax.Array, size: int) -> jax.Array:
    """(n, …) → (blocks, ≤ size, …): equal blocks if n allows, else near-equal ones, the last filled up with zeros."""
    even = next(b for b in range(size, 0, -1) if x.shape[0] % b == 0)
    count = x.shape[0] // even if 2 * even > size else -(-x.shape[0] // size)
    size = -(-x.shape[0] // count)
    filled = jnp.pad(x, [(0, count * size - x.shape[0]), *[(0, 0)] * (x.ndim - 1)])
    return filled.reshape(count, size, *x.shape[1:])


def on_cpu(
    fast: Callable[..., jax.Array], plain: Callable[..., jax.Array], *arrays: jax.Array, window: Window
) -> jax.Array:
    """``fast`` on CPUs, ``plain`` elsewhere; the platform is known only when the program is lowered."""
    return lax.platform_dependent(*arrays, cpu=functools.partial(fast, window=window), default=plain)
