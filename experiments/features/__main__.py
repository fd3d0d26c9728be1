"""Run from the root of the repository: ``python -m experiments.features [--help]``."""

from experiments.command import begin
from experiments.features.config import Config

if __name__ == "__main__":
    begin(Config, "features")
