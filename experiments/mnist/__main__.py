"""Run from the root of the repository: ``python -m experiments.mnist [--help]``. All of it works without a network."""

import sys
import time
from collections.abc import Sequence

from experiments.mnist.config import InputError, parse
from experiments.mnist.outputs import claim_folder

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, 2 for bad input, 1 for a run that failed, 130 for one interrupted by Ctrl-C."""
    start = time.perf_counter()
    try:
        config = parse(arguments)
        claim_folder(config.out)
        # JAX and matplotlib take seconds to import, which --help and a mistyped flag need not wait for
        from experiments.mnist import report

        return INTERRUPTED if report.run(config, start).interrupted else 0
    except InputError as error:
        return _say(error, BAD_INPUT)
    except ArithmeticError as error:
        return _say(error, FAILED)
    except OSError as error:
        return _say(error, FAILED)
    except KeyboardInterrupt:
        return _say("interrupted before training began", INTERRUPTED)


def _say(problem: object, status: int) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
