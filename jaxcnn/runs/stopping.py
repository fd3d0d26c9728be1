"""Ctrl-C and SIGTERM, as a callback: the run ends after the steps that are being computed, and is saved; a second one ends it at once.

>>> import os, signal
>>> with Stop() as stop:
...     os.kill(os.getpid(), signal.SIGTERM)
...     stop(None, None)
True
"""

import os
import signal
from types import FrameType, TracebackType
from typing import Any

import jax
import numpy as np


class Stop:
    """A context manager that takes the signals, and a callback of :func:`jaxcnn.train.fit` that says whether one has come, to any of the processes."""

    asked = False

    def __enter__(self) -> "Stop":
        self._before = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:  # fmt: skip
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self, report: Any, state: Any) -> bool:
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            self.asked = bool(np.any(multihost_utils.process_allgather(np.array(self.asked))))
        return self.asked

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # not by print, which fails where the signal came in the middle of another one
        os.write(2, b"\nstopping after these steps, and saving; once more to leave at once\n")
