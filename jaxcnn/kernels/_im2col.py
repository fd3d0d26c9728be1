"""Convolution as matrix products over a few images at a time, for CPUs.

    cols[n,p,(k,i)] = x[n, p·s + k·d − lo, i]          what every tap reads, side by side
    y  = cols W          W[(k,i),o] = w[k,i,o]
    dx = the adjoint of cols, applied to dy Wᵀ
    dW = colsᵀ dy

Over the whole batch the columns would fall out of the cache and this would be slower than the
convolution of XLA; in blocks of about 3 MB it is faster (see README.md beside this file). dx
multiplies no zeros, whatever the stride. Every step is an ordinary JAX op, so it batches, shards by
``shard_map`` and differentiates again."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn._core.norms import of_outer_products, of_rows
from jaxcnn._core.window import Window, add_taps
from jaxcnn.kernels import _blocks as blocks
from jaxcnn.kernels._implementation import Implementation, Kind

BLOCK_BYTES = 3 * 2**20
LEAST_CHANNELS = 32


def suits(kind: Kind, x: jax.Array, window: Window, inputs: int, outputs: int, groups: int) -> bool:
    """Whether the product pays: enough work, and many channels unless XLA's convolution is slow at
    it."""
    slow = kind == "weight_gradient" or max(window.stride) > 1 or math.prod(window.taps) == 1
    return (slow or min(inputs, outputs) >= LEAST_CHANNELS) and blocks.enough(
        x, window, inputs * outputs
    )


def columns(x: jax.Array, window: Window) -> jax.Array:
    """(n, *cells, i) → (n, *places, taps·i), one spatial axis after the other: Σ taps copies of the
    image, not Π taps.

    A barrier after each axis keeps XLA from taking the copies together again.
    """
    x = lax.pad(
        x,
        jnp.array(0, x.dtype),
        [(0, 0, 0), *((lo, hi, 0) for lo, hi in window.padding), (0, 0, 0)],
    )
    for axis, (k, d, s, b) in reversed(
        [
            *enumerate(
                zip(window.taps, window.dilation, window.stride, window.places, strict=True),
                start=1,
            )
        ]
    ):
        x = lax.optimization_barrier(x)
        seen = [lax.slice_in_dim(x, t * d, t * d + (b - 1) * s + 1, s, axis) for t in range(k)]
        x = jnp.stack(seen, -2).reshape(*seen[0].shape[:-1], -1)
    return x


def correlate(
    x: jax.Array, w: jax.Array, *, window: Window, groups: int = 1, block: int | None = None
) -> jax.Array:
    """y = cols W."""
    matrix = w.reshape(-1, w.shape[-1])
    return blocks.over(
        lambda part: columns(part, window) @ matrix, count(x, w.shape[-2], window, block), x
    )


def input_gradient(
    dy: jax.Array, w: jax.Array, *, window: Window, groups: int = 1, block: int | None = None
) -> jax.Array:
    """dx: each tap's share of dy Wᵀ laid over the cells that it read."""
    inputs = w.shape[-2]
    matrix = w.reshape(-1, w.shape[-1]).T

    def one(part: jax.Array) -> jax.Array:
        shares = part @ matrix
        taps = enumerate(window.offsets())
        return add_taps(
            ((tap, shares[..., t * inputs : (t + 1) * inputs]) for t, tap in taps), window
        )

    return blocks.over(one, count(dy, inputs, window, block), dy)


def weight_gradient(
    x: jax.Array, dy: jax.Array, *, window: Window, groups: int = 1, block: int | None = None
) -> jax.Array:
    """dW = colsᵀ dy, summed over blocks. dy stands on the left: XLA's product is half as fast again
    that way round."""
    inputs, outputs = x.shape[-1], dy.shape[-1]

    def product(x: jax.Array, dy: jax.Array) -> jax.Array:
        cols = columns(x, window).reshape(-1, math.prod(window.taps) * inputs)
        return dy.reshape(-1, outputs).T @ cols

    total = blocks.total(product, x, dy, count(x, inputs, window, block))
    return total.T.reshape(*window.taps, inputs, outputs)


def count(x: jax.Array, inputs: int, window: Window, block: int | None = None) -> int:
    """How many blocks, so that the columns of one stay in the cache; ``block`` images in each, if
    that is given. One tap widens nothing."""
    if math.prod(window.taps) == 1 and not block:
        return 1
    return blocks.most(x.shape[0], block or BLOCK_BYTES / columns_bytes(1, inputs, window, x.dtype))


def columns_bytes(images: int, inputs: int, window: Window, dtype: Any) -> int:
    """Bytes of the columns of a number of images."""
    return (
        images
        * math.prod(window.places)
        * math.prod(window.taps)
        * inputs
        * jnp.dtype(dtype).itemsize
    )


def weight_norms(x: jax.Array, dy: jax.Array, window: Window, groups: int) -> jax.Array:
    """‖dw‖ of each example alone: (n,)."""

    def one(x: jax.Array, dy: jax.Array) -> jax.Array:
        n, places, taps = len(x), math.prod(window.places), math.prod(window.taps)
        i, o = x.shape[-1] // groups, dy.shape[-1] // groups
        cols = columns(x, window).reshape(n, places, taps, groups, i)
        cols = cols.transpose(0, 3, 1, 2, 4).reshape(n * groups, places, taps * i)
        rows = dy.reshape(n, places, groups, o).transpose(0, 2, 1, 3).reshape(n * groups, places, o)
        return of_rows(of_outer_products(cols, rows).reshape(n, groups))

    few = count(x, x.shape[-1], window) if x.size and blocks.in_reach(x) else 1
    return blocks.over(one, few, x, dy)


IM2COL = Implementation(
    "im2col",
    "one group",
    lambda window, inputs, groups: groups == 1,
    suits,
    correlate,
    input_gradient,
    weight_gradient,
)
