"""Run from the root of the repository: ``python -m experiments.bench [--help]``."""

import sys
from collections.abc import Sequence

from experiments.bench.config import parse
from jaxcnn._io.command import claim_file, claim_folder, program, run
from jaxcnn._io.terminal import unheard


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status, as :func:`experiments.command.run` has it."""

    def measure() -> bool:
        config = parse(arguments)
        claim_folder("--out", config.out)
        if config.json is not None:
            claim_file("--json", config.json)
        # matplotlib takes a second to import, which --help and a mistyped flag need not wait for
        from experiments.bench import report

        with unheard():
            return report.run(config)

    return run(measure)


if __name__ == "__main__":
    sys.exit(program(main))
