"""The settings of a run: every default in one place, and what is refused before any work."""

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

MNIST_DIR = Path(__file__).parents[1] / "data" / "mnist"
_LARGEST_SEED = 2**32 - 1  # JAX silently drops the bits above


class InputError(ValueError):
    """Something that the user gave cannot be used; the message is one line that says what, and how to mend it."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Train a model on MNIST, or on any data set in the same four IDX files, with hand-written gradients.

    Writes result.json, metrics.jsonl, learning_curves.png, filters.png and mistakes.png into --out.
    """

    data_dir: Path = MNIST_DIR
    """Folder of the four IDX files, gzipped or not."""
    out: Path = Path("runs/mnist")
    """Folder for results and pictures."""
    model: Literal["lenet", "vgg6", "resnet20", "mlp"] = "lenet"
    """Which model."""
    epochs: int = 6
    """Passes over the training images."""
    batch_size: int = 64
    """Images a step."""
    learning_rate: float = 2e-3
    """Peak of Adam's one-cycle schedule."""
    warmup: float = 0.2
    """Share of the steps in which the learning rate rises to its peak."""
    beta2: float = 0.99
    """Adam's memory of squared gradients."""
    label_smoothing: float = 0.1
    """Share of each label that is spread over all classes in training."""
    dropout: float = 0.5
    """Share of hidden numbers silenced in training (lenet only)."""
    seed: int = 0
    """Of the initial parameters, the order of the images, and dropout."""

    def check(self) -> None:
        """Raise InputError for a value out of range."""
        _expect(self.epochs >= 1, "--epochs", "an integer ≥ 1", self.epochs)
        _expect(self.batch_size >= 1, "--batch-size", "an integer ≥ 1", self.batch_size)
        _expect(0 < self.learning_rate < math.inf, "--learning-rate", "a number > 0", self.learning_rate)
        _expect(0 < self.warmup < 1, "--warmup", "a number between 0 and 1", self.warmup)
        _expect(0 < self.beta2 < 1, "--beta2", "a number between 0 and 1", self.beta2)
        _expect(0 <= self.dropout < 1, "--dropout", "a number in [0, 1)", self.dropout)
        _expect(0 <= self.label_smoothing < 1, "--label-smoothing", "a number in [0, 1)", self.label_smoothing)
        _expect(0 <= self.seed <= _LARGEST_SEED, "--seed", f"an integer in [0, {_LARGEST_SEED}]", self.seed)
        if self.model != "lenet" and self.dropout != Config.dropout:
            raise InputError(f"--dropout has no effect on --model {self.model}; leave it out, or take --model lenet")


def parse(arguments: Sequence[str] | None) -> Config:
    """The command line as a checked Config.

    Raises:
        SystemExit: with status 2, where it cannot be read; tyro has said why.
        InputError: a value is out of range.
    """
    config = tyro.cli(Config, args=sys.argv[1:] if arguments is None else arguments, prog="python -m experiments.mnist")
    config.check()
    return config


def _expect(holds: bool, flag: str, wanted: str, got: object) -> None:
    if not holds:
        raise InputError(f"{flag} must be {wanted}, got {got}")
