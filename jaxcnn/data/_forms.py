"""A data set in whatever form it is there: by name, as a folder or as a file.

>>> load("mnst")
Traceback (most recent call last):
jaxcnn.data._dataset.DataNotFoundError: mnst: there is no such file or folder, and no set …
"""

import os
from collections.abc import Callable
from pathlib import Path

from jaxcnn._io.outside import reading
from jaxcnn.data._cifar import ARCHIVE, TEST, load_cifar10
from jaxcnn.data._dataset import DataError, DataNotFoundError, Dataset
from jaxcnn.data._folder import load_image_folder
from jaxcnn.data._idx import load_idx_folder
from jaxcnn.data._npz import load_npz
from jaxcnn.data._sets import SETS, load_set

FORMS: dict[str, tuple[Callable[[Path], bool], Callable[[Path], Dataset]]] = {
    "an .npz file": (lambda path: path.is_file() and path.suffix == ".npz", load_npz),
    f"a folder with CIFAR-10 ({TEST[0]} …, or {ARCHIVE})": (
        lambda path: any(
            (path / name).exists() for name in (TEST[0], "cifar-10-batches-bin", ARCHIVE)
        ),
        load_cifar10,
    ),
    "a folder with four IDX files (train-images-idx3-ubyte[.gz] …)": (
        lambda path: path.is_dir() and any(path.glob("*idx[13]-ubyte*")),
        load_idx_folder,
    ),
    "a folder with train/CLASS/IMAGE and test/CLASS/IMAGE": (
        lambda path: (path / "train").is_dir(),
        load_image_folder,
    ),
}


def load(what: str | os.PathLike[str]) -> Dataset:
    """The data set of that name (see :func:`jaxcnn.data.load_set`), or at that place: as IDX
    files, CIFAR-10's binary files, images by class, or an .npz file.

    A name comes before a folder of the same name: ``load("./mnist")`` is the folder.

    Raises:
        DataNotFoundError: there is nothing.
        DataError: what is there is none of these, or is damaged.
    """
    if isinstance(what, str) and what in SETS:
        return load_set(what)
    with reading(what, "a name, a file or a folder", DataError, DataNotFoundError):
        path = Path(what)
        if not path.exists():
            raise DataNotFoundError(
                f"{what}: there is no such file or folder, and no set of that name; there is"
                f" {', '.join(sorted(SETS))}"
            )
        read = next((read for found, read in FORMS.values() if found(path)), None)
        if read is not None:
            return read(path)
    raise DataError(f"{path}: no data set that is known; looked for {', '.join(FORMS)}")
