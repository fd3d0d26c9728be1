"""Run from the root of the repository: ``python -m experiments.recurrent [--help]``."""

from experiments.command import begin
from experiments.recurrent.config import Config

if __name__ == "__main__":
    begin(Config, "recurrent")
