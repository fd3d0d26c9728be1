"""Folders of images by class, ROOT/train/CLASS/FILE and ROOT/test/CLASS/FILE: all at once, or one
file at a time. Needs the extra ``jaxcnn[train]``, for Pillow.

Files are those whose names end in .png, .jpg, .jpeg, .bmp, .gif, .webp, .tif, .tiff, .pgm or .ppm;
others are passed over, and so is what is hidden. Of an animation the first picture counts,
transparency is left out, photographs are turned as their EXIF says. A file is decoded as one of
those formats, whatever else Pillow could make of it; more than 8 bits a channel are refused.

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

import hashlib
import os
import re
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from jaxcnn._core.errors import check_counts, setting_error
from jaxcnn._io.outside import opened, reading, reason
from jaxcnn.data._dataset import DataError, DataNotFoundError, Dataset, Part, assemble, times

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
# none of these calls another program, as EPS does
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
WANTED = f"an image of {', '.join(FORMATS)}"
GREY, DEEP = {"1", "L", "LA"}, {"I", "F"}
ORIENTATION = 0x0112  # of EXIF, from 1, upright, to 8


def load_image_folder(
    root: str | os.PathLike[str], *, size: tuple[int, int] | None = None
) -> Dataset:
    """All images under ``root``: uint8 (n, h, w) where all are grey, else (n, h, w, 3), in the
    order of their names; the labels count the sorted classes of ``train``.

    Args:
        size: (h, w) to resize to; without it all images must have one size.

    Raises:
        DataNotFoundError: ``train`` or ``test`` is missing, or a class has no images.
        DataError: an image is damaged, too large, or not of the size of the first; there is only
            one class, or one in ``test`` that ``train`` lacks.
        ValueError: ``size`` is not two integers ≥ 1.
    """
    root = Path(root)
    for split in ("train", "test"):
        with reading(root / split, "a folder for each class", DataError, DataNotFoundError):
            if not (root / split).is_dir():
                raise DataNotFoundError(
                    f"{root / split}: there is no such folder; expected {root / split}/CLASS/IMAGE"
                )
    train = ImageFolder(root / "train", size=size)
    test = ImageFolder(root / "test", like=train)
    train.grey = test.grey = all(
        _open(path, lambda image: image.mode in GREY) for path in train.paths + test.paths
    )
    return assemble(str(root), root.resolve().name, _all(train), _all(test), train.names)


class ImageFolder:
    """The images under ``root``/CLASS, decoded one at a time: ``folder[i]`` is (image, label), for
    :class:`jaxcnn.data.Stream`.

    An image is uint8 (h, w, 3), or (h, w) if ``grey``. The attributes ``names``, ``paths`` and
    ``labels`` say what there is, and ``listing`` is a checksum of it: of the names of all classes
    and files, of the files' sizes, and of when they were last changed, in seconds.

    Args:
        size: (h, w) to resize to; without it all images must have the size of the first.
        like: the folder to train on, where this one is to test with: its classes, ``size`` and
            ``grey`` are taken.

    Raises:
        DataNotFoundError: ``root`` is no folder, or a class has no images.
        DataError: there is only one class, or one that ``like`` lacks; the first image, or when
            asked for another, cannot be used.
        ValueError: ``size`` is not two integers ≥ 1.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        size: tuple[int, int] | None = None,
        grey: bool = False,
        like: "ImageFolder | None" = None,
    ) -> None:
        if size is not None:
            if len(size) != 2:
                raise setting_error("ImageFolder", "size", "(height, width)", size)
            check_counts("ImageFolder", height=size[0], width=size[1])
        root = Path(root)
        with reading(root, "a folder of images for each class", DataError, DataNotFoundError):
            if not root.is_dir():
                raise DataNotFoundError(
                    f"{root}: there is no such folder; give one with a folder of images for each"
                    " class"
                )
            folders = [path for path, about in _visible(root) if stat.S_ISDIR(about.st_mode)]
        self.names = tuple(folder.name for folder in folders) if like is None else like.names
        if len(self.names) < 2:
            there = f"one, {self.names[0]}" if self.names else "none"
            raise DataError(
                f"{root}: expected a folder for each of at least two classes, found {there}"
            )
        self.paths: list[Path] = []
        self.labels: list[int] = []
        listing = hashlib.sha256()
        for folder in folders:
            if folder.name not in self.names:
                raise DataError(
                    f"{folder}: a class that those to train on lack; they have"
                    f" {', '.join(self.names):.200}"
                )
            count = len(self.paths)
            with reading(folder, "a folder of images", DataError, DataNotFoundError):
                for path, about in _visible(folder, SUFFIXES):
                    if not stat.S_ISDIR(about.st_mode):
                        self.paths.append(path)
                        # no name has a zero, so that no two listings have the same bytes
                        listing.update(
                            b"%s\0%s\0%d %d\0"
                            % (
                                os.fsencode(folder.name),
                                os.fsencode(path.name),
                                about.st_size,
                                about.st_mtime,
                            )
                        )
            if len(self.paths) == count:
                raise DataNotFoundError(
                    f"{folder}: no images; looked for {', '.join(sorted(SUFFIXES))}"
                )
            self.labels += [self.names.index(folder.name)] * (len(self.paths) - count)
        if not self.paths:
            raise DataNotFoundError(f"{root}: no images; looked for CLASS/IMAGE")
        self.listing = listing.hexdigest()
        self.size, self.grey = (size, grey) if like is None else (like.size, like.grey)
        self._first: tuple[Path, tuple[int, int]] = (
            like._first
            if like is not None
            else (self.paths[0], read_image(self.paths[0], grey=True).shape[:2])
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: SupportsIndex) -> tuple[np.ndarray, int]:
        path, (first, expected) = self.paths[index], self._first
        image = _open(path, lambda image: _pixels(image, self.size, self.grey))
        if self.size is None and image.shape[:2] != expected:
            raise DataError(
                f"{path}: is {times(image.shape[:2])} pixels but {first} is {times(expected)}; give"
                " `size`, (height, width), to resize all"
            )
        return image, self.labels[index]


