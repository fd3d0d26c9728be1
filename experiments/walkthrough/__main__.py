"""Run from the root of the repository: ``python -m experiments.walkthrough [--help]``."""

from experiments.command import begin
from experiments.walkthrough.config import Config

if __name__ == "__main__":
    begin(Config, "walkthrough")
