"""Data sets from files, as NumPy arrays."""

from jaxcnn.data.idx import DataError, DataNotFoundError, Dataset, load_idx_folder, read_idx

__all__ = ["DataError", "DataNotFoundError", "Dataset", "load_idx_folder", "read_idx"]
