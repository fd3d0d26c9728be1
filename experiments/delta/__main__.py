"""Run from the root of the repository: ``python -m experiments.delta [--help]``."""

import sys

from experiments.command import main
from experiments.delta.config import Config

if __name__ == "__main__":
    sys.exit(main(Config, "delta", sys.argv[1:]))
