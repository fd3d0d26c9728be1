"""Folders of pictures by class, ROOT/train/CLASS/FILE and ROOT/test/CLASS/FILE: all at once, or one
file at a time. Needs the extra ``jaxcnn[train]``, for Pillow.

A class may have folders inside. Files count whose names end as those of pictures do (.png, .jpg,
.jfif, .webp, …), and files without such an ending that are pictures. What is left out is listed
with the reason: hidden files, other files, a class without pictures, pictures of a class that there
is none of to train on, and damaged files where that is asked for. How a picture becomes pixels says
:mod:`jaxcnn.data._pictures`.

>>> import pathlib, tempfile
>>> with tempfile.TemporaryDirectory() as root:
...     for name in ["train/cat/1.pgm", "train/dog/1.pgm", "test/dog/2.pgm", "train/dog/notes.txt"]:
...         path = pathlib.Path(root, name)
...         path.parent.mkdir(parents=True, exist_ok=True)
...         _ = path.write_bytes(b"P5 3 2 255 " + bytes(6))
...     data = load_image_folder(root)
>>> data.names, data.train_images.shape, data.test_labels.tolist()
(('cat', 'dog'), (2, 2, 3), [1])
>>> counted(data.left_out)
'1 not a picture by its name (.txt)'
"""

import concurrent.futures
import dataclasses
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import SupportsIndex, get_args

import numpy as np

from jaxcnn._core.errors import check_counts, setting_error
from jaxcnn._io.outside import reading
from jaxcnn.data._dataset import DataError, DataNotFoundError, Dataset, LeftOut, assemble, times
from jaxcnn.data._pictures import (
    HEIF,
    WHITE,
    Colour,
    Fit,
    is_picture,
    known_by_name,
    pixels_of,
    read_image,
)

THREADS = 8  # Pillow decodes without holding Python's lock


def load_image_folder(
    root: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    fit: Fit = "stretch",
    background: Colour = WHITE,
    skip_bad: bool = False,
) -> Dataset:
    """All pictures under ``root``: uint8 (n, h, w) where all are grey, else (n, h, w, 3), in the
    order of their names; the labels count the sorted classes of ``train``.

    Args:
        size, fit, background, skip_bad: as for :class:`ImageFolder`.

    Raises:
        DataNotFoundError: ``train`` or ``test`` is missing, or has no pictures.
        DataError: pictures are damaged or too large (the first is named, and how many others there
            are), or one is not of the size of the first; there is only one class.
        ValueError: ``size`` is not two integers ≥ 1, or ``fit`` not one of its words.
    """
    root = Path(root)
    for split in ("train", "test"):
        with reading(root / split, "a folder for each class", DataError, DataNotFoundError):
            if not (root / split).is_dir():
                raise DataNotFoundError(
                    f"{root / split}: there is no such folder; expected {root / split}/CLASS/IMAGE"
                )
    train = ImageFolder(root / "train", size=size, fit=fit, background=background)
    test = ImageFolder(root / "test", like=train)
    found = [read for folder in (train, test) for read in folder.decode()]
    bad = [(path, read) for path, read in found if isinstance(read, DataError)]
    if bad and not skip_bad:
        others = f", and {len(bad) - 1} others cannot be used either" if len(bad) > 1 else ""
        raise DataError(f"{bad[0][1]}{others}; mend them, or leave them out (skip_bad, --skip-bad)")
    usable = {path: read for path, read in found if not isinstance(read, DataError)}
    train.keep(usable)
    test.keep(usable)
    train.check_sizes(usable)
    grey = all(pixels.ndim == 2 for pixels in usable.values())
    parts = [
        (
            str(folder.root),
            np.stack([_channels(usable[path], grey) for path in folder.paths]),
            np.array(folder.labels, np.int32),
        )
        for folder in (train, test)
    ]
    data = assemble(str(root), root.resolve().name, parts[0], parts[1], train.names)
    return dataclasses.replace(data, left_out=(*train.left_out, *test.left_out))


