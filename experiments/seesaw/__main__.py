"""Run from the root of the repository: ``python -m experiments.seesaw [--help]``."""

import sys

from experiments.command import main
from experiments.seesaw.config import Config

if __name__ == "__main__":
    sys.exit(main(Config, "seesaw", sys.argv[1:]))
