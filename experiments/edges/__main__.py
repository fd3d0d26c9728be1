"""Run from the root of the repository: ``python -m experiments.edges [--help]``."""

import sys

from experiments.command import main
from experiments.edges.config import Config

if __name__ == "__main__":
    sys.exit(main(Config, "edges", sys.argv[1:]))
