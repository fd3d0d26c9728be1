"""The files of a run. None is ever seen half written."""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from experiments.mnist.config import InputError
from jaxcnn.files import write_file

RESULT = "result.json"
METRICS = "metrics.jsonl"
PICTURES = ("learning_curves.png", "filters.png", "mistakes.png")


def claim_folder(folder: Path) -> None:
    """Make ``folder`` and see that files can be written there; InputError where not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError:
        raise InputError(f"--out {folder} is a file; give a folder") from None
    except OSError as error:
        raise InputError(f"--out {folder} cannot be written to ({error.strerror}); give another folder") from None


def clear_folder(folder: Path) -> None:
    """Remove what an earlier run wrote there, so that no old result stands beside new metrics."""
    for name in (RESULT, METRICS, *PICTURES):
        (folder / name).unlink(missing_ok=True)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """``value`` as readable JSON; ValueError for a number that JSON does not have (NaN, infinity)."""
    write_file(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


class MetricsLog:
    """One JSON object a line, each flushed as soon as it is known: a run can be followed, and a crash loses nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, **fields: float) -> None:
        self._stream.write(json.dumps(fields, allow_nan=False) + "\n")
        self._stream.flush()


@contextlib.contextmanager
def metrics_log(folder: Path) -> Iterator[MetricsLog]:
    """The log of a run, from empty."""
    with (folder / METRICS).open("w") as stream:
        yield MetricsLog(stream)
