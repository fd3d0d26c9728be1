"""Images drawn anew in every step: moved, mirrored, turned, resized, or cut out, inside the
compiled program, from an explicit key.

    warped[p]  = x(A p + t)         bilinear between pixels, ``fill`` outside
    cropped[p] = x[p + t]           t whole pixels, from −pad to pad; ``fill`` outside
    flipped[p] = x[p] or x[p, its columns from right to left], each with probability ½
    cut[p]     = fill where p is in a square of ``size`` about a random pixel, else x[p]
                 (DeVries & Taylor 2017)

A turns by up to ``degrees`` and resizes by a factor within 1 ± ``zoom``; t moves by up to ``shift``
pixels; all uniform, for each image its own. Pixels at whole places are read exactly. What an image
becomes depends on the key and its place in the batch, and not on the devices over which the batch
is spread; nothing is sent between them.

>>> import jax, jax.numpy as jnp
>>> x = jnp.arange(9.0).reshape(1, 3, 3, 1)
>>> bool((warp(jax.random.key(0), x, shift=0, degrees=0, zoom=0) == x).all())
True
>>> warp(jax.random.key(0), x, shift=1.0, degrees=10.0, zoom=0.1).shape
(1, 3, 3, 1)
>>> augment = in_turn(crop, flip, cutout)
>>> augment(jax.random.key(0), jnp.zeros((2, 32, 32, 3), jnp.uint8)).shape
(2, 32, 32, 3)
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from jaxcnn._core.errors import check_counts, setting_error

Augment: TypeAlias = Callable[[jax.Array, Any], Any]


def warp(
    key: jax.Array,
    x: jax.Array,
    *,
    shift: float = 2.0,
    degrees: float = 10.0,
    zoom: float = 0.1,
    fill: float = 0.0,
) -> jax.Array:
    """``x`` (n, h, w, c), each image moved, turned about its middle, and resized; of integers, the
    nearest. Raises ValueError for other shapes, and for settings below 0 or zoom ≥ 1."""
    _check_images("warp", x)
    for name, value in (("shift", shift), ("degrees", degrees), ("zoom", zoom)):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 <= value < (1 if name == "zoom" else math.inf)
        ):
            raise setting_error(
                "warp", name, "in [0, 1)" if name == "zoom" else "a number ≥ 0", value
            )
    n, h, w, _ = x.shape
    keys = jax.random.split(key, 3)
    angle = jnp.radians(degrees) * jax.random.uniform(keys[0], (n,), minval=-1, maxval=1)
    size = 1 + zoom * jax.random.uniform(keys[1], (n,), minval=-1, maxval=1)
    move = shift * jax.random.uniform(keys[2], (n, 2), minval=-1, maxval=1)
    down, across = (
        jnp.arange(h)[None, :, None] - (h - 1) / 2,
        jnp.arange(w)[None, None] - (w - 1) / 2,
    )
    cos, sin = (jnp.cos(angle) / size)[:, None, None], (jnp.sin(angle) / size)[:, None, None]
    rows = cos * down - sin * across + (h - 1) / 2 + move[:, 0, None, None]
    columns = sin * down + cos * across + (w - 1) / 2 + move[:, 1, None, None]
    warped = jax.vmap(_bilinear, in_axes=(0, 0, 0, None))(x, rows, columns, fill)
    return (warped if jnp.issubdtype(x.dtype, jnp.floating) else warped.round()).astype(x.dtype)


def crop(key: jax.Array, x: jax.Array, *, pad: int = 4, fill: float = 0) -> jax.Array:
    """``x`` (n, h, w, c), each image with a border of ``pad`` pixels, cut back to its size at a
    random place. Raises ValueError for other shapes, pad < 1, or a ``fill`` that x cannot hold."""
    _check_images("crop", x, fill)
    check_counts("crop", pad=pad)
    n, h, w, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=fill)
    down, across = jax.random.randint(key, (2, n, 1), 0, 2 * pad + 1)
    return _read(padded, down + jnp.arange(h)[None], across + jnp.arange(w)[None])


def flip(key: jax.Array, x: jax.Array) -> jax.Array:
    """``x`` (n, h, w, c), each image mirrored left to right with probability ½. Raises ValueError
    for other shapes."""
    _check_images("flip", x)
    n, _, w, _ = x.shape
    columns = jnp.where(
        jax.random.bernoulli(key, shape=(n, 1)), jnp.arange(w)[None, ::-1], jnp.arange(w)[None]
    )
    return _read(x, None, columns)


def cutout(key: jax.Array, x: jax.Array, *, size: int = 8, fill: float = 0) -> jax.Array:
    """``x`` (n, h, w, c), each image with a square of ``size`` pixels, its middle anywhere in the
    image, set to ``fill``. Raises ValueError for other shapes, size < 1, or a ``fill`` that x
    cannot hold."""
    _check_images("cutout", x, fill)
    check_counts("cutout", size=size)
    n, h, w, _ = x.shape

    def inside(key: jax.Array, length: int) -> jax.Array:
        start = jax.random.randint(key, (n, 1), 0, length) - size // 2
        places = jnp.arange(length)[None]
        return (places >= start) & (places < start + size)

    rows, columns = jax.random.split(key)
    cut = inside(rows, h)[:, :, None, None] & inside(columns, w)[:, None, :, None]
    return jnp.where(cut, jnp.asarray(fill, x.dtype), x)


def in_turn(*augments: Augment) -> Augment:
    """``augment(key, x)`` that applies each to what the one before it made, with a key of its own.
    Settings by ``functools.partial(crop, pad=2)``."""

    def augment(key: jax.Array, x: Any) -> Any:
        for number, one in enumerate(augments):
            x = one(jax.random.fold_in(key, number), x)
        return x

    return augment


def _check_images(name: str, x: jax.Array, fill: float = 0) -> None:
    if x.ndim != 4:
        raise setting_error(name, "x", "a batch of images (n, h, w, c)", tuple(x.shape))
    if jnp.issubdtype(x.dtype, jnp.integer):
        held = jnp.iinfo(x.dtype)
        if not (held.min <= fill <= held.max and fill == int(fill)):
            raise setting_error(name, "fill", f"a number that {x.dtype} can hold", fill)


def _read(x: jax.Array, rows: jax.Array | None, columns: jax.Array) -> jax.Array:
    """Of each image of ``x`` its own ``rows`` (n, h) and ``columns`` (n, w): on a CPU several times
    as fast as slices under ``vmap``, and split by images without communication."""
    if rows is not None:
        x = jnp.take_along_axis(x, rows[:, :, None, None], axis=1, mode="promise_in_bounds")
    return jnp.take_along_axis(x, columns[:, None, :, None], axis=2, mode="promise_in_bounds")


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
