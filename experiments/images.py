"""Images from IDX files as a network takes them."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn._io.command import InputError
from jaxcnn.data import DataError, load_idx_folder
from jaxcnn.data._scale import standardiser

Split = tuple[jax.Array, jax.Array]


class Images(NamedTuple):
    """(images, labels) to train on and to test with: images (n, h, w, 1) with mean 0 and standard
    deviation 1 over those to train on, labels below ``classes``."""

    train: Split
    test: Split
    classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image."""
        return self.train[0].shape[1:]


def load(
    folder: Path, *, train: int | None = None, test: int | None = None, batch: int = 1
) -> Images:
    """The images of four IDX files, the first few of each half. InputError where there are
    none, or fewer than a batch to train on."""
    try:
        data = load_idx_folder(folder)
        prepare = standardiser(data.train_images[:train], str(folder))
    except DataError as error:
        raise InputError(f"--data-dir: {error}") from None
    if len(data.train_images) < batch:
        raise InputError(
            f"--data-dir: a batch takes {batch} images, and {folder} has {len(data.train_images)}"
            " to train on"
        )

    def ready(images: np.ndarray, labels: np.ndarray) -> Split:
        return prepare(jnp.asarray(images)), jnp.asarray(labels, jnp.int32)

    return Images(
        ready(data.train_images[:train], data.train_labels[:train]),
        ready(data.test_images[:test], data.test_labels[:test]),
        data.classes,
    )
