"""Images from IDX files as a network takes them."""

import math
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command import InputError
from jaxcnn.data import DataError, DataNotFoundError, load_idx_folder

Split = tuple[jax.Array, jax.Array]


def load(folder: Path, *, train: int | None = None, test: int | None = None) -> tuple[Split, Split]:
    """(images, labels) to train on and to test with, the first so many of each: images (n, h, w, 1) with mean 0 and standard deviation 1. InputError where there are none."""
    try:
        data = load_idx_folder(folder)
        prepare = standardiser(data.train_images[:train])
    except (DataError, DataNotFoundError, InputError) as error:
        raise InputError(f"--data-dir: {error}") from None

    def ready(images: np.ndarray, labels: np.ndarray) -> Split:
        return prepare(jnp.asarray(images)), jnp.asarray(labels, jnp.int32)

    return (
        ready(data.train_images[:train], data.train_labels[:train]),
        ready(data.test_images[:test], data.test_labels[:test]),
    )


def standardiser(images: np.ndarray) -> Callable[[jax.Array], jax.Array]:
    """Bytes (n, h, w) to floats (n, h, w, 1) that have mean 0 and standard deviation 1 over ``images``."""
    # by counting, as a copy of the images in float64 would take eight times their memory
    counts = sum(np.bincount(part.ravel(), minlength=256) for part in np.array_split(images, -(-len(images) // 1000)))
    values = np.arange(256)
    mean = float(np.average(values, weights=counts))
    deviation = math.sqrt(np.average((values - mean) ** 2, weights=counts))
    if deviation == 0:
        raise InputError(f"all pixels of all training images are {mean:.0f}; there is nothing to learn from")
    return lambda x: (x[..., None].astype(jnp.float32) - mean) / deviation
