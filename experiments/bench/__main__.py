"""Run from the root of the repository: ``python -m experiments.bench [--help]``."""

import signal
import sys
from collections.abc import Sequence

from experiments.bench.config import parse
from experiments.mnist.config import InputError
from experiments.mnist.outputs import claim_folder

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, 2 for bad input, 1 for a run that failed, 130 for one interrupted by Ctrl-C."""
    try:
        config = parse(arguments)
        claim_folder(config.out)
        # matplotlib takes a second to import, which --help and a mistyped flag need not wait for
        from experiments.bench import report

        return INTERRUPTED if report.run(config) else 0
    except InputError as error:
        return _say(error, BAD_INPUT)
    except (OSError, RuntimeError) as error:
        return _say(error, FAILED)
    except KeyboardInterrupt:
        return _say("interrupted before anything was measured", INTERRUPTED)


def _say(problem: object, status: int) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return status


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: no process is left behind
    sys.exit(main())
