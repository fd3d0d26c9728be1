"""What all experiments do on the command line: read and check settings, claim where to write, say how they ended."""

import dataclasses
import importlib
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import tyro

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
MNIST_DIR = Path(__file__).parent / "data" / "mnist"
LARGEST_SEED = 2**32 - 1  # JAX silently drops the bits above


class InputError(ValueError):
    """Something that the user gave cannot be used; the message is one line that says what, and how to mend it."""


class RunError(RuntimeError):
    """A run could not go on; the message is one line that says why."""


class Settings(Protocol):
    """A dataclass whose fields are the flags."""

    def check(self) -> None:
        """Raise InputError for what cannot be used."""


@dataclasses.dataclass(frozen=True)
class Common:
    """What every experiment lets one set. The docstring of a subclass is its help text."""

    out: Path
    """Folder for results and pictures."""
    seed: int = 0
    """Of everything that is drawn."""
    smoke: bool = False
    """Only see that everything works: seconds, settings of its own for whatever takes time, and figures that mean nothing."""

    def check(self) -> None:
        """Raise InputError for a value out of range."""
        expect(0 <= self.seed <= LARGEST_SEED, "--seed", f"an integer in [0, {LARGEST_SEED}]", self.seed)


@dataclasses.dataclass(frozen=True)
class OnImages(Common):
    """What every experiment on a set of images lets one set."""

    data_dir: Path = MNIST_DIR
    """Folder of the four IDX files, gzipped or not (MNIST, Fashion-MNIST …)."""


S = TypeVar("S", bound=Settings)
C = TypeVar("C", bound=Common)


def parse(settings: type[S], experiment: str, arguments: Sequence[str] | None) -> S:
    """The command line as checked settings.

    Raises:
        SystemExit: with status 2, where it cannot be read; tyro has said why.
        InputError: a value is out of range, or does not go with another.
    """
    found = tyro.cli(settings, args=arguments, prog=f"python -m experiments.{experiment}")
    found.check()
    return found


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


def main(settings: type[C], experiment: str, arguments: Sequence[str] | None) -> int:
    """Read the command line, claim the folder, and do ``experiments.EXPERIMENT.work.run(config)``, which says what to tell at the end.

    That module is loaded only then: JAX and matplotlib take seconds, which --help and a mistyped flag need not wait for. The exit status is that of :func:`run`.
    """

    def work() -> bool:
        config = parse(settings, experiment, arguments)
        claim_folder("--out", config.out)
        print(importlib.import_module(f"experiments.{experiment}.work").run(config))
        return False

    return run(work)


def run(work: Callable[[], bool]) -> int:
    """Do an experiment's ``work``, which says whether it was interrupted, having kept what there was by then.

    The exit status: 0, 1 for a run that failed, 2 for bad input, 130 for one interrupted by Ctrl-C or SIGTERM.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return INTERRUPTED if work() else 0
    except InputError as error:
        return _say(error, BAD_INPUT)
    except (RunError, OSError, ArithmeticError) as error:  # of these, what training raises where it diverges
        return _say(error, FAILED)
    except KeyboardInterrupt:
        return _say("interrupted before the run was complete", INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(problem: object, status: int) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return status
