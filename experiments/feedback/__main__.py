"""Run from the root of the repository: ``python -m experiments.feedback [--help]``."""

import sys

from experiments.command import main
from experiments.feedback.config import Config

if __name__ == "__main__":
    sys.exit(main(Config, "feedback", sys.argv[1:]))
