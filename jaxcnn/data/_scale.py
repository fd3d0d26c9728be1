"""Bytes to numbers around 0: x̂ = (x − μ)/σ, with mean and standard deviation of each channel over
the images to train on.

>>> import numpy as np
>>> scale = standardiser(np.array([[[0, 2]], [[4, 6]]], np.uint8))
>>> scale.mean, [round(d, 3) for d in scale.deviation], scale(np.array([[[3]]], np.uint8)).tolist()
((3.0,), [2.236], [[[[0.0]]]])
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.data._dataset import DataError


@dataclasses.dataclass(frozen=True)
class Standardiser:
    """Images (n, h, w) or (n, h, w, c) of bytes to floats (n, h, w, c); ``mean`` and ``deviation``
    have a number a channel."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, x: Any) -> jax.Array:
        x = jnp.asarray(x) if x.ndim == 4 else jnp.asarray(x)[..., None]
        mean, deviation = (jnp.array([[[numbers]]]) for numbers in (self.mean, self.deviation))
        return (x.astype(jnp.float32) - mean) / deviation


def standardiser(images: np.ndarray, where: str = "images") -> Standardiser:
    """The one for ``images``, bytes (n, h, w) or (n, h, w, c), that come from ``where``. Raises
    DataError where all of a channel is one number."""
    channels = (
        [images]
        if images.ndim == 3
        else [images[..., channel] for channel in range(images.shape[-1])]
    )
    mean, deviation = zip(*map(_moments, channels), strict=True)
    if min(deviation) == 0:
        raise DataError(
            f"{where}: all pixels of all training images are {mean[deviation.index(0)]:.0f}; there"
            " is nothing to learn from"
        )
    return Standardiser(mean, deviation)


def _moments(images: np.ndarray) -> tuple[float, float]:
    # by counting, as a copy of the images in float64 would take eight times their memory
    counts = sum(
        np.bincount(part.ravel(), minlength=256)
        for part in np.array_split(images, -(-len(images) // 1000))
    )
    values = np.arange(256)
    mean = float(np.average(values, weights=counts))
    return mean, math.sqrt(np.average((values - mean) ** 2, weights=counts))
