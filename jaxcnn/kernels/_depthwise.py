"""Depthwise convolution: each channel by itself, tap by tap, for CPUs.

    y[n,p,(c,m)]  = Σ_k x[n, p·s + k·d − lo, c] w[k,(c,m)]     m multiples of each of c channels
    dx[n,q,c]     = Σ_{k,m : p·s + k·d − lo = q} dy[n,p,(c,m)] w[k,(c,m)]
    dw[k,(c,m)]   = Σ_{n,p} x[n, p·s + k·d − lo, c] dy[n,p,(c,m)]

There is nothing here for a matrix product: it is as much reading as arithmetic, and XLA makes one
loop over the images of the sum over taps. Its own grouped convolution takes ten to a hundred times
as long on a CPU (README.md beside this file)."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn._core.window import Window, add_taps, taps_of
from jaxcnn.kernels import _blocks as blocks
from jaxcnn.kernels._implementation import Implementation, Kind


def suits(kind: Kind, x: jax.Array, window: Window, inputs: int, outputs: int, groups: int) -> bool:
    """Whether each group is one input channel, and the work is worth a loop."""
    return groups == inputs > 1 and blocks.enough(x, window, inputs)


def correlate(x: jax.Array, w: jax.Array, *, window: Window, groups: int) -> jax.Array:
    """y, all multiples of a channel beside each other."""
    kernel = w.reshape(*window.taps, groups, -1)
    parts = [
        seen[..., None] * lax.broadcast_to_rank(kernel[tap], x.ndim + 1)
        for tap, seen in taps_of(x, window)
    ]
    y = sum(parts[1:], parts[0])
    return y.reshape(*y.shape[:-2], -1)


def input_gradient(dy: jax.Array, w: jax.Array, *, window: Window, groups: int) -> jax.Array:
    """dx. The multiples are added one by one: a sum along so short a last axis is slow."""
    kernel = w.reshape(*window.taps, groups, -1)
    multiples = dy.reshape(*dy.shape[:-1], groups, -1)
    each = [multiples[..., m] for m in range(multiples.shape[-1])]

    def part(tap: tuple[int, ...]) -> jax.Array:
        taps = lax.broadcast_to_rank(kernel[tap], dy.ndim + 1)
        scaled = [one * taps[..., m] for m, one in enumerate(each)]
        return sum(scaled[1:], scaled[0])

    return add_taps(((tap, part(tap)) for tap in window.offsets()), window)


def weight_gradient(x: jax.Array, dy: jax.Array, *, window: Window, groups: int) -> jax.Array:
    """dw."""
    multiples = dy.reshape(*dy.shape[:-1], groups, -1)
    axes = tuple(range(x.ndim - 1))
    dw = jnp.stack([(seen[..., None] * multiples).sum(axes) for _, seen in taps_of(x, window)])
    return dw.reshape(*window.taps, 1, -1)


DEPTHWISE = Implementation(
    "depthwise",
    "one input channel a group",
    lambda window, inputs, groups: groups == inputs,
    suits,
    correlate,
    input_gradient,
    weight_gradient,
)
