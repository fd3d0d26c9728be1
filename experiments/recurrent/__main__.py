"""Run from the root of the repository: ``python -m experiments.recurrent [--help]``."""

import sys

from experiments.command import main
from experiments.recurrent.config import Config

if __name__ == "__main__":
    sys.exit(main(Config, "recurrent", sys.argv[1:]))
