"""What orbax's and tensorstore's threads print of errors that are raised, too, is kept off the
terminal."""

import contextlib
import gc
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

STILL = 0.25  # seconds


@contextlib.contextmanager
def hush(told: Callable[[], Any] = lambda: None) -> Iterator[None]:
    """Drops the tracebacks of orbax's threads, as their errors are raised, too; and of
    tensorstore's, which report to an event loop that orbax has closed by then; ``told()`` of
    these."""
    log, before = logging.getLogger("absl"), sys.unraisablehook

    def hook(unraisable: Any) -> None:
        told()
        # of a coroutine that ends when nobody waits for it
        code = getattr(unraisable.object, "cr_code", None)
        if str(unraisable.exc_value) != "Event loop is closed" and "orbax" not in getattr(
            code, "co_filename", ""
        ):
            before(unraisable)

    def of_others(record: logging.LogRecord) -> bool:
        known = record.levelno >= logging.ERROR or "did not provide metrics" in str(
            record.msg
        )  # which is as it should be
        return not (known and "orbax" in record.pathname)

    log.addFilter(of_others)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        log.removeFilter(of_others)


def _end_all(error: BaseException | None) -> None:
    """End the coroutines that an error of orbax has left behind, and that its frames hold, before
    somebody hears of them."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
    gc.collect()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops what orbax logs of a damaged checkpoint, as the error says it, and what its threads
    still have to say of it."""
    log, last = logging.getLogger("absl"), time.monotonic()
    level = log.level

    def note() -> None:
        nonlocal last
        last = time.monotonic()

    log.setLevel(logging.CRITICAL)
    try:
        with hush(note):
            try:
                yield
            except Exception as error:
                _end_all(error)
                while time.monotonic() - last < STILL:
                    time.sleep(STILL / 10)
                raise
    finally:
        log.setLevel(level)
