"""What all commands do: read and check what is given, claim where to write, say how they ended.

>>> expect(2 > 1, "--epochs", "an integer ≥ 1", 2)
>>> expect(0 >= 1, "--epochs", "an integer ≥ 1", 0)
Traceback (most recent call last):
InputError: --epochs must be an integer ≥ 1, got 0
"""

import argparse
import contextlib
import os
import signal
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from jaxcnn._io import terminal
from jaxcnn._io.files import destination
from jaxcnn._io.outside import OutsideError, printable

FAILED, BAD_INPUT, INTERRUPTED, CLOSED = 1, 2, 130, 141
STATUSES = (
    "exit status: 0 where all is well; 1 where it failed; 2 for bad input; 130 where Ctrl-C or"
    " SIGTERM ended it; 141 where whoever read what it prints went away"
)
LARGEST_SEED = 2**32 - 1  # JAX silently drops the bits above
LONGEST = 300  # characters of a name that are shown


class InputError(OutsideError):
    """Something that the user gave cannot be used; the message is one line that says what, and how
    to mend it."""


class RunError(RuntimeError):
    """A run could not go on; the message is one line that says why."""


def expect(holds: bool, flag: str, wanted: str, got: object) -> None:
    """InputError unless it ``holds``."""
    if not holds:
        raise InputError(f"{flag} must be {wanted}, got {printable(got, LONGEST)}")


class Parser(argparse.ArgumentParser):
    """One line for what cannot be read, the exit statuses under the help, and no option twice but
    those that may be repeated."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{"epilog": STATUSES} | settings)
        for name, kind in ((None, _Once), ("store", _Once), ("store_true", _OnceTrue)):
            self.register("action", name, kind)

    def error(self, message: str) -> NoReturn:
        """Say it, and leave with the status for bad input."""
        self.exit(
            BAD_INPUT,
            f"error: {printable(message, 1000)}; {self.prog} --help tells of all options\n",
        )

    def _print_message(self, message: str, file: Any = None) -> None:
        """argparse passes over a stdout that takes nothing."""
        with contextlib.suppress(*[OSError] * (file is not sys.stdout)):
            (file or sys.stderr).write(message)


class _Once(argparse._StoreAction):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        _first_time(self, namespace)
        super().__call__(parser, namespace, values, option)


class _OnceTrue(argparse._StoreTrueAction):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        _first_time(self, namespace)
        super().__call__(parser, namespace, values, option)


def _first_time(action: argparse.Action, namespace: argparse.Namespace) -> None:
    seen: set[str] = namespace.__dict__.setdefault("given", set())
    if action.dest in seen:
        raise argparse.ArgumentError(action, "is given twice")
    seen.add(action.dest)


def claim_folder(flag: str, folder: Path) -> None:
    """Make the ``folder`` and see that files can be written there; InputError where not."""
    with _claiming(flag, folder, "folder"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise InputError(
                f"{flag} {printable(folder, LONGEST)} is a file; give a folder"
            ) from None
        with tempfile.TemporaryFile(dir=folder):
            pass


def claim_file(flag: str, path: Path, *, make_folder: bool = True) -> None:
    """See that the file can be written, whatever it is, and make its folder, if that may be;
    InputError where not."""
    with _claiming(flag, path, "file"):
        place = destination(path)
        if isinstance(place, int):  # a stream of one's own
            os.fstat(place)
            return
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            # where pathlib says of a name that no file can have that it is not there
            os.lstat(place)
        if place.is_dir():
            raise InputError(f"{flag} {printable(path, LONGEST)} is a folder; give a file")
        # a device or a pipe, which is written into
        if place.exists() and not stat.S_ISREG(place.stat().st_mode):
            if not os.access(place, os.W_OK):
                raise PermissionError(0, "Permission denied")
            return
        if not make_folder and not place.parent.exists():
            raise InputError(
                f"{flag} {printable(path, LONGEST)}: its folder does not exist; give a file in a"
                " folder that exists"
            )
        os.stat(place.parent / ".") if place.parent.exists() else None
    claim_folder(f"{flag} {printable(path, LONGEST)}: its folder", place.parent)


@contextlib.contextmanager
def _claiming(flag: str, path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except OutsideError:
        raise
    except (
        OSError,
        ValueError,
    ) as error:  # names with a NUL, or of characters that no name can have
        why = getattr(error, "strerror", None) or printable(error, LONGEST)
        raise InputError(
            f"{flag} {printable(path, LONGEST)} cannot be written to ({why}); give another {kind}"
        ) from None


def run(work: Callable[[], int]) -> int:
    """Do the ``work``, which says its exit status, or whether it was interrupted, having kept what
    there was by then.

    The exit status, as :data:`STATUSES` has it; one line on stderr says what was wrong.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        status = work()
        return (INTERRUPTED if status else 0) if isinstance(status, bool) else status
    except OutsideError as error:
        return _say(error, BAD_INPUT)
    except OSError as error:
        output = terminal.finish()
        if isinstance(output or error, BrokenPipeError):  # whoever read the output wants no more
            return CLOSED
        return _say(
            f"the output cannot be written ({output.strerror})" if output else _reason(error),
            FAILED,
        )
    except (RunError, ArithmeticError) as error:  # of these, what training raises where it diverges
        return _say(error, FAILED)
    except MemoryError:
        return _say("there is not enough memory", FAILED)
    except KeyboardInterrupt as error:
        return _say(error if error.args else "interrupted before the run was complete", INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)


def program(main: Callable[[], int]) -> int:
    """:func:`run` of ``main`` as a process of its own, whatever its streams are: the exit
    status."""
    terminal.prepare()
    try:
        status = run(main)
    except SystemExit as end:  # after --help, or what could not be read
        status = end.code if isinstance(end.code, int) else FAILED if end.code else 0

    def flush() -> int:  # here rather than at exit, where nobody could catch what it raises
        sys.stdout.flush()
        return status

    status = run(flush)
    terminal.finish()
    return status


def _reason(error: OSError) -> str:
    return ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)


def _say(problem: object, status: int) -> int:
    with contextlib.suppress(OSError):  # where it cannot be printed, the exit status says it
        print(f"error: {printable(problem)}", file=sys.stderr)
    return status
