"""The settings of a run: every default in one place, and what is refused before any work."""

import dataclasses
from pathlib import Path

from experiments.command import OnImages
from jaxcnn._io.command import expect


@dataclasses.dataclass(frozen=True)
class Config(OnImages):
    """Train strong networks on MNIST, all at once by vmap, on images that are moved, turned and
    resized in every step; report each alone and all together.

    Writes result.json, metrics.jsonl and digits.png into --out. With the defaults a network takes
    18 minutes on two cores."""

    out: Path = Path("runs/digits")
    networks: int = 3
    """How many, each from a seed of its own, and the ensemble of all."""
    epochs: int = 14
    """Passes over the training images."""

    def check(self) -> None:
        super().check()
        expect(self.networks >= 1, "--networks", "an integer ≥ 1", self.networks)
        expect(self.epochs >= 1, "--epochs", "an integer ≥ 1", self.epochs)
