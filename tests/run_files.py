"""A small data set and a short run of `python -m jaxcnn train`, for the tests of the command
line."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from idx_files import stripes

from jaxcnn.__main__ import main
from jaxcnn.train import Report
from jaxcnn.train._progress import Progress

SHORT = ("--model", "mlp", "--epochs", "3", "--batch-size", "20", "--checkpoint-every", "10")


def arrays() -> dict[str, np.ndarray]:
    """200 images of 8×8 to train on, 48 to test with, of 4 classes, by the names that an .npz file
    has for them."""
    (train, train_labels), (test, test_labels) = (
        stripes(200, size=8, seed=0),
        stripes(48, size=8, seed=1),
    )
    return {
        "train_images": train.astype(np.uint8),
        "train_labels": train_labels,
        "test_images": test.astype(np.uint8),
        "test_labels": test_labels,
    }


def write_npz(path: Path, **replaced: Any) -> Path:
    """:func:`arrays` as a file, some of them replaced."""
    everything: dict[str, Any] = arrays() | replaced
    np.savez(path, **everything)
    return path


def train(data: Path, out: Path, *more: str) -> int:
    """A run in this process; its exit status."""
    return main(["train", "--data", str(data), "--out", str(out), *others(SHORT, more), *more])


@contextlib.contextmanager
def interrupted(
    monkeypatch: pytest.MonkeyPatch,
    number: int = signal.SIGTERM,
    when: Callable[[Report], bool] = lambda report: True,
) -> Iterator[None]:
    """A signal comes right after each report of which ``when`` is true."""
    whole = Progress.__call__

    def then_signal(self: Progress, report: Report, state: Any = None) -> None:
        whole(self, report, state)
        if when(report):
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "__call__", then_signal)
        yield


def free_port() -> int:
    """Of this machine alone."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return own.getsockname()[1]


def others(flags: Sequence[str], more: Sequence[str]) -> list[str]:
    """Of the ``flags``, each with a value, those that are not given ``more``: a flag twice is
    refused."""
    pairs = zip(flags[::2], flags[1::2], strict=True)
    return [word for pair in pairs if pair[0] not in more for word in pair]


def content(folder: Path) -> dict[str, bytes]:
    """All files below it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
