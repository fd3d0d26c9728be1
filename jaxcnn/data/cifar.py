"""CIFAR-10 in its binary form: 10,000 records a file, each a label (1 byte) and an image (3 × 32 × 32 bytes: all red, all green, all blue, row by row).

Read from a folder of the six .bin files, or straight from the archive in which they are published: no member is ever unpacked onto the disk, so where an archive says that its
members belong has no effect.

>>> import pathlib, tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     path = pathlib.Path(folder, "test_batch.bin")
...     _ = path.write_bytes(bytes([7]) + bytes(1024) + bytes([255]) * 1024 + bytes(1024))
...     images, labels = read_cifar(path.name, path.read_bytes())
>>> images.shape, images[0, 0, 0].tolist(), labels.tolist()
((1, 32, 32, 3), [0, 255, 0], [7])
"""

import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxcnn.data.dataset import DataError, DataNotFoundError, Dataset

TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = ("test_batch.bin",)
ARCHIVE = "cifar-10-binary.tar.gz"
SIDE, CLASSES = 32, 10
RECORD = 1 + 3 * SIDE * SIDE
MOST = 10_000 * RECORD  # bytes of a file


def load_cifar10(folder: str | os.PathLike[str]) -> Dataset:
    """CIFAR-10 from a ``folder`` with the six .bin files, with ``cifar-10-batches-bin`` that holds them, or with the archive: images uint8 (n, 32, 32, 3).

    Raises:
        DataNotFoundError: the folder or a file is missing.
        DataError: a file is damaged, or is something else.
    """
    folder = Path(folder)
    inside = next((f for f in (folder, folder / "cifar-10-batches-bin") if (f / TEST[0]).is_file()), None)
    if inside is not None:
        parts = dict(_from_folder(inside))
    elif (folder / ARCHIVE).is_file():
        parts = dict(_from_archive(folder / ARCHIVE))
    else:
        raise DataNotFoundError(f"{folder}: no CIFAR-10; looked for {TEST[0]} and {TRAIN[0]} …, or for {ARCHIVE}")
    if missing := {*TRAIN, *TEST} - parts.keys():
        raise DataNotFoundError(f"{folder}: the archive lacks {', '.join(sorted(missing))}; fetch it again")
    train, test = ([read_cifar(name, parts[name]) for name in names] for names in (TRAIN, TEST))
    (train_images, train_labels), (test_images, test_labels) = ([np.concatenate(a) for a in zip(*split, strict=True)] for split in (train, test))  # fmt: skip
    return Dataset("cifar10", train_images, train_labels, test_images, test_labels, CLASSES)


def read_cifar(name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 32, 32, 3) and labels int32 (n,) of one file. DataError where it is not made of records."""
    if not content or len(content) % RECORD:
        raise DataError(f"{name}: not CIFAR-10, or cut short; expected records of {RECORD} bytes, got {len(content)} bytes in all")  # fmt: skip
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0].astype(np.int32)
    if labels.max() >= CLASSES:
        raise DataError(f"{name}: has label {labels.max()}; those of CIFAR-10 end at {CLASSES - 1}")
    return records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1).copy(), labels


def _from_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name in (*TRAIN, *TEST):
        try:
            yield name, (folder / name).read_bytes()
        except FileNotFoundError:
            raise DataNotFoundError(f"{folder / name}: there is no such file; CIFAR-10 has six") from None
        except OSError as error:
            raise DataError(f"{folder / name}: cannot be read ({error.strerror})") from None


def _from_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = Path(member.name).name
                if member.isfile() and name in {*TRAIN, *TEST} and member.size <= MOST:
                    stream = archive.extractfile(member)
                    assert stream is not None  # as it is a file
                    yield name, stream.read()
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{path}: damaged archive ({error}); fetch it again") from None
