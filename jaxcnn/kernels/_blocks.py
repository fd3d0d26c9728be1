"""Work on a few images at a time, so that what one step hands to the next stays in the cache.

Every function here is an ordinary JAX loop: it batches, differentiates, and runs inside
``shard_map``."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn._core.cotangent import match_varying, varying
from jaxcnn._core.errors import is_integer
from jaxcnn._core.window import Window

LEAST_PRODUCTS = 10**6


def in_reach(x: jax.Array) -> bool:
    """Whether a loop over blocks may run along the first axis of ``x``: its length is a number, not
    a symbol of ``jax.export``, and no mesh cuts it up, where it would have to be gathered."""
    return is_integer(x.shape[0]) and (jax.typeof(x).sharding.mesh.empty or bool(varying(x)))


def enough(x: jax.Array, window: Window, pairs: int) -> bool:
    """Whether a convolution of ``x``'s batch with ``pairs`` of channels is work enough to be
    divided."""
    return x.shape[0] * math.prod(window.places) * math.prod(window.taps) * pairs >= LEAST_PRODUCTS


def most(images: int, size: float) -> int:
    """How many blocks of at most ``size`` images: equal ones if the batch allows that without
    making them much smaller."""
    size = max(1, min(int(size), images))
    even = next(b for b in range(size, 0, -1) if images % b == 0)
    return images // even if 2 * even > size else -(-images // size)


def least(images: int, size: float) -> int:
    """How many blocks of at least ``size`` images."""
    return max(1, images // max(1, int(size)))


def over(one: Callable[..., jax.Array], count: int, *arrays: jax.Array) -> jax.Array:
    """``one`` of each of ``count`` blocks of the batch, one after the other."""
    if count == 1:
        return one(*arrays)
    block = _blocks(arrays, count)
    done = lax.map(lambda number: one(*block(number)), jnp.arange(count))
    return done.reshape(-1, *done.shape[2:])[: len(arrays[0])]


def total(product: Callable[..., jax.Array], x: jax.Array, dy: jax.Array, count: int) -> jax.Array:
    """Σ ``product(x, dy)`` over the blocks; it must give 0 for zeros, which fill the last block
    up."""
    if count == 1:
        return product(x, dy)
    block = _blocks((x, dy), count)
    shape = jax.eval_shape(lambda: product(*block(0)))
    zero = match_varying(jnp.zeros(shape.shape, shape.dtype), x, dy)
    return lax.scan(
        lambda done, number: (done + product(*block(number)), None), zero, jnp.arange(count)
    )[0]


def _blocks(arrays: Sequence[jax.Array], count: int) -> Callable[[Any], list[jax.Array]]:
    """The block of a number, of each array; the last block is filled up with zeros.

    The arrays are not reshaped to (count, …): XLA would compute what they hold anew, and keep it,
    for every reader that cuts it into other blocks."""
    size = -(-len(arrays[0]) // count)
    fill = count * size - len(arrays[0])
    filled = [jnp.pad(x, [(0, fill), *[(0, 0)] * (x.ndim - 1)]) if fill else x for x in arrays]
    return lambda number: [lax.dynamic_slice_in_dim(x, number * size, size) for x in filled]
