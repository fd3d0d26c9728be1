"""Folders of images by class, ROOT/train/CLASS/FILE and ROOT/test/CLASS/FILE: all at once, or one file at a time. Needs the extra ``jaxcnn[train]``, for Pillow.

Files are those whose names end in .png, .jpg, .jpeg, .bmp, .gif, .webp, .tif, .tiff, .pgm or .ppm; others are passed over, and so is what is hidden. Of an animation the first picture counts,
transparency is left out. A file is decoded as one of those formats, whatever else Pillow could make of it.

>>> import pathlib, tempfile
>>> with tempfile.TemporaryDirectory() as root:
...     for number, name in enumerate(["train/cat/1.pgm", "train/dog/1.pgm", "test/dog/2.pgm"]):
...         path = pathlib.Path(root, name)
...         path.parent.mkdir(parents=True, exist_ok=True)
...         _ = path.write_bytes(b"P5 3 2 255 " + bytes([number]) * 6)
...     data = load_image_folder(root)
>>> data.names, data.train_images.shape, data.test_labels.tolist()
(('cat', 'dog'), (2, 2, 3), [1])
"""

import os
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from jaxcnn.data.dataset import DataError, DataNotFoundError, Dataset, Part, assemble, times
from jaxcnn.errors import check_counts, setting_error

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # none of these calls another program, as EPS does
GREY, DEEP = {"1", "L", "LA"}, {"I", "F"}


def load_image_folder(root: str | os.PathLike[str], *, size: tuple[int, int] | None = None) -> Dataset:
    """All images under ``root``: uint8 (n, h, w) where all are grey, else (n, h, w, 3), in the order of their names; the labels count the sorted classes of ``train``.

    Args:
        size: (h, w) to resize to; without it all images must have one size.

    Raises:
        DataNotFoundError: ``train`` or ``test`` is missing, or a class has no images.
        DataError: an image is damaged, too large, or not of the size of the first; there is only one class, or one in ``test`` that ``train`` lacks.
        ValueError: ``size`` is not two integers ≥ 1.
    """
    root = Path(root)
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise DataNotFoundError(f"{root / split}: there is no such folder; expected {root / split}/CLASS/IMAGE")
    train = ImageFolder(root / "train", size=size)
    test = ImageFolder(root / "test", like=train)
    train.grey = test.grey = all(_open(path, lambda image: image.mode in GREY) for path in train.paths + test.paths)
    return assemble(str(root), root.resolve().name, _all(train), _all(test), train.names)


class ImageFolder:
    """The images under ``root``/CLASS, decoded one at a time: ``folder[i]`` is (image, label), for :class:`jaxcnn.data.Stream`.

    An image is uint8 (h, w, 3), or (h, w) if ``grey``. The attributes ``names``, ``paths`` and ``labels`` say what there is.

    Args:
        size: (h, w) to resize to; without it all images must have the size of the first.
        like: the folder to train on, where this one is to test with: its classes, ``size`` and ``grey`` are taken.

    Raises:
        DataNotFoundError: ``root`` is no folder, or a class has no images.
        DataError: there is only one class, or one that ``like`` lacks; the first image, or when asked for another, cannot be used.
        ValueError: ``size`` is not two integers ≥ 1.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, size: tuple[int, int] | None = None, grey: bool = False, like: "ImageFolder | None" = None
    ) -> None:  # fmt: skip
        if size is not None:
            if len(size) != 2:
                raise setting_error("ImageFolder", "size", "(height, width)", size)
            check_counts("ImageFolder", height=size[0], width=size[1])
        root = Path(root)
        if not root.is_dir():
            raise DataNotFoundError(f"{root}: there is no such folder; give one with a folder of images for each class")
        folders = _visible(root, Path.is_dir)
        self.names = tuple(folder.name for folder in folders) if like is None else like.names
        if len(self.names) < 2:
            there = f"one, {self.names[0]}" if self.names else "none"
            raise DataError(f"{root}: expected a folder for each of at least two classes, found {there}")
        self.paths: list[Path] = []
        self.labels: list[int] = []
        for folder in folders:
            if folder.name not in self.names:
                raise DataError(f"{folder}: a class that those to train on lack; they have {', '.join(self.names):.200}")  # fmt: skip
            paths = [path for path in _visible(folder, Path.is_file) if path.suffix.lower() in SUFFIXES]
            if not paths:
                raise DataNotFoundError(f"{folder}: no images; looked for {', '.join(sorted(SUFFIXES))}")
            self.paths += paths
            self.labels += [self.names.index(folder.name)] * len(paths)
        if not self.paths:
            raise DataNotFoundError(f"{root}: no images; looked for CLASS/IMAGE")
        self.size, self.grey = (size, grey) if like is None else (like.size, like.grey)
        self._first: tuple[Path, tuple[int, int]] = like._first if like is not None else (self.paths[0], _open(self.paths[0], _size))  # fmt: skip

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: SupportsIndex) -> tuple[np.ndarray, int]:
        path, (first, expected) = self.paths[index], self._first
        image = _open(path, lambda image: _pixels(image, self.size, self.grey))
        if self.size is None and image.shape[:2] != expected:
            raise DataError(f"{path}: is {times(image.shape[:2])} pixels but {first} is {times(expected)}; give `size`, (height, width), to resize all")  # fmt: skip
        return image, self.labels[index]


def read_image(path: str | os.PathLike[str], *, size: tuple[int, int] | None = None, grey: bool = False) -> np.ndarray:
    """The pixels of a file, uint8: (h, w) if ``grey``, else (h, w, 3); of ``size`` (height, width), if given.

    Raises DataNotFoundError where there is no such file, DataError where it is no image.
    """
    return _open(Path(path), lambda image: _pixels(image, size, grey))


def _all(folder: ImageFolder) -> Part:
    images = [folder[index][0] for index in range(len(folder))]
    return str(folder.paths[0].parent.parent), np.stack(images), np.array(folder.labels, np.int32)


def _visible(folder: Path, kind: Any) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and kind(path))


def _open(path: Path, use: Any) -> Any:
    """``use(image)``, of the image in a file; DataError where it is none, or is larger than Pillow's ``Image.MAX_IMAGE_PIXELS``."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("image files are decoded by Pillow: pip install 'jaxcnn[train]'") from error
    try:
        with Image.open(path, formats=FORMATS) as image:
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError(f"{image.width * image.height} pixels")
            return use(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{path}: more than {Image.MAX_IMAGE_PIXELS} pixels when decoded; leave it out, or raise PIL.Image.MAX_IMAGE_PIXELS") from None  # fmt: skip
    except DataError:
        raise
    except FileNotFoundError:
        raise DataNotFoundError(f"{path}: there is no such file") from None
    except Exception as error:  # decoders raise anything for damaged bytes
        raise DataError(f"{path}: damaged, or not an image of {', '.join(FORMATS)} ({error!s:.80})") from None


def _size(image: Any) -> tuple[int, int]:
    return image.height, image.width


def _pixels(image: Any, size: tuple[int, int] | None, grey: bool) -> np.ndarray:
    if image.mode[:1] in DEEP:
        raise DataError(f"{image.filename}: has {image.mode} pixels of more than 8 bits; save it with 8 bits a channel")
    if "transparency" in image.info:  # else Pillow warns
        image = image.convert("RGBA")
    image = image.convert("L" if grey else "RGB")
    return np.asarray(image if size is None else image.resize((size[1], size[0])), np.uint8)
