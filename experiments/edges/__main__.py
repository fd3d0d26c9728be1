"""Run from the root of the repository: ``python -m experiments.edges [--help]``."""

from experiments.command import begin
from experiments.edges.config import Config

if __name__ == "__main__":
    begin(Config, "edges")
