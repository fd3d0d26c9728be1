"""The settings of a run: every default in one place, and what is refused before any work."""

import dataclasses
import math
from pathlib import Path

from experiments.command import Common
from jaxcnn._io.command import expect


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train three small networks on the seesaw's four patterns from many random starts, all in one
    compiled program.

    Counts the epochs to a squared error below 0.005, then shows how their order depends on learning
    rate, weight decay and the size of the first weights. Writes result.json, epochs.png and
    settings.png into --out."""

    out: Path = Path("runs/seesaw")
    starts: int = 1000
    """How many networks of each kind."""
    epochs: int = 5000
    """Where a network that has not arrived is given up."""
    learning_rate: float = 0.1
    """Of gradient descent, one pattern after the other."""
    weight_decay: float = 0.0
    """λ in the loss + ½ λ Σ w²."""
    scale: float = 0.5
    """Standard deviation of the first weights."""

    def check(self) -> None:
        super().check()
        expect(self.starts >= 1, "--starts", "an integer ≥ 1", self.starts)
        expect(self.epochs >= 1, "--epochs", "an integer ≥ 1", self.epochs)
        expect(
            0 < self.learning_rate < math.inf, "--learning-rate", "a number > 0", self.learning_rate
        )
        expect(
            0 <= self.weight_decay < math.inf, "--weight-decay", "a number ≥ 0", self.weight_decay
        )
        expect(0 < self.scale < math.inf, "--scale", "a number > 0", self.scale)
