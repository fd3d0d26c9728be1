"""Images drawn anew in every step: moved, turned and resized, inside the compiled program, from an explicit key.

    warped[p] = x(A p + t)          bilinear between pixels, ``fill`` outside

A turns by up to ``degrees`` and resizes by a factor within 1 ± ``zoom``; t moves by up to ``shift`` pixels; all uniform, for each image its own. Pixels at whole places
are read exactly.

>>> import jax, jax.numpy as jnp
>>> x = jnp.arange(9.0).reshape(1, 3, 3, 1)
>>> bool((warp(jax.random.key(0), x, shift=0, degrees=0, zoom=0) == x).all())
True
>>> warp(jax.random.key(0), x, shift=1.0, degrees=10.0, zoom=0.1).shape
(1, 3, 3, 1)
"""

import math

import jax
import jax.numpy as jnp

from jaxcnn.errors import setting_error


def warp(
    key: jax.Array, x: jax.Array, *, shift: float = 2.0, degrees: float = 10.0, zoom: float = 0.1, fill: float = 0.0
) -> jax.Array:
    """``x`` (n, h, w, c), each image moved, turned about its middle, and resized; of integers, the nearest. Raises ValueError for other shapes, and for settings below 0 or zoom ≥ 1."""
    if x.ndim != 4:
        raise setting_error("warp", "x", "a batch of images (n, h, w, c)", tuple(x.shape))
    for name, value in (("shift", shift), ("degrees", degrees), ("zoom", zoom)):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 <= value < (1 if name == "zoom" else math.inf)
        ):
            raise setting_error("warp", name, "in [0, 1)" if name == "zoom" else "a number ≥ 0", value)
    n, h, w, _ = x.shape
    keys = jax.random.split(key, 3)
    angle = jnp.radians(degrees) * jax.random.uniform(keys[0], (n,), minval=-1, maxval=1)
    size = 1 + zoom * jax.random.uniform(keys[1], (n,), minval=-1, maxval=1)
    move = shift * jax.random.uniform(keys[2], (n, 2), minval=-1, maxval=1)
    down, across = jnp.arange(h) - (h - 1) / 2, jnp.arange(w) - (w - 1) / 2
    cos, sin = (jnp.cos(angle) / size)[:, None, None], (jnp.sin(angle) / size)[:, None, None]
    rows = cos * down[:, None] - sin * across + (h - 1) / 2 + move[:, 0, None, None]
    columns = sin * down[:, None] + cos * across + (w - 1) / 2 + move[:, 1, None, None]
    warped = jax.vmap(_bilinear, in_axes=(0, 0, 0, None))(x, rows, columns, fill)
    return (warped if jnp.issubdtype(x.dtype, jnp.floating) else warped.round()).astype(x.dtype)


def _bilinear(x: jax.Array, rows: jax.Array, columns: jax.Array, fill: float) -> jax.Array:
    """``x`` (h, w, c) read at (rows, columns), each (h, w)."""
    top, left = jnp.floor(rows).astype(int), jnp.floor(columns).astype(int)
    below, beside = (rows - top)[..., None], (columns - left)[..., None]

    def at(row: jax.Array, column: jax.Array) -> jax.Array:
        inside = (row >= 0) & (row < x.shape[0]) & (column >= 0) & (column < x.shape[1])
        found = x[row.clip(0, x.shape[0] - 1), column.clip(0, x.shape[1] - 1)]
        return jnp.where(inside[..., None], found, fill)

    upper = (1 - beside) * at(top, left) + beside * at(top, left + 1)
    lower = (1 - beside) * at(top + 1, left) + beside * at(top + 1, left + 1)
    return (1 - below) * upper + below * lower
