"""The data of a run: all in memory, or a folder of images that is read while training.

>>> from jaxcnn.runs._config import Config
>>> load(Config(data="mnst"))
Traceback (most recent call last):
InputError: --data mnst: there is no such file or folder, and no set of that name; there is …
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcnn import data as sets
from jaxcnn._io.command import InputError
from jaxcnn.data._checksum import checksum
from jaxcnn.data._scale import Standardiser, standardiser
from jaxcnn.runs._config import Config

SAMPLE = 1000  # images of a stream from which mean and deviation are taken


class RunData(NamedTuple):
    """The data of a run."""

    name: str
    train: Any
    test: tuple[np.ndarray, np.ndarray]
    classes: int
    names: tuple[str, ...] | None
    scale: Standardiser
    per_epoch: int
    mark: str
    """Changes with the data, so that a run does not go on with others."""


def load(config: Config) -> RunData:
    """What ``--data`` names. InputError where it cannot be used."""
    if (config.stream or config.image_size) and not (Path(config.data) / "train").is_dir():
        raise InputError(
            f"--data {config.data}: --stream and --image-size are for a folder with"
            " train/CLASS/IMAGE and test/CLASS/IMAGE"
        )
    try:
        if config.stream:
            return _stream(config)
        found = (
            sets.load_image_folder(config.data, size=config.image_size)
            if config.image_size
            else sets.load(config.data)
        )
        scale = standardiser(found.train_images, config.data)
    except sets.DataError as error:
        raise InputError(f"--data {error}") from None
    if len(found.train_images) < config.batch_size:
        raise InputError(
            f"--batch-size {config.batch_size} is more than the {len(found.train_images)} training"
            " images"
        )
    return RunData(
        found.name,
        (found.train_images, found.train_labels),
        (found.test_images, found.test_labels),
        found.classes,
        found.names,
        scale,
        len(found.train_images) // config.batch_size,
        checksum(found.train_images, found.train_labels, found.test_images, found.test_labels),
    )


def _stream(config: Config) -> RunData:
    folder = sets.ImageFolder(Path(config.data) / "train", size=config.image_size)
    other = sets.ImageFolder(Path(config.data) / "test", like=folder)
    if len(folder) < config.batch_size:
        raise InputError(
            f"--batch-size {config.batch_size} is more than the {len(folder)} training images"
        )
    images, labels = (
        np.stack(part)
        for part in zip(*(other[number] for number in range(len(other))), strict=True)
    )
    some = np.random.default_rng(0).permutation(len(folder))[:SAMPLE]
    scale = standardiser(np.stack([folder[number][0] for number in some]), config.data)
    mark = checksum(images, labels, folder.listing.encode())
    return RunData(
        Path(config.data).name,
        folder,
        (images, labels.astype(np.int32)),
        len(folder.names),
        folder.names,
        scale,
        len(folder) // config.batch_size,
        mark,
    )
