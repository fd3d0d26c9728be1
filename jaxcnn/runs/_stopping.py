"""Ctrl-C and SIGTERM, as a callback: the run ends after the steps that are being computed, and is
saved; a second one ends it at once.

>>> import os, signal
>>> with Stop() as stop:
...     os.kill(os.getpid(), signal.SIGTERM)
...     stop(None, None)
True
"""

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

import jax
import numpy as np

from jaxcnn._io.command import INTERRUPTED

PATIENCE = 1.0  # seconds that Python has to take a second signal by itself
SHOW_CURSOR = b"\x1b[?25h"


class Stop:
    """A context manager that takes the signals, and a callback of :func:`jaxcnn.train.fit` that
    says whether one has come, to any of the processes."""

    heard, agreed = False, False  # a signal of one's own; of any process

    @property
    def asked(self) -> bool:
        """Whether the run is to end."""
        return self.heard or self.agreed

    def __enter__(self) -> "Stop":
        self._before = {
            number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)
        }
        self._gone = threading.Event()
        self._ear, self._mouth = os.pipe()
        os.set_blocking(self._mouth, False)
        self._wakeup = signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._gone.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._mouth)
        self._listener.join()
        os.close(self._ear)

    def __call__(self, report: Any, state: Any) -> bool:
        if jax.process_count() == 1:
            return self.heard
        from jax.experimental import multihost_utils

        # One that comes while the others are waited for counts at the next report, in all of them
        self.agreed = bool(np.any(multihost_utils.process_allgather(np.array(self.heard))))
        return self.agreed

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.heard:
            raise KeyboardInterrupt
        self.heard = True

    def _listen(self) -> None:
        """Python takes signals only between two programs of XLA, which may be a minute apart; this
        thread hears of them at once."""
        taken = 0
        while number := os.read(self._ear, 1):
            if number[0] not in self._before:
                continue
            taken += 1
            if taken == 1:
                _write(b"\nstopping after these steps, and saving; once more to leave at once\n")
            elif not self._gone.wait(PATIENCE):
                _write(
                    (SHOW_CURSOR if os.isatty(2) else b"")
                    + b"\nleft at once; the checkpoints that were whole still are\n"
                )
                os._exit(INTERRUPTED)


def _write(text: bytes) -> None:
    """To stderr, if anybody still reads it."""
    with contextlib.suppress(OSError):
        os.write(2, text)
