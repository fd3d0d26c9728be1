"""Run from the root of the repository: ``python -m experiments.feedback [--help]``."""

from experiments.command import begin
from experiments.feedback.config import Config

if __name__ == "__main__":
    begin(Config, "feedback")
