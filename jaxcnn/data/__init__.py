"""Data sets from files, as NumPy arrays."""

from jaxcnn.data.cifar import load_cifar10
from jaxcnn.data.idx import DataError, DataNotFoundError, Dataset, load_idx_folder, read_idx
from jaxcnn.data.sets import load_set

__all__ = ["DataError", "DataNotFoundError", "Dataset", "load_cifar10", "load_idx_folder", "load_set", "read_idx"]
