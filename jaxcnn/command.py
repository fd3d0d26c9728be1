"""What all commands do: check what is given, claim where to write, say how they ended.

>>> expect(2 > 1, "--epochs", "an integer ≥ 1", 2)
>>> expect(0 >= 1, "--epochs", "an integer ≥ 1", 0)
Traceback (most recent call last):
InputError: --epochs must be an integer ≥ 1, got 0
"""

import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from jaxcnn.outside import OutsideError, printable

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
LARGEST_SEED = 2**32 - 1  # JAX silently drops the bits above


class InputError(OutsideError):
    """Something that the user gave cannot be used; the message is one line that says what, and how to mend it."""


class RunError(RuntimeError):
    """A run could not go on; the message is one line that says why."""


def expect(holds: bool, flag: str, wanted: str, got: object) -> None:
    """InputError unless it ``holds``."""
    if not holds:
        raise InputError(f"{flag} must be {wanted}, got {got}")


def claim_folder(flag: str, folder: Path) -> None:
    """Make the ``folder`` and see that files can be written there; InputError where not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError:
        raise InputError(f"{flag} {folder} is a file; give a folder") from None
    except OSError as error:
        raise InputError(f"{flag} {folder} cannot be written to ({error.strerror}); give another folder") from None


def claim_file(flag: str, path: Path) -> None:
    """Make the folder of ``path`` and see that the file can be written; InputError where not."""
    claim_folder(f"{flag} {path}: its folder", path.parent)
    if path.is_dir():
        raise InputError(f"{flag} {path} is a folder; give a file")


def run(work: Callable[[], bool]) -> int:
    """Do the ``work``, which says whether it was interrupted, having kept what there was by then.

    The exit status: 0, 1 for a run that failed, 2 for bad input, 130 for one interrupted by Ctrl-C or SIGTERM.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return INTERRUPTED if work() else 0
    except OutsideError as error:
        return _say(error, BAD_INPUT)
    except BrokenPipeError:  # whoever read the output wants no more
        raise
    except (RunError, OSError, ArithmeticError) as error:  # of these, what training raises where it diverges
        return _say(error, FAILED)
    except KeyboardInterrupt as error:
        return _say(error if error.args else "interrupted before the run was complete", INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(problem: object, status: int) -> int:
    print(f"error: {printable(problem)}", file=sys.stderr)
    return status
