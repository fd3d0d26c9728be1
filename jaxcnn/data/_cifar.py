"""CIFAR-10 in its binary form: 10,000 records a file, each a label (1 byte) and an image (3 × 32 ×
32 bytes: all red, all green, all blue, row by row).

Read from a folder of the six .bin files, or straight from the archive in which they are published:
no member is ever unpacked onto the disk, so where an archive says that its members belong has no
effect. No more is unpacked than the six files have, and a little, so that an archive may say what
it wants of sizes.

>>> import pathlib, tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     path = pathlib.Path(folder, "test_batch.bin")
...     _ = path.write_bytes(bytes([7]) + bytes(1024) + bytes([255]) * 1024 + bytes(1024))
...     images, labels = read_cifar(path.name, path.read_bytes())
>>> images.shape, images[0, 0, 0].tolist(), labels.tolist()
((1, 32, 32, 3), [0, 255, 0], [7])
"""

import gzip
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn._io.outside import opened, reading, reason
from jaxcnn.data._dataset import DataError, DataNotFoundError, Dataset

TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = ("test_batch.bin",)
ARCHIVE = "cifar-10-binary.tar.gz"
SIDE, CLASSES = 32, 10
RECORD = 1 + 3 * SIDE * SIDE
MOST = 10_000 * RECORD  # bytes of a file
# of the archive, which has 9 members and a page about them
MOST_MEMBERS, MOST_UNPACKED = 100, 6 * MOST + 2**22


def load_cifar10(folder: str | os.PathLike[str]) -> Dataset:
    """CIFAR-10 from a ``folder`` with the six .bin files, with ``cifar-10-batches-bin`` that holds
    them, or with the archive: images uint8 (n, 32, 32, 3).

    Raises:
        DataNotFoundError: the folder or a file is missing.
        DataError: a file is damaged, or is something else.
    """
    folder = Path(folder)
    with reading(folder, "CIFAR-10's six files, or their archive", DataError, DataNotFoundError):
        inside = next(
            (f for f in (folder, folder / "cifar-10-batches-bin") if (f / TEST[0]).exists()), None
        )
        if inside is not None:
            found = {
                name: read_cifar(str(inside / name), _content(inside / name))
                for name in (*TRAIN, *TEST)
            }
        elif (folder / ARCHIVE).exists():
            found = dict(_from_archive(folder / ARCHIVE))
        else:
            raise DataNotFoundError(
                f"{folder}: no CIFAR-10; looked for {TEST[0]} and {TRAIN[0]} …, or for {ARCHIVE}"
            )
        if missing := {*TRAIN, *TEST} - found.keys():
            raise DataNotFoundError(
                f"{folder / ARCHIVE}: the archive lacks {', '.join(sorted(missing))}; fetch it"
                " again"
            )
        (train_images, train_labels), (test_images, test_labels) = (
            [np.concatenate(a) for a in zip(*map(found.pop, names), strict=True)]
            for names in (TRAIN, TEST)
        )
        return Dataset("cifar10", train_images, train_labels, test_images, test_labels, CLASSES)


def read_cifar(name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 32, 32, 3) and labels int32 (n,) of one file. DataError where it is not made
    of records."""
    if not content or len(content) % RECORD:
        raise DataError(
            f"{name}: not CIFAR-10, or cut short; expected records of {RECORD} bytes, got"
            f" {len(content)} bytes in all"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0].astype(np.int32)
    if labels.max() >= CLASSES:
        raise DataError(f"{name}: has label {labels.max()}; those of CIFAR-10 end at {CLASSES - 1}")
    return records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1).copy(), labels


def _content(path: Path) -> bytes:
    with opened(path, "one of CIFAR-10's six files", DataError, DataNotFoundError) as file:
        return file.read(MOST + 1)


def _from_archive(path: Path) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    with opened(path, "CIFAR-10's archive", DataError, DataNotFoundError) as file:
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                stream = _UpTo(unpacked, MOST_UNPACKED)
                with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]  # which asks for `read` alone
                    yield from _members(path, archive)
                while stream.read(2**16):  # at the end gzip compares its checksum
                    pass
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{path}: damaged archive ({reason(error)}); fetch it again") from None


def _members(
    path: Path, archive: tarfile.TarFile
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    found: set[str] = set()
    for number, member in enumerate(archive):
        name = Path(member.name).name
        if number >= MOST_MEMBERS or name in found or not 0 <= member.size <= MOST:
            raise DataError(
                f"{path}: `{member.name:.100}` of {member.size} bytes is more than CIFAR-10's"
                " archive has; fetch it again"
            )
        if member.isfile() and name in {*TRAIN, *TEST}:
            found.add(name)
            content = archive.extractfile(member)
            assert content is not None  # as it is a file
            yield name, read_cifar(f"{path}: {name}", content.read())


class _UpTo:
    """A stream that ends, or does not have more than ``most`` bytes."""

    def __init__(self, stream: Any, most: int) -> None:
        self._stream, self._left = stream, most

    def read(self, size: int) -> bytes:
        content = self._stream.read(min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise ValueError("it unpacks to more than CIFAR-10 has")
        return content
