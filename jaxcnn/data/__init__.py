"""Data sets from files, as NumPy arrays; batches of sets that do not fit in memory; images drawn
anew (:mod:`jaxcnn.data.augment`)."""

from jaxcnn.data.cifar import load_cifar10
from jaxcnn.data.dataset import DataError, DataNotFoundError, Dataset
from jaxcnn.data.folder import ImageFolder, load_image_folder
from jaxcnn.data.forms import load
from jaxcnn.data.idx import load_idx_folder, read_idx
from jaxcnn.data.npz import load_npz
from jaxcnn.data.sets import load_set
from jaxcnn.data.streams import Stream

__all__ = ["DataError", "DataNotFoundError", "Dataset", "ImageFolder", "Stream", "load", "load_cifar10", "load_idx_folder", "load_image_folder", "load_npz", "load_set", "read_idx"]  # fmt: skip