class ImageFolder:
    """The pictures under ``root``/CLASS, decoded one at a time: ``folder[i]`` is (image, label),
    for :class:`jaxcnn.data.Stream`.

    An image is uint8 (h, w, 3), or (h, w) if ``grey``. The attributes ``names``, ``paths`` and
    ``labels`` say what there is, ``left_out`` what there is besides, each with its reason, and
    ``listing`` is a checksum: of the names of all classes and files, of the files' sizes, and of
    when they were last changed, in seconds.

    Args:
        size: (h, w) that pictures get; without it all must have the size of the first.
        fit: how they get it: "stretch"; "crop" what is over, after scaling; "pad" what is missing.
        background: red, green, blue, for what is transparent and what is padded.
        skip_bad: decode every file now, and leave out those that are damaged.
        like: the folder to train on, where this one is to test with: its classes and all of the
            settings above are taken.

    Raises:
        DataNotFoundError: ``root`` is no folder, or has no pictures.
        DataError: there is only one class; the first picture, or when asked for another, cannot be
            used.
        ValueError: ``size`` is not two integers ≥ 1, or ``fit`` not one of its words.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        size: tuple[int, int] | None = None,
        grey: bool = False,
        fit: Fit = "stretch",
        background: Colour = WHITE,
        skip_bad: bool = False,
        like: "ImageFolder | None" = None,
    ) -> None:
        if size is not None:
            if len(size) != 2:
                raise setting_error("ImageFolder", "size", "(height, width)", size)
            check_counts("ImageFolder", height=size[0], width=size[1])
        if fit not in get_args(Fit):
            raise setting_error("ImageFolder", "fit", f"one of {', '.join(get_args(Fit))}", fit)
        self.root = Path(root)
        self.size, self.grey = (size, grey) if like is None else (like.size, like.grey)
        self.fit: Fit = fit if like is None else like.fit
        self.background = background if like is None else like.background
        self.skip_bad = skip_bad if like is None else like.skip_bad
        self.left_out: list[LeftOut] = []
        with reading(self.root, "a folder of images for each class", DataError, DataNotFoundError):
            if not self.root.is_dir():
                raise DataNotFoundError(
                    f"{root}: there is no such folder; give one with a folder of images for each"
                    " class"
                )
            folders = list(self._classes())
        found = {folder: list(self._pictures(folder)) for folder in folders}
        self.names = (
            tuple(folder.name for folder in folders if found[folder])
            if like is None
            else like.names
        )
        if len(self.names) < 2:
            there = f"one, {self.names[0]}" if self.names else "none"
            raise DataError(
                f"{root}: expected a folder of pictures for each of at least two classes, found"
                f" {there}{self._said()}"
            )
        self.paths: list[Path] = []
        self.labels: list[int] = []
        listing = hashlib.sha256()
        for folder, pictures in found.items():
            if not pictures:
                self.left_out.append((str(folder), "a class without pictures"))
            for path, about in pictures:
                if folder.name not in self.names:
                    self.left_out.append(
                        (str(path), "of a class that there is none of to train on")
                    )
                    continue
                self.paths.append(path)
                self.labels.append(self.names.index(folder.name))
                # no name has a zero, so that no two listings have the same bytes
                inside = os.fsencode(path.relative_to(folder))
                listing.update(
                    b"%s\0%s\0%d %d\0"
                    % (os.fsencode(folder.name), inside, about.st_size, about.st_mtime)
                )
        self.listing = listing.hexdigest()
        if self.skip_bad:
            decoded = self.decode()
            usable = {path for path, read in decoded if not isinstance(read, DataError)}
            self.keep(usable)
        if not self.paths:
            raise DataNotFoundError(f"{root}: no pictures; looked for CLASS/IMAGE{self._said()}")
        self._first: tuple[Path, tuple[int, int]] = (
            like._first
            if like is not None
            else (self.paths[0], read_image(self.paths[0], grey=True).shape[:2])
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: SupportsIndex) -> tuple[np.ndarray, int]:
        path = self.paths[index]
        image = read_image(
            path, size=self.size, grey=self.grey, fit=self.fit, background=self.background
        )
        self.check_sizes({path: image})
        return image, self.labels[index]

    def decode(self) -> list[tuple[Path, "np.ndarray | DataError"]]:
        """Every picture, (h, w) where it is grey itself, or what is wrong with it."""

        def read(path: Path) -> np.ndarray | DataError:
            try:
                return pixels_of(path, self.size, self.fit, self.background)
            except DataError as problem:
                return problem

        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            return list(zip(self.paths, pool.map(read, self.paths), strict=True))

    def keep(self, usable: Container[Path]) -> None:
        """Leave out all other files, which could not be decoded."""
        bad = [path for path in self.paths if path not in usable]
        self.left_out += [(str(path), "damaged or too large") for path in bad]
        self.choose([number for number, path in enumerate(self.paths) if path in usable])
        if not self.paths:
            raise DataNotFoundError(f"{self.root}: no pictures that can be used{self._said()}")

    def choose(self, numbers: Iterable[int]) -> None:
        """Keep the pictures of these numbers alone."""
        kept = [(self.paths[number], self.labels[number]) for number in numbers]
        self.paths, self.labels = [path for path, _ in kept], [label for _, label in kept]

    def check_sizes(self, pixels: "dict[Path, np.ndarray]") -> None:
        """DataError for one that has another size than the first, where no size is given."""
        first, expected = self._first
        for path, own in pixels.items():
            if self.size is None and own.shape[:2] != expected:
                raise DataError(
                    f"{path}: is {times(own.shape[:2])} pixels but {first} is {times(expected)};"
                    " give `size`, (height, width), to resize all"
                )

    def _classes(self) -> Iterator[Path]:
        for path in sorted(self.root.iterdir()):
            if path.name.startswith("."):
                self.left_out.append((str(path), "hidden"))
                continue
            with reading(path, "a file or a folder", DataError, DataNotFoundError):
                if stat.S_ISDIR(path.stat().st_mode):
                    yield path
                else:
                    self.left_out.append((str(path), "in no class"))

    def _pictures(self, folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
        """The pictures in a folder and those inside of it, by name. DataError for links that lead
        nowhere, as pictures would be missing without a word."""
        known, seen = known_by_name(), {os.path.realpath(folder)}
        stack = [folder]
        while stack:
            with reading(stack[-1], "a folder of pictures", DataError, DataNotFoundError):
                there = sorted(stack.pop().iterdir())
            inside = []
            for path in there:
                if path.name.startswith("."):
                    self.left_out.append((str(path), "hidden"))
                    continue
                with reading(path, "a file or a folder", DataError, DataNotFoundError):
                    about = path.stat()
                if stat.S_ISDIR(about.st_mode):
                    if os.path.realpath(path) in seen:
                        self.left_out.append((str(path), "a folder that is there already"))
                        continue
                    seen.add(os.path.realpath(path))
                    inside.append(path)
                elif why := _no_picture(path, known):
                    self.left_out.append((str(path), why))
                else:
                    yield path, about
            stack += reversed(inside)

    def _said(self) -> str:
        return f"; left out: {counted(self.left_out)}" if self.left_out else ""


def counted(left_out: Sequence[LeftOut]) -> str:
    """What was left out, by reason.

    >>> counted([("a", "hidden"), ("b", "in no class"), ("c", "hidden")])
    '2 hidden; 1 in no class'
    """
    return "; ".join(f"{n} {why}" for why, n in Counter(why for _, why in left_out).items())


def _no_picture(path: Path, known: frozenset[str]) -> str:
    """Why a file is left out; empty where it is not."""
    suffix = path.suffix.lower()
    if suffix in known:
        return ""
    if suffix in HEIF:
        return "HEIC, which needs a plugin (pip install pillow-heif)"
    if not suffix:
        return "" if is_picture(path) else "not a picture, and without an ending"
    return f"not a picture by its name ({suffix:.12})"


def _channels(pixels: np.ndarray, grey: bool) -> np.ndarray:
    return pixels if grey or pixels.ndim == 3 else np.stack([pixels] * 3, -1)
