"""The kernels (S4.6), and a layer that learns them.

Gx = [[−1, 0, 1], [−2, 0, 2], [−1, 0, 1]],  Gy = Gxᵀ,  magnitude √(Gx² + Gy²),  angle arctan2(Gy,
Gx)
Gaussian: e^−(i² + j²)/2σ² over its sum, i, j = −3 … 3, σ = 0.84089642 (which gives the numbers that
the document prints)"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxcnn import layers, ops, value_and_grad

SIGMA = 0.84089642
PIECE, PIECES = 32, 16


def sobel() -> jax.Array:
    """(3, 3, 1, 2): Gx and Gy as the two channels of one convolution."""
    gx = jnp.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    return jnp.stack([gx, gx.T], -1)[:, :, None]


def gaussian() -> jax.Array:
    """(7, 7, 1, 1)."""
    across = jnp.exp(-(jnp.arange(-3.0, 4) ** 2) / (2 * SIGMA**2))
    return (jnp.outer(across, across) / across.sum() ** 2)[:, :, None, None]


def edges(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Magnitude and angle of the slope of ``image`` (h, w), after a blur."""
    blurred = ops.conv(image[None, :, :, None], gaussian(), padding="VALID")
    gx, gy = jnp.moveaxis(ops.conv(blurred, sobel(), padding="VALID")[0], -1, 0)
    return jnp.hypot(gx, gy), jnp.arctan2(gy, gx)


def learn(
    image: jax.Array, true: jax.Array, steps: int, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The kernel that a layer finds from pieces of ``image`` and what ``true`` makes of them, and
    the loss of each step. It starts from small random numbers.

    Brightness is taken out of each piece: pixels of a photograph are all alike, and only where they
    differ is there something to learn from."""
    window = true.shape[:2]
    layer = layers.conv(true.shape[-1], kernel_size=window, padding="VALID", bias=False)
    params, _ = layer.init(key, (PIECE, PIECE, 1))
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, steps))
    differentiate = value_and_grad(
        layers.serial(layer=layer, flatten=layers.flatten()), ops.squared_error
    )

    def piece(key: jax.Array) -> jax.Array:
        corner = [
            jax.random.randint(k, (), 0, size - PIECE + 1)
            for k, size in zip(jax.random.split(key), image.shape, strict=True)
        ]
        found = lax.dynamic_slice(image, corner, (PIECE, PIECE))
        return (found - found.mean()) / (found.std() + 1e-3)

    def step(at: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        params, opt_state = at
        x = jax.vmap(piece)(jax.random.split(key, PIECES))[..., None]
        target = ops.conv(x, true, padding="VALID").reshape(PIECES, -1)
        (loss, _), grads = differentiate(params, {}, x, target)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), loss

    params = {"layer": params}
    (params, _), losses = jax.jit(
        lambda p: lax.scan(step, (p, optimizer.init(p)), jax.random.split(key, steps))
    )(params)
    return params["layer"]["kernel"], losses / np.prod([PIECE - size + 1 for size in window])
