"""Run from the root of the repository: ``python -m experiments.digits [--help]``."""

from experiments.command import begin
from experiments.digits.config import Config

if __name__ == "__main__":
    begin(Config, "digits")
