"""The files of a run."""

from collections.abc import Sequence
from pathlib import Path


def clear_folder(folder: Path, names: Sequence[str]) -> None:
    """Remove what an earlier run wrote there, so that no old result stands beside a new log."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
