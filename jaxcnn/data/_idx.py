"""The IDX format of MNIST and its successors: one array of unsigned bytes a file, plain or gzipped.

    bytes 0–1   0 0
    byte  2     element type; 0x08, unsigned byte, is the only one that these data sets use
    byte  3     number of axes: 3 for images, 1 for labels
    then        the length of each axis (4 bytes, big-endian), then the elements, last axis fastest

A header is believed only as far as the file's size allows, so a damaged one cannot ask for more
memory than there is data; of a gzipped one, as far as :func:`jaxcnn._io.outside.room` does.

>>> import pathlib, tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     path = pathlib.Path(folder, "t10k-labels-idx1-ubyte")
...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
...     read_idx(path)
array([7, 2, 1], dtype=uint8)
"""

import gzip
import math
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxcnn._io.outside import UNPACKED, opened, reading, reason, room
from jaxcnn.data._dataset import DataError, DataNotFoundError, Dataset, Part, assemble, times

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_BEST_RATIO = 1040  # deflate cannot shrink by more than 1032
_UNSIGNED_BYTE = 0x08
_ELEMENT_TYPES = {
    0x08: "unsigned byte",
    0x09: "signed byte",
    0x0B: "int16",
    0x0C: "int32",
    0x0D: "float32",
    0x0E: "float64",
}
_MOST_AXES = 8
_SPLITS = {"train": ("train",), "test": ("t10k", "test")}
_AXES = {"images": 3, "labels": 1}


def load_idx_folder(folder: str | os.PathLike[str]) -> Dataset:
    """The data set whose four IDX files, by their official names, lie in ``folder``.

    The names are ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
    ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, each with or without ``.gz``. As
    others publish them, ``.idx3-ubyte``, ``test`` for ``t10k`` and one prefix for all four
    (``emnist-digits-``) are understood too.

    Raises:
        DataNotFoundError: the folder or one of the files is missing.
        DataError: two files serve for one role, a file is damaged, or the four do not fit together.
    """
    folder = Path(folder)
    with reading(folder, "the folder that holds the four IDX files", DataError, DataNotFoundError):
        if not folder.is_dir():
            problem = "is not a folder" if folder.exists() else "there is no such folder"
            raise DataNotFoundError(
                f"{folder}: {problem}; give the folder that holds the four IDX files"
            )
        paths = _find_files(folder)
        train, test = (_read_split(split, paths) for split in _SPLITS)
        return assemble(str(folder), folder.resolve().name, train, test)


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an IDX file of unsigned bytes, gzipped or not (its content tells, not its name):
    uint8, read-only.

    Raises:
        DataNotFoundError: there is no such file.
        DataError: the file is not IDX, holds another type, is damaged, cut short, empty or too
            long.
    """
    path = Path(path)
    with opened(path, "an IDX file", DataError, DataNotFoundError) as raw:
        size = os.fstat(raw.fileno()).st_size
        zipped = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        if not zipped:
            return _parse(path, raw.read, size)
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                return _parse(path, stream.read, size * _GZIP_BEST_RATIO, room(size))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"{path}: damaged gzip data ({reason(error)}); fetch the file again"
            ) from None


def _parse(
    path: Path, read: Callable[[int], bytes], most: int, limit: float = math.inf
) -> np.ndarray:
    """The array in a stream, by its ``read``; the whole stream is known to have at most ``most``
    bytes, and must not have more than ``limit``."""
    magic = read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or not 1 <= magic[3] <= _MOST_AXES:
        raise DataError(
            f"{path}: not an IDX file; expected it to start with bytes 00 00 08 and the number of"
            f" axes, got {magic.hex(' ') or 'no bytes'}"
        )
    kind, axes = magic[2:]
    if kind != _UNSIGNED_BYTE:
        name = _ELEMENT_TYPES.get(kind, "unknown")
        raise DataError(
            f"{path}: holds elements of type 0x{kind:02X} ({name}), expected 0x08 (unsigned byte)"
        )
    lengths = read(4 * axes)
    if len(lengths) < 4 * axes:
        raise DataError(
            f"{path}: cut short in its header; expected {4 + 4 * axes} bytes, got"
            f" {4 + len(lengths)}"
        )
    shape = tuple(int(n) for n in np.frombuffer(lengths, ">u4"))
    expected = math.prod(shape)
    if expected == 0:
        raise DataError(f"{path}: empty; its header says {times(shape)} elements")
    there = most - 4 - 4 * axes
    if limit < expected <= there:
        raise DataError(f"{path}: unpacks to {expected} bytes; {UNPACKED}={expected} lets it")
    data = read(expected) if expected <= there else b""
    if len(data) < expected:
        actual = f"at most {there}" if expected > there else f"{len(data)}"
        raise DataError(
            f"{path}: cut short; its header says {times(shape)} = {expected} bytes of data, got"
            f" {actual}; fetch the file again"
        )
    # reading on to the end also makes gzip compare its checksum
    if read(1):
        raise DataError(
            f"{path}: goes on after the {times(shape)} = {expected} bytes of data that its header"
            " says; fetch the file again"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _find_files(folder: Path) -> dict[tuple[str, str], Path]:
    """The file of each split and kind."""
    names = sorted(path.name for path in folder.iterdir())
    paths, prefixes = {}, {}
    for split, words in _SPLITS.items():
        for kind, axes in _AXES.items():
            pattern = re.compile(
                rf"(?P<prefix>.*-)?({'|'.join(words)})-{kind}[-.]idx{axes}-ubyte(\.gz)?"
            )
            found = [match for name in names if (match := pattern.fullmatch(name))]
            if not found:
                wanted = " or ".join(f"{word}-{kind}-idx{axes}-ubyte[.gz]" for word in words)
                there = (
                    ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
                    if names
                    else "an empty folder"
                )
                raise DataNotFoundError(
                    f"{folder}: no {split} {kind}; looked for {wanted}, also with .idx{axes}-ubyte"
                    f" and with a prefix, found {there}"
                )
            if len(found) > 1:
                raise DataError(
                    f"{folder}: {len(found)} files for the {split} {kind}:"
                    f" {', '.join(m.string for m in found)}; keep one"
                )
            paths[split, kind] = folder / found[0].string
            prefixes[found[0]["prefix"] or ""] = None
    if len(prefixes) > 1:
        listed = ", ".join(path.name for path in paths.values())
        raise DataError(
            f"{folder}: the files have different prefixes: {listed}; keep the four of one data set"
        )
    return paths


def _read_split(split: str, paths: dict[tuple[str, str], Path]) -> Part:
    arrays = {}
    for kind, axes in _AXES.items():
        array = arrays[kind] = read_idx(paths[split, kind])
        if array.ndim != axes:
            held = {1: "labels", 3: "images"}.get(array.ndim, "something else")
            raise DataError(
                f"{paths[split, kind]}: expected {kind} ({axes} {'axes' if axes > 1 else 'axis'}), "
                f"got an array of shape {times(array.shape)}, which looks like {held}"
            )
    return str(paths[split, "labels"]), arrays["images"], arrays["labels"]
