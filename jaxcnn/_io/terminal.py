"""The streams that a command says things on: closed, narrow, of another alphabet, full, or read by
nobody any more, it neither fails over them nor hangs.

>>> print(harmless("two\\nlines, \\x1b[1mbold\\x1b[0m, and \\x1b[2J"))
two
lines, \x1b[1mbold\x1b[0m, and \\x1b[2J
"""

import contextlib
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from jaxcnn._io.outside import printable_lines

NARROWEST, WIDEST = 40, 1000
COLOUR = re.compile("(\x1b\\[[0-9;]*m)")


def harmless(text: object) -> str:
    """``text`` with its lines and colours, and nothing else that a terminal would obey."""
    return "".join(
        part if number % 2 else printable_lines(part)
        for number, part in enumerate(COLOUR.split(str(text)))
    )


def prepare() -> None:
    """For a process of one's own: streams that are closed lead nowhere, and every character has a
    form in every encoding."""
    # else the next file that is opened gets the number of a closed stream, and what is printed
    if os.name == "posix":
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(number, True)
        os.close(number)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)  # open for as long as the process
            setattr(sys, name, open(nowhere, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    os.environ.update(_size())


def finish() -> OSError | None:
    """What is still to be printed is, or goes nowhere; what kept stdout from taking it."""
    problem = None
    for stream in (sys.stderr, sys.stdout):
        try:
            stream.flush()
        except OSError as error:
            problem = error if stream is sys.stdout else None
            lead_nowhere(stream.fileno())
    return problem


def lead_nowhere(number: int) -> None:
    """Whatever is written to that stream from now on, by whomever, is dropped."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, number)
    os.close(nothing)


@contextlib.contextmanager
def wide_enough() -> Iterator[None]:
    """Help and tables have room: what draws them hangs or fails in five columns, and in COLUMNS
    that are no number."""
    changed = _size()
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _size() -> dict[str, str]:
    """Of the environment, what must change."""
    found = shutil.get_terminal_size()
    fits = str(min(max(found.columns, NARROWEST), WIDEST)), str(min(max(found.lines, 1), WIDEST))
    now = {"COLUMNS": str(found.columns), "LINES": str(found.lines)} | {
        name: os.environ[name] for name in ("COLUMNS", "LINES") if name in os.environ
    }
    return {
        name: size for (name, value), size in zip(now.items(), fits, strict=True) if value != size
    }


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """What is said meanwhile is for whoever still reads it: a run goes on to its end when its
    terminal, pipe or disk takes no more."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_heedless, before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _heedless(stream: TextIO) -> TextIO:
    """The same stream, if it is one of the process's own (a test's are not), without its errors."""
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return stream
    if number not in (1, 2):
        return stream
    try:
        stream.flush()
    except OSError:
        lead_nowhere(number)
    raw: Any = io.BufferedWriter(_Heedless(number, "w", closefd=False))
    return io.TextIOWrapper(
        raw,
        stream.encoding,
        "backslashreplace",
        line_buffering=getattr(stream, "line_buffering", True),
    )


class _Heedless(io.FileIO):
    """Under all buffers, so that none is left with what could not be written, to fail over it
    again."""

    def write(self, data: Any, /) -> int | None:
        try:
            return super().write(data)
        except OSError:
            lead_nowhere(self.fileno())
            return memoryview(data).nbytes
