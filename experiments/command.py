"""What all experiments do on the command line: read and check settings, claim the folder, begin."""

import dataclasses
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

from jaxcnn._io.command import LARGEST_SEED, claim_folder, expect, program, run
from jaxcnn._io.outside import load_jax, printable_lines
from jaxcnn._io.terminal import unheard
from jaxcnn.runs._flags import read_flags

MNIST_DIR = Path(__file__).parent / "data" / "mnist"


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
    """Only see that everything works: seconds, settings of its own for whatever takes time, and
    figures that mean nothing."""

    def check(self) -> None:
        """Raise InputError for a value out of range."""
        expect(
            0 <= self.seed <= LARGEST_SEED,
            "--seed",
            f"an integer in [0, {LARGEST_SEED}]",
            self.seed,
        )


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
        InputError: a flag is given twice, or a value is out of range, or does not go with another.
    """
    given = sys.argv[1:] if arguments is None else arguments
    found = read_flags(settings, given, f"python -m experiments.{experiment}")
    found.check()
    return found


def main(settings: type[C], experiment: str, arguments: Sequence[str] | None) -> int:
    """Read the command line, claim the folder, and do ``experiments.EXPERIMENT.work.run(config)``,
    which says what to tell at the end.

    That module is loaded only then: JAX and matplotlib take seconds, which --help and a mistyped
    flag need not wait for. The exit status is that of :func:`run`."""

    def work() -> bool:
        config = parse(settings, experiment, arguments)
        claim_folder("--out", config.out)
        load_jax(begin=False)
        with unheard():  # what counts is in files
            print(
                printable_lines(
                    importlib.import_module(f"experiments.{experiment}.work").run(config)
                )
            )
        return False

    return run(work)


def begin(settings: type[Common], experiment: str) -> NoReturn:
    """:func:`main` as a process."""
    sys.exit(program(lambda: main(settings, experiment, sys.argv[1:])))
