"""A command line read into a dataclass, whose docstrings are its help."""

import contextlib
import dataclasses
import inspect
import io
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from jaxcnn._io.command import STATUSES, InputError
from jaxcnn._io.terminal import harmless, wide_enough

T = TypeVar("T")
FIRST, LAST = 20, 10  # lines of what tyro says of a value that may have thousands of characters


def read_flags(
    kind: type[T], arguments: Sequence[str], prog: str, before: Callable[[], Sequence[str]] = tuple
) -> T:
    """The ``arguments`` as a ``kind``; those of ``before()`` count less.

    Raises:
        InputError: a flag is given twice.
        SystemExit: with status 2, where they cannot be read; tyro has said why. With 0 after
            --help.
    """
    _once(kind, arguments)
    earlier = before()
    said = io.StringIO()
    try:
        with wide_enough(), contextlib.redirect_stderr(said):
            return tyro.cli(
                kind,
                args=[*earlier, *arguments],
                prog=prog,
                description=f"{inspect.getdoc(kind)}\n\n{STATUSES}",
            )
    finally:
        with contextlib.suppress(OSError):
            lines = harmless(said.getvalue()).splitlines(keepends=True)
            sys.stderr.write(
                "".join(
                    [*lines[:-LAST][:FIRST], *["…\n"] * (len(lines) > FIRST + LAST), *lines[-LAST:]]
                )
            )


def _once(kind: Any, arguments: Sequence[str]) -> None:
    """InputError for a flag that is there twice, as --flag or --no-flag: one of the two would be
    lost."""
    names = {"--" + field.name.replace("_", "-") for field in dataclasses.fields(kind)}
    seen: set[str] = set()
    for word in arguments:
        flag = word.partition("=")[0].replace("_", "-")
        flag = flag if flag in names else flag.replace("--no-", "--", 1)
        if flag in names & seen:
            raise InputError(f"{flag} is given twice; give it once")
        seen.add(flag)
