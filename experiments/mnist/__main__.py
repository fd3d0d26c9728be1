"""Run from the root of the repository: ``python -m experiments.mnist [--help]``. All of it works
without a network."""

import sys
from collections.abc import Sequence

from experiments.mnist.config import Mnist
from jaxcnn._io.command import program, run
from jaxcnn.runs._command import train
from jaxcnn.runs._config import Config


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status, as :func:`jaxcnn._io.command.run` has it."""
    given = sys.argv[1:] if arguments is None else arguments
    return run(lambda: train(Mnist, given, "python -m experiments.mnist", after=_draw))


def _draw(config: Config) -> None:
    from experiments.mnist.work import draw  # --help and a mistyped flag do not wait for JAX

    draw(config)


if __name__ == "__main__":
    sys.exit(program(main))
