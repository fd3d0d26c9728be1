"""The settings of a run: every default in one place, and what is refused before any work."""

import dataclasses
from pathlib import Path
from typing import Literal

from experiments.command import MNIST_DIR
from jaxcnn.runs._config import Config as Settings


@dataclasses.dataclass(frozen=True)
class Config:
    """Train a model on MNIST, or on any data set in the same four IDX files, with hand-written
    gradients.

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

    def settings(self) -> Settings:
        """These, and the defaults for all else, as the library's runs have them."""
        fields = dataclasses.asdict(self)
        return Settings(data=str(fields.pop("data_dir")), **fields)

    def check(self) -> None:
        """Raise InputError for a value out of range."""
        self.settings().check()
