"""Signals that end a run: one asks, two insist, others are nobody's business; of several processes
all end together."""

import os
import signal
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from jaxcnn.runs import _stopping as stopping
from jaxcnn.runs._stopping import Stop


def test_other_signals_are_nobodys_business(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stopping, "PATIENCE", 0.05)
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.3)  # or this process would be gone
        assert not stop(None, None)
    signal.signal(signal.SIGUSR1, before)
    assert capfd.readouterr().err == ""


def test_a_second_signal_insists() -> None:
    with pytest.raises(KeyboardInterrupt), Stop() as stop:  # noqa: PT012
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop(None, None)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)


BUSY = """
import os, signal, threading, time
import numpy as np
from jaxcnn.runs._stopping import Stop
with Stop():
    for wait in (0.3, 0.6):
        threading.Timer(wait, os.kill, (os.getpid(), signal.SIGINT)).start()
    print("begun", flush=True)
    np.random.default_rng(0).random(120_000_000).sort()  # seconds without a word from Python
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("stderr", [subprocess.PIPE, None])
def test_a_second_signal_ends_what_python_cannot(stderr: Any) -> None:
    """Also where nobody reads what is said of it."""
    ear, mouth = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=stderr or mouth
    ) as process:
        os.close(ear)
        os.close(mouth)
        assert process.wait(30) == 130


def test_of_several_processes_all_end_together(monkeypatch: pytest.MonkeyPatch) -> None:
    signals = [True, False]

    def gather(own: np.ndarray) -> np.ndarray:
        if signals.pop(0):
            os.kill(os.getpid(), signal.SIGTERM)  # while the others are waited for
        return np.array([own, False])

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "process_allgather", gather)
    with Stop() as stop:
        assert [stop(None, None), stop(None, None)] == [False, True]


def test_a_signal_to_another_process_is_not_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda own: np.array([own, True]))
    with Stop() as stop:
        assert stop(None, None)
        os.kill(os.getpid(), signal.SIGTERM)  # the first here, which insists on nothing
        assert stop.asked
