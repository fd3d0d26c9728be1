"""Data sets in one ``.npz`` file, as ``np.savez`` writes it and as Keras publishes its own. Nothing
in it is ever unpickled.

    train_images  train_labels  test_images  test_labels      or
    x_train       y_train       x_test       y_test

>>> import pathlib, tempfile
>>> images, labels = np.zeros((4, 2, 2), np.uint8), np.array([0, 1, 0, 1])
>>> with tempfile.TemporaryDirectory() as folder:
...     path = pathlib.Path(folder, "tiny.npz")
...     np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
...     load_npz(path).train_images.shape
(4, 2, 2)
"""

import math
import os
import warnings
import zipfile
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn._io.outside import UNPACKED, OutsideError, opened, reason, room
from jaxcnn.data._dataset import DataError, DataNotFoundError, Dataset, assemble

NAMES = (
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
)
MOST_CLASSES = 100_000  # labels beyond are numbers of something else
HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
TOLERANCE = 0.1  # of a step between two bytes; float16 has 0.06 near 1


def load_npz(path: str | os.PathLike[str]) -> Dataset:
    """The data set in an ``.npz`` file: images (n, h, w) or (n, h, w, c), integer labels (n,) or
    (n, 1) from 0 on.

    Images are bytes: integers in 0 … 255, or floating-point numbers k / 255, which become bytes
    again. Other numbers would lose something, so they are refused.

    Raises:
        DataNotFoundError: there is no such file.
        DataError: the file is damaged or is something else, or an array is missing, or is not as
            described.
    """
    path = Path(path)
    with (
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
        opened(path, "an .npz file, as np.savez writes it", DataError, DataNotFoundError) as file,
    ):
        warnings.simplefilter("ignore")  # such as NumPy's of old names for dtypes
        arrays = [(f"{path}: `{name}`", array) for name, array in _arrays(path, file).items()]
        train, test = (
            (labels[0], _images(*images), _labels(*labels))
            for images, labels in (arrays[:2], arrays[2:])
        )
        return assemble(str(path), path.stem, train, test)


def _arrays(path: Path, file: BufferedReader) -> dict[str, np.ndarray]:
    """The four arrays, in the order of :data:`NAMES`."""
    if not zipfile.is_zipfile(file):
        raise DataError(f"{path}: damaged, or not an .npz file; expected what np.savez writes")
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        held = [name.removesuffix(".npy") for name in archive.namelist()]
        names = next((names for names in NAMES if set(names) <= set(held)), None)
        if names is None:
            wanted = " or ".join(", ".join(names) for names in NAMES)
            raise DataError(
                f"{path}: expected the arrays {wanted}; found {', '.join(held) or 'none':.200}"
            )
        found = {}
        for name in names:
            if held.count(name) > 1:
                raise DataError(f"{path}: has `{name}` {held.count(name)} times; expected it once")
            try:
                found[name] = _array(
                    archive, name if name in archive.namelist() else f"{name}.npy", size
                )
            except OutsideError as error:
                raise DataError(f"{path}: `{name}` {error}") from None
            except (
                Exception
            ) as error:  # there are five ways to pack a member, each with errors of its own
                raise DataError(f"{path}: `{name}` cannot be read ({reason(error)})") from None
    return found


def _array(archive: zipfile.ZipFile, name: str, size: int) -> np.ndarray:
    """One array, for which memory is asked only when its header and the archive of that ``size``
    agree on how much."""
    about = archive.getinfo(name)
    packed = min(about.compress_size, size)
    if about.file_size > (packed if about.compress_type == zipfile.ZIP_STORED else room(packed)):
        raise OutsideError(
            f"unpacks from {packed:,} to {about.file_size:,} bytes; {UNPACKED}={about.file_size}"
            " lets it"
        )
    with archive.open(about) as member:
        version = np.lib.format.read_magic(member)
        if version not in HEADERS:
            raise OutsideError(
                f"is .npy of version {version}; expected {', '.join(map(str, HEADERS))}"
            )
        shape, _, dtype = HEADERS[version](member)
        expected = math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and member.tell() + expected != about.file_size:
            raise OutsideError(
                f"says that it is {dtype}{list(shape)}, which is {expected} bytes, but it has"
                f" {about.file_size - member.tell()}"
            )
    with archive.open(about) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        member.read(1)  # at the end the checksum is compared
        return array


def _images(where: str, images: np.ndarray) -> np.ndarray:
    """``images`` as bytes."""
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise DataError(
            f"{where}: expected images (n, h, w) or (n, h, w, c), and at least one, got shape"
            f" {images.shape}"
        )
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] > 4:
        raise DataError(
            f"{where}: has its channels first in shape {images.shape}; save np.moveaxis(images,"
            " 1, -1)"
        )
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind not in "iuf":
        raise DataError(f"{where}: expected numbers, got {images.dtype}")
    low, high = images.min(), images.max()
    if not np.isfinite([low, high]).all():  # so is every number between them, and NaN would be both
        raise DataError(f"{where}: has NaN or infinity; expected pixels in [0, 1] or 0 … 255")
    floating = images.dtype.kind == "f"
    if low < 0 or high > (1 if floating else 255):
        raise DataError(
            f"{where}: has {images.dtype} from {low} to {high}; expected"
            f" {'[0, 1]' if floating else '0 … 255'}, or save it as uint8"
        )
    pixels = np.rint(images * np.float32(255)) if floating else images
    if floating and np.abs(images * np.float32(255) - pixels).max() > TOLERANCE:
        raise DataError(
            f"{where}: has numbers that are no k / 255, as a byte of a pixel is; save (images *"
            " 255).round().astype(np.uint8) if they may be rounded"
        )
    return pixels.astype(np.uint8)


def _labels(where: str, labels: np.ndarray) -> np.ndarray:
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise DataError(
            f"{where}: expected integer labels (n,), got {labels.dtype} in shape {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= MOST_CLASSES:
        raise DataError(
            f"{where}: expected labels from 0 to {MOST_CLASSES - 1} at most, got {labels.min()} to"
            f" {labels.max()}"
        )
    return labels.astype(np.int32)
