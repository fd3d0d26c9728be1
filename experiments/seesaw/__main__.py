"""Run from the root of the repository: ``python -m experiments.seesaw [--help]``."""

from experiments.command import begin
from experiments.seesaw.config import Config

if __name__ == "__main__":
    begin(Config, "seesaw")
