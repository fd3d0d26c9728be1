"""The data of a run: all in memory, or a folder of images that is read while training.

>>> from jaxcnn.runs._config import Config
>>> load(Config(data="mnst"))
Traceback (most recent call last):
InputError: --data mnst: there is no such file or folder, and no set of that name; there is …
"""

from collections.abc import Iterable
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
    validation: tuple[np.ndarray, np.ndarray] | None = None
    """What everything that chooses looks at."""

    @property
    def watched(self) -> tuple[np.ndarray, np.ndarray]:
        """What is looked at while training."""
        return self.test if self.validation is None else self.validation

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
        images, labels = found.train_images, found.train_labels
        validation, left_out = None, found.left_out
        if config.validation is None:
            pass
        elif not isinstance(config.validation, Path):
            rest, held = hold_out(labels, config.validation)
            validation = images[held], labels[held]
            images, labels = images[rest], labels[rest]
        else:
            if not folder:
                raise InputError(
                    f"--validation {config.validation}: a folder goes with --data as a folder of"
                    " images; give a share, such as 0.1"
                )
            like = sets.ImageFolder(Path(config.data) / "train", **pictures)
            like.grey = images.ndim == 3
            other = sets.ImageFolder(config.validation, like=like)
            validation, left_out = _pixels(other), (*left_out, *other.left_out)
        scale = standardiser(images, config.data)
    except sets.DataError as error:
        raise InputError(f"--data {error}") from None
    _check_enough(config, len(images))
    return RunData(
        found.name,
        (images, labels),
        (found.test_images, found.test_labels),
        found.classes,
        found.names,
        scale,
        len(images) // config.batch_size,
        checksum(images, labels, found.test_images, found.test_labels, *(validation or ())),
        left_out,
        validation,
    )


def hold_out(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Which examples to train on, and which to hold out: that share of each class, drawn once for
    all, whatever the seed of a run.

    >>> rest, held = hold_out(np.array([0, 1] * 10), 0.2)
    >>> len(rest), np.bincount(np.array([0, 1] * 10)[held]).tolist()
    (16, [2, 2])
    """
    rng = np.random.default_rng([0x76616C, len(labels)])
    held = []
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        held.append(own[: min(len(own) - 1, max(1, round(share * len(own))))])
    chosen = np.sort(np.concatenate(held))
    if not len(chosen):
        raise InputError(
            f"--validation {share:g}: no class has two images; nothing can be held out"
        )
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def _pixels(
    folder: sets.ImageFolder, numbers: Iterable[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The images of a folder (or those of these numbers) with their labels, all in memory."""
    chosen = range(len(folder)) if numbers is None else numbers
    images, labels = zip(*(folder[number] for number in chosen), strict=True)
    return np.stack(images), np.array(labels, np.int32)


def _check_enough(config: Config, count: int) -> None:
    if count < config.batch_size:
        raise InputError(
            f"--batch-size {config.batch_size} is more than the {count} training images"
        )


def _stream(config: Config, pictures: dict[str, Any]) -> RunData:
    root = Path(config.data)
    folder = sets.ImageFolder(root / "train", **pictures)
    other = sets.ImageFolder(root / "test", like=folder)
    test = _pixels(other)
    left_out, validation = (*folder.left_out, *other.left_out), None
    if config.validation is None:
        pass
    elif not isinstance(config.validation, Path):
        rest, held = hold_out(np.array(folder.labels), config.validation)
        validation = _pixels(folder, held.tolist())
        folder.choose(rest.tolist())
    else:
        beside = sets.ImageFolder(config.validation, like=folder)
        validation, left_out = _pixels(beside), (*left_out, *beside.left_out)
    _check_enough(config, len(folder))
    some = np.random.default_rng(0).permutation(len(folder))[:SAMPLE]
    scale = standardiser(np.stack([folder[number][0] for number in some]), config.data)
    mark = checksum(*test, folder.listing.encode(), *(validation or ()))
    return RunData(
        root.name,
        folder,
        test,
        len(folder.names),
        folder.names,
        scale,
        len(folder) // config.batch_size,
        mark,
        left_out,
        validation,
    )
