"""Run from the root of the repository: ``python -m experiments.walkthrough [--help]``."""

import sys

from experiments.command import main
from experiments.walkthrough.config import Config

if __name__ == "__main__":
    sys.exit(main(Config, "walkthrough", sys.argv[1:]))
