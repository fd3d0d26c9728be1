"""The settings of a run: every default in one place, and what is refused before any work."""

import dataclasses
from pathlib import Path

from experiments.command import OnImages
from jaxcnn._io.command import expect


@dataclasses.dataclass(frozen=True)
class Config(OnImages):
    """Measure the norm of δ by layer in networks of 2 to 50 layers, with sigmoid, tanh, ReLU and
    softplus, at several initial scales, before and after training on MNIST.

    Writes result.json, deltas.png, depth.png and silent.png into --out.
    """

    out: Path = Path("runs/vanishing")
    steps: int = 200
    """Of training, 100 images each."""

    def check(self) -> None:
        super().check()
        expect(self.steps >= 1, "--steps", "an integer ≥ 1", self.steps)
