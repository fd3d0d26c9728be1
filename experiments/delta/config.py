"""The settings of a run: every default in one place, and what is refused before any work."""

import dataclasses
from pathlib import Path

from experiments.command import Common
from jaxcnn._io.command import expect


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Train four layers by the documents' matrix recursion, pattern by pattern and in full batches,
    and watch the library's δ beside it in every layer and step.

    Also draws the error of Δz ≈ J Δy against the step. Writes result.json, training.png and
    small_changes.png into --out."""

    out: Path = Path("runs/delta")
    epochs: int = 300
    """Passes over the patterns, each way."""

    def check(self) -> None:
        super().check()
        expect(self.epochs >= 2, "--epochs", "an integer ≥ 2, to draw a line", self.epochs)
