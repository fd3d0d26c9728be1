"""Tiny IDX files for the tests that read them."""

import gzip
from pathlib import Path

import numpy as np

NAMES = {
    "train images": "train-images-idx3-ubyte",
    "train labels": "train-labels-idx1-ubyte",
    "test images": "t10k-images-idx3-ubyte",
    "test labels": "t10k-labels-idx1-ubyte",
}


def encode(array: np.ndarray) -> bytes:
    """An array of small numbers as IDX."""
    return (
        bytes([0, 0, 8, array.ndim])
        + np.array(array.shape, ">u4").tobytes()
        + array.astype(np.uint8).tobytes()
    )


def write_idx(path: Path, array: np.ndarray) -> None:
    """``array`` as an IDX file, gzipped where the name ends in .gz."""
    content = encode(array)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def stripes(
    count: int, *, size: int = 10, classes: int = 4, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images (count, size, size) with one bright stripe, whose row is the label: easy to
    learn."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.integers(0, 60, (count, size, size))
    images[np.arange(count), 2 * labels] += 150
    return images, labels


def write_folder(
    folder: Path,
    *,
    train: int = 200,
    test: int = 50,
    suffix: str = "",
    size: int = 10,
    classes: int = 4,
) -> Path:
    """The four files of a data set of stripes."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("test", test)):
        images, labels = stripes(count, size=size, classes=classes, seed=count)
        write_idx(folder / (NAMES[f"{split} images"] + suffix), images)
        write_idx(folder / (NAMES[f"{split} labels"] + suffix), labels)
    return folder
