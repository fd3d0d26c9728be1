"""The settings of a run: every default in one place, and what is refused before any work."""

import dataclasses
import math
from pathlib import Path
from typing import Literal

from experiments.command import MNIST_DIR
from jaxcnn.command import LARGEST_SEED, InputError, expect


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
        expect(self.epochs >= 1, "--epochs", "an integer ≥ 1", self.epochs)
        expect(self.batch_size >= 1, "--batch-size", "an integer ≥ 1", self.batch_size)
        expect(0 < self.learning_rate < math.inf, "--learning-rate", "a number > 0", self.learning_rate)
        expect(0 < self.warmup < 1, "--warmup", "a number between 0 and 1", self.warmup)
        expect(0 < self.beta2 < 1, "--beta2", "a number between 0 and 1", self.beta2)
        expect(0 <= self.dropout < 1, "--dropout", "a number in [0, 1)", self.dropout)
        expect(0 <= self.label_smoothing < 1, "--label-smoothing", "a number in [0, 1)", self.label_smoothing)
        expect(0 <= self.seed <= LARGEST_SEED, "--seed", f"an integer in [0, {LARGEST_SEED}]", self.seed)
        if self.model != "lenet" and self.dropout != Config.dropout:
            raise InputError(f"--dropout has no effect on --model {self.model}; leave it out, or take --model lenet")
