"""Run from the root of the repository: ``python -m experiments.delta [--help]``."""

from experiments.command import begin
from experiments.delta.config import Config

if __name__ == "__main__":
    begin(Config, "delta")
