"""Run from the root of the repository: ``python -m experiments.features [--help]``."""

import sys

from experiments.command import main
from experiments.features.config import Config

if __name__ == "__main__":
    sys.exit(main(Config, "features", sys.argv[1:]))
