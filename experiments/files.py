"""The files of a run."""

from collections.abc import Sequence
from pathlib import Path

from jaxcnn.runs._folder import RunFolder


def clear_folder(folder: Path, names: Sequence[str]) -> None:
    """Remove what an earlier run wrote there, so that no old result stands beside a new log.
    InputError where one of the ``names`` is of something that no run wrote."""
    own = RunFolder(folder)
    own.check_free(*names)
    own.clear()
    own.will_write(*names)
