"""Data sets by name: from a folder of yours, or fetched once from where they are published,
checked, and kept. Fetching needs the extra ``jaxcnn[train]``.

    1. $JAXCNN_DATA/NAME, if there is such a folder: its files are taken as they are. The variable
       must name a folder (`~` is your home), or be empty
    2. the cache of this user, filled by pooch where a file is missing; a file that does not have
       its checksum is not used

Checksums: SHA-256, of MNIST and Fashion-MNIST from the files themselves; of KMNIST and CIFAR-10 as
others have published them (not tried here).

>>> sorted(SETS)
['cifar10', 'fashion_mnist', 'kmnist', 'mnist']
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from jaxcnn._io.outside import reading
from jaxcnn.data._cifar import ARCHIVE, load_cifar10
from jaxcnn.data._dataset import DataError, DataNotFoundError, Dataset
from jaxcnn.data._idx import load_idx_folder

FOLDER = "JAXCNN_DATA"
IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a set is published: ``files`` by name with their SHA-256, under ``url``."""

    url: str
    files: Mapping[str, str]
    read: Callable[[Path], Dataset]


def _idx(url: str, *sums: str) -> Origin:
    return Origin(url, dict(zip(IDX, sums, strict=True)), load_idx_folder)


SETS: dict[str, Origin] = {
    "mnist": _idx(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    "fashion_mnist": _idx(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
    "kmnist": _idx(
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
    "cifar10": Origin(
        "https://www.cs.toronto.edu/~kriz/",
        {ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
        load_cifar10,
    ),
}


def load_set(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        DataError: there is no set of that name, a file is damaged, or it does not have its
            checksum; or $JAXCNN_DATA names no folder.
        DataNotFoundError: it is not here and cannot be fetched; the message says which files to put
            where.
    """
    if name not in SETS:
        raise DataError(f"there is no data set `{name}`; there is {', '.join(sorted(SETS))}")
    own = _own(name)
    return SETS[name].read(fetch(name) if own is None else own)


def _own(name: str) -> Path | None:
    """The folder of a set in the folder of one's own, if there is one."""
    told = os.environ.get(FOLDER)
    if not told:
        return None
    with reading(f"{FOLDER}={told}", "a folder with a folder for each set", DataError):
        folder = Path(told).expanduser()
        if not folder.is_dir():
            there = "is a file" if folder.exists() else "is not there"
            raise DataError(
                f"{FOLDER}={told}: {folder.absolute()} {there}; expected a folder with a folder for"
                f" each set, such as {name}"
            )
        if (folder / name).exists() and not (folder / name).is_dir():
            raise DataError(
                f"{FOLDER}={told}: {folder / name} is a file; expected a folder that holds the"
                f" files of {name}"
            )
        return folder / name if (folder / name).is_dir() else None


def fetch(name: str) -> Path:
    """The folder in this user's cache with the files of a set, fetched where they are missing.
    Raises what :func:`load_set` raises."""
    origin = SETS[name]
    try:
        import pooch
    except ImportError:
        raise DataNotFoundError(
            f"{name} is not here{_put(name, Path('FOLDER') / name)}; or let it be fetched: pip"
            " install 'jaxcnn[train]'"
        ) from None
    folder = Path(pooch.os_cache("jaxcnn")) / name
    pooch.get_logger().setLevel("WARNING")
    for file, sum_ in origin.files.items():
        try:
            pooch.retrieve(origin.url + file, f"sha256:{sum_}", fname=file, path=folder)
        except Exception as error:  # of the net, of the disk, of what came
            told = " ".join(str(error).split()) or type(error).__name__
            if isinstance(error, ValueError) and not isinstance(error, OSError):
                raise DataError(
                    f"{name}: what came from {origin.url}{file} is not what its authors published"
                    f" ({told:.160})"
                ) from None
            raise DataNotFoundError(
                f"{name}: {origin.url}{file} cannot be fetched ({told:.120}){_put(name, folder)}"
            ) from None
    return folder


def _put(name: str, folder: Path) -> str:
    files = ", ".join(SETS[name].files)
    return f"; put {files} into {folder}, or into a folder {name} of the folder that {FOLDER} names"
