"""Convolution as matrix products over a few images at a time, for CPUs.

    cols[n,p,(k,i)] = x[n, p·s + k·d − lo, i]          what every tap reads, side by side
    y  = cols W          W[(k,i),o] = w[k,i,o]
    dx = the adjoint of cols, applied to dy Wᵀ
    dW = colsᵀ dy

Over the whole batch the columns would fall out of the cache and this would be slower than the convolution of XLA; in blocks of about 3 MB it is faster (see
README.md beside this file). dx multiplies no zeros, whatever the stride. Every step is an ordinary JAX op, so it batches, shards by ``shard_map`` and
differentiates again.
"""

import math

import jax
import jax.numpy as jnp

from jaxcnn.kernels import blocks
from jaxcnn.window import Window, add_taps, taps_of

BLOCK_BYTES = 3 * 2**20
LEAST_CHANNELS = 32


def suits(product: str, x: jax.Array, window: Window, inputs: int, outputs: int, groups: int) -> bool:
    """Whether ``product``, a function of this module by name, may be taken and pays: enough work, one group, and channels enough but for the weights."""
    wide = product == "weight_gradient" or min(inputs, outputs) >= LEAST_CHANNELS
    return wide and groups == 1 and blocks.enough(x, window, inputs * outputs) and blocks.in_reach(x)


def columns(x: jax.Array, window: Window) -> jax.Array:
    """(n, *cells, i) → (n, *places, taps·i)."""
    return jnp.concatenate([seen for _, seen in taps_of(x, window)], axis=-1)


def correlate(x: jax.Array, w: jax.Array, *, window: Window, block: int | None = None) -> jax.Array:
    """y = cols W."""
    matrix = w.reshape(-1, w.shape[-1])
    return blocks.over(lambda part: columns(part, window) @ matrix, x, _count(x, w.shape[-2], window, block))


def input_gradient(dy: jax.Array, w: jax.Array, *, window: Window, block: int | None = None) -> jax.Array:
    """dx: each tap's share of dy Wᵀ laid over the cells that it read."""
    inputs = w.shape[-2]
    matrix = w.reshape(-1, w.shape[-1]).T

    def one(part: jax.Array) -> jax.Array:
        shares = part @ matrix
        taps = enumerate(window.offsets())
        return add_taps(((tap, shares[..., t * inputs : (t + 1) * inputs]) for t, tap in taps), window)

    return blocks.over(one, dy, _count(dy, inputs, window, block))


def weight_gradient(x: jax.Array, dy: jax.Array, *, window: Window, block: int | None = None) -> jax.Array:
    """dW = colsᵀ dy, summed over blocks. dy stands on the left: XLA's product is half as fast again that way round."""
    inputs, outputs = x.shape[-1], dy.shape[-1]

    def product(x: jax.Array, dy: jax.Array) -> jax.Array:
        cols = columns(x, window).reshape(-1, math.prod(window.taps) * inputs)
        return dy.reshape(-1, outputs).T @ cols

    total = blocks.total(product, x, dy, _count(x, inputs, window, block))
    return total.T.reshape(*window.taps, inputs, outputs)


def _count(x: jax.Array, inputs: int, window: Window, block: int | None) -> int:
    """So many blocks that the columns of one stay in the cache; ``block`` images in each, if that is given."""
    an_image = math.prod(window.places) * math.prod(window.taps) * inputs * x.dtype.itemsize
    return blocks.most(x.shape[0], block or BLOCK_BYTES / an_image)
