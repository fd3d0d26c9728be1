"""Run from the root of the repository: ``python -m experiments.vanishing [--help]``."""

import sys

from experiments.command import main
from experiments.vanishing.config import Config

if __name__ == "__main__":
    sys.exit(main(Config, "vanishing", sys.argv[1:]))
