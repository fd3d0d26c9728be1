"""Data sets from files, as NumPy arrays; batches of sets that do not fit in memory; images drawn
anew (:mod:`jaxcnn.data.augment`)."""

from jaxcnn.data import augment
from jaxcnn.data._cifar import load_cifar10
from jaxcnn.data._dataset import DataError, DataNotFoundError, Dataset
from jaxcnn.data._folder import ImageFolder, load_image_folder
from jaxcnn.data._forms import load
from jaxcnn.data._idx import load_idx_folder, read_idx
from jaxcnn.data._npz import load_npz
from jaxcnn.data._scale import Standardiser, standardiser
from jaxcnn.data._sets import load_set
from jaxcnn.data._streams import Stream

__all__ = [
    "DataError", "DataNotFoundError", "Dataset", "ImageFolder", "Standardiser", "Stream", "augment",
    "load", "load_cifar10", "load_idx_folder", "load_image_folder", "load_npz", "load_set",
    "read_idx", "standardiser",
]  # fmt: skip
