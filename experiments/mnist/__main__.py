"""Run from the root of the repository: ``python -m experiments.mnist [--help]``. All of it works
without a network."""

import sys
import time
from collections.abc import Sequence

from experiments.command import parse
from experiments.mnist.config import Config
from jaxcnn._io.command import claim_folder, program, run
from jaxcnn._io.outside import load_jax
from jaxcnn._io.terminal import unheard


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status, as :func:`experiments.command.run` has it."""
    start = time.perf_counter()

    def train() -> bool:
        config = parse(Config, "mnist", arguments)
        claim_folder("--out", config.out)
        load_jax(begin=False)
        # JAX and matplotlib take seconds to import, which --help and a mistyped flag need not wait
        # for
        from experiments.mnist import work

        with unheard():
            return work.run(config, start)

    return run(train)


if __name__ == "__main__":
    sys.exit(program(main))
