"""Run from the root of the repository: ``python -m experiments.digits [--help]``."""

import sys

from experiments.command import main
from experiments.digits.config import Config

if __name__ == "__main__":
    sys.exit(main(Config, "digits", sys.argv[1:]))