def read_image(
    path: str | os.PathLike[str], *, size: tuple[int, int] | None = None, grey: bool = False
) -> np.ndarray:
    """The pixels of a file, uint8: (h, w) if ``grey``, else (h, w, 3); of ``size`` (height, width),
    if given.

    Raises DataNotFoundError where there is no such file, DataError where it is no image.
    """
    return _open(Path(path), lambda image: _pixels(image, size, grey))


def _all(folder: ImageFolder) -> Part:
    images = [folder[index][0] for index in range(len(folder))]
    return str(folder.paths[0].parent.parent), np.stack(images), np.array(folder.labels, np.int32)


def _visible(
    folder: Path, suffixes: set[str] | None = None
) -> Iterator[tuple[Path, os.stat_result]]:
    """What is in a folder, by name, with what is known of it. DataError for links that lead
    nowhere, as images would be missing without a word."""
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and (suffixes is None or path.suffix.lower() in suffixes):
            with reading(path, "a file or a folder", DataError, DataNotFoundError):
                yield path, path.stat()


def _open(path: Path, use: Any) -> Any:
    """``use(image)``, of the image in a file; DataError where it is none, or is larger than
    Pillow's ``Image.MAX_IMAGE_PIXELS``."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "image files are decoded by Pillow: pip install 'jaxcnn[train]'"
        ) from error
    _hush()
    with opened(path, WANTED, DataError, DataNotFoundError) as file:
        try:
            with Image.open(file, formats=FORMATS) as image:
                if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                    raise Image.DecompressionBombError(f"{image.width * image.height} pixels")
                # of 16 bits a colour Pillow keeps 8; 16 bits a pixel are another thing
                if image.mode[:1] in DEEP or (
                    image.format in ("PNG", "TIFF") and ";16" in str(image.tile)
                ):
                    raise DataError(
                        f"{path}: has {image.mode} pixels of more than 8 bits a channel; save it"
                        " with 8"
                    )
                return use(image)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise DataError(
                f"{path}: more than {Image.MAX_IMAGE_PIXELS} pixels when decoded; leave it out, or"
                " raise PIL.Image.MAX_IMAGE_PIXELS"
            ) from None
        except DataError:
            raise
        except Image.UnidentifiedImageError:
            raise DataError(f"{path}: damaged, or not {WANTED}") from None
        except Exception as error:  # decoders raise anything for damaged bytes
            raise DataError(f"{path}: damaged, or not {WANTED} ({reason(error):.80})") from None


def _hush() -> None:
    """Pillow warns of what changes no pixel, such as a damaged preview. For good, as warnings
    cannot be silenced in one thread alone."""
    rule = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
    if rule not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _pixels(image: Any, size: tuple[int, int] | None, grey: bool) -> np.ndarray:
    image.load()  # which turns a TIFF
    way = _way_up(image)
    if "transparency" in image.info:  # else Pillow warns
        image = image.convert("RGBA")
    image = image.convert("L" if grey else "RGB")
    image = image if way is None else image.transpose(way)
    return np.asarray(image if size is None else image.resize((size[1], size[0])), np.uint8)


def _way_up(image: Any) -> Any:
    """How to turn a photograph upright; None where it is, or where its EXIF cannot be read, as
    happens in many a collection."""
    from PIL import Image

    ways = Image.Transpose
    try:
        orientation = image.getexif().get(ORIENTATION)
        return {
            2: ways.FLIP_LEFT_RIGHT,
            3: ways.ROTATE_180,
            4: ways.FLIP_TOP_BOTTOM,
            5: ways.TRANSPOSE,
            6: ways.ROTATE_270,
            7: ways.TRANSVERSE,
            8: ways.ROTATE_90,
        }.get(orientation)
    except Exception:
        return None
