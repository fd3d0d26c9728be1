"""Run from the root of the repository: ``python -m experiments.vanishing [--help]``."""

from experiments.command import begin
from experiments.vanishing.config import Config

if __name__ == "__main__":
    begin(Config, "vanishing")
