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
    left_out: tuple[tuple[str, str], ...] = ()
    """Files that were there and are not used, each with the reason."""

    @property
    def counts(self) -> dict[str, int]:
        """How many images there are of each class to train on."""
        labels = self.train[1] if isinstance(self.train, tuple) else self.train.labels
        found = np.bincount(labels, minlength=self.classes).tolist()
        return dict(zip(self.names or map(str, range(self.classes)), found, strict=True))


def load(config: Config) -> RunData:
    """What ``--data`` names. InputError where it cannot be used."""
    folder = (Path(config.data) / "train").is_dir()
    if (config.stream or config.image_size or config.skip_bad) and not folder:
        raise InputError(
            f"--data {config.data}: --stream, --image-size and --skip-bad are for a folder with"
            " train/CLASS/IMAGE and test/CLASS/IMAGE"
        )
    pictures = {
        "size": config.image_size,
        "fit": config.fit,
        "background": config.background,
        "skip_bad": config.skip_bad,
    }
    try:
        if config.stream:
            return _stream(config, pictures)
        found = (
            sets.load_image_folder(config.data, **pictures) if folder else sets.load(config.data)
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
        found.left_out,
    )


def _stream(config: Config, pictures: dict[str, Any]) -> RunData:
    folder = sets.ImageFolder(Path(config.data) / "train", **pictures)
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
        (*folder.left_out, *other.left_out),
    )
