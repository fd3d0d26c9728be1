"""The settings of a run: every default in one place, and what is refused before any work."""

import dataclasses
from pathlib import Path

from experiments.command import OnImages
from jaxcnn._io.command import expect


@dataclasses.dataclass(frozen=True)
class Config(OnImages):
    """Train stacked recurrent layers to read digits row by row, and to add two marked numbers of a
    hundred, with and without clipped gradients.

    Writes result.json, metrics.jsonl, digits.png and adding.png into --out.
    """

    out: Path = Path("runs/recurrent")
    epochs: int = 2
    """Passes over the digits."""
    adding_steps: int = 2000
    """Steps of the adding task, 64 sequences each."""
    length: int = 100
    """Of the sequences in the adding task."""

    def check(self) -> None:
        super().check()
        expect(self.epochs >= 1, "--epochs", "an integer ≥ 1", self.epochs)
        expect(self.adding_steps >= 1, "--adding-steps", "an integer ≥ 1", self.adding_steps)
        expect(self.length >= 2, "--length", "an integer ≥ 2", self.length)
