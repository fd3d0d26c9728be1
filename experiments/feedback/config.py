"""The settings of a run: every default in one place, and what is refused before any work."""

import dataclasses
import math
from pathlib import Path

from experiments.command import OnImages
from jaxcnn._io.command import expect


@dataclasses.dataclass(frozen=True)
class Config(OnImages):
    """Train the same network by the true gradient and by alternatives to it: feedback alignment,
    direct feedback alignment, sign-symmetric feedback, and steps with a straight-through rule.

    Measures the test error, and the angle between what is followed and the true gradient. Writes
    result.json, metrics.jsonl, errors.png and angles.png into --out."""

    out: Path = Path("runs/feedback")
    epochs: int = 3
    """Passes over the training images, for each rule."""
    learning_rate: float = 1e-3
    """Peak of Adam's one-cycle schedule."""

    def check(self) -> None:
        super().check()
        expect(self.epochs >= 1, "--epochs", "an integer ≥ 1", self.epochs)
        expect(
            0 < self.learning_rate < math.inf, "--learning-rate", "a number > 0", self.learning_rate
        )
