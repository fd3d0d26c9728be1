"""Images from IDX files as a network takes them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.command import InputError
from jaxcnn.data import DataError, DataNotFoundError, load_idx_folder
from jaxcnn.layers import Layer

Split = tuple[jax.Array, jax.Array]


class Images(NamedTuple):
    """(images, labels) to train on and to test with: images (n, h, w, 1) with mean 0 and standard deviation 1 over those to train on, labels below ``classes``."""

    train: Split
    test: Split
    classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image."""
        return self.train[0].shape[1:]


def load(folder: Path, *, train: int | None = None, test: int | None = None, batch: int = 1) -> Images:
    """The images of four IDX files, the first so many of each half. InputError where there are none, or fewer than a batch to train on."""
    try:
        data = load_idx_folder(folder)
        prepare = standardiser(data.train_images[:train])
    except (DataError, DataNotFoundError, InputError) as error:
        raise InputError(f"--data-dir: {error}") from None
    if len(data.train_images) < batch:
        raise InputError(f"--data-dir: a batch takes {batch} images, and {folder} has {len(data.train_images)} to train on")  # fmt: skip

    def ready(images: np.ndarray, labels: np.ndarray) -> Split:
        return prepare(jnp.asarray(images)), jnp.asarray(labels, jnp.int32)

    return Images(
        ready(data.train_images[:train], data.train_labels[:train]),
        ready(data.test_images[:test], data.test_labels[:test]),
        data.classes,
    )


def check_takes(model: Layer, shape: tuple[int, ...], name: str = "--data-dir: the model") -> None:
    """InputError, that ``name`` does not take such images, unless ``model`` does."""
    try:
        jax.eval_shape(lambda: model.init(jax.random.key(0), shape))
    except ValueError as error:
        # JAX adds notes of its own, about tracebacks
        where = "; ".join(note for note in getattr(error, "__notes__", ()) if note.startswith("in layer"))
        size = "×".join(map(str, shape[:2]))
        raise InputError(f"{name} does not take images of {size} pixels: {error} ({where})") from None


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
