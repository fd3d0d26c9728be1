"""Images from IDX files as a network takes them."""

from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.command import InputError
from jaxcnn.data import DataError, DataNotFoundError, load_idx_folder

Split = tuple[jax.Array, jax.Array]


def load(folder: Path, *, train: int | None = None, test: int | None = None) -> tuple[Split, Split]:
    """(images, labels) to train on and to test with, the first so many of each: images (n, h, w, 1) with mean 0 and standard deviation 1. InputError where there are none."""
    try:
        data = load_idx_folder(folder)
    except (DataError, DataNotFoundError) as error:
        raise InputError(f"--data-dir: {error}") from None
    images = data.train_images[:train]
    mean, deviation = float(images.mean()), float(images.std())
    if deviation == 0:
        raise InputError(f"--data-dir {folder}: all pixels are {mean:.0f}; there is nothing to learn from")

    def ready(images: object, labels: object) -> Split:
        return (jnp.asarray(images, jnp.float32)[..., None] - mean) / deviation, jnp.asarray(labels, jnp.int32)

    return ready(images, data.train_labels[:train]), ready(data.test_images[:test], data.test_labels[:test])
