"""What every reader gives: images with labels, to train on and to test with, checked to fit
together.

>>> images, labels = np.zeros((4, 2, 2), np.uint8), np.array([0, 1, 0, 1])
>>> assemble("here", "tiny", ("train", images, labels), ("test", images, labels)).classes
2
>>> assemble("here", "tiny", ("train", images, labels), ("test", images, labels + 1))
Traceback (most recent call last):
jaxcnn.data._dataset.DataError: test: has label 2, but the training labels end at 1; …
"""

import dataclasses
from typing import TypeAlias

import numpy as np

from jaxcnn._io.outside import OutsideError


class DataError(OutsideError):
    """A data file or folder that cannot be used; the message names it, says what is wrong, and what
    would be right."""


class DataNotFoundError(DataError, FileNotFoundError):
    """A data file or folder that is not there."""


LeftOut: TypeAlias = tuple[str, str]
"""A file, and why it is not used."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images with integer labels, split for training and testing.

    Attributes:
        name: of the folder or file.
        train_images, test_images: uint8 (n, height, width), or (n, height, width, channels).
        train_labels, test_labels: int32 (n,), each in [0, classes).
        classes: the number of names; without names the largest label + 1, where some labels below
            it may not occur.
        names: what the labels mean, where the files say it.
        left_out: files that were there and are not used, each with the reason.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int
    names: tuple[str, ...] | None = None
    left_out: tuple[LeftOut, ...] = ()


Part: TypeAlias = tuple[str, np.ndarray, np.ndarray]
"""Where labels come from, as messages call it; images; labels."""


def assemble(
    where: str, name: str, train: Part, test: Part, names: tuple[str, ...] | None = None
) -> Dataset:
    """The data set of two parts, read from ``where``. DataError where they do not fit together, or
    have fewer than two classes."""
    for split, (labels_where, images, labels) in (("train", train), ("test", test)):
        if len(images) != len(labels):
            raise DataError(
                f"{labels_where}: {len(images)} {split} images but {len(labels)} {split} labels;"
                " the files seem to come from two data sets"
            )
    (train_where, train_images, train_labels), (test_where, test_images, test_labels) = train, test
    if train_images.shape[1:] != test_images.shape[1:]:
        sizes = (
            f"training images are {times(train_images.shape[1:])} pixels but test images"
            f" {times(test_images.shape[1:])}"
        )
        raise DataError(f"{where}: {sizes}; the files seem to come from two data sets")
    classes = len(names) if names else int(train_labels.max()) + 1
    if np.all(train_labels == train_labels[0]):
        raise DataError(
            f"{train_where}: all {len(train_labels)} labels are {train_labels[0]}; at least two"
            " classes are needed"
        )
    if test_labels.max() >= classes:
        raise DataError(
            f"{test_where}: has label {test_labels.max()}, but the training labels end at"
            f" {classes - 1}; it and {train_where} seem to come from two data sets"
        )
    return Dataset(
        name,
        train_images,
        train_labels.astype(np.int32),
        test_images,
        test_labels.astype(np.int32),
        classes,
        names,
    )


def times(shape: tuple[int, ...]) -> str:
    """A shape as messages write it.

    >>> times((28, 28))
    '28 × 28'
    """
    return " × ".join(map(str, shape))
