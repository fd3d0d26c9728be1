"""The settings of a run: every default in one place, and what is refused before any work."""

import dataclasses
from pathlib import Path

from experiments.command import Common
from jaxcnn._io.command import expect


@dataclasses.dataclass(frozen=True)
class Config(Common):
    """Blur a photograph and find its edges by fixed kernels, then let a convolution layer learn
    those kernels from pairs of pictures alone.

    Writes result.json, edges.png and learned.png into --out.
    """

    out: Path = Path("runs/edges")
    image: Path | None = None
    """A PNG or JPEG of your own (a photograph that comes with matplotlib, if not given)."""
    steps: int = 2000
    """Of learning, each on 16 pieces of the photograph."""

    def check(self) -> None:
        super().check()
        expect(self.steps >= 1, "--steps", "an integer ≥ 1", self.steps)
        expect(
            self.image is None or self.image.is_file(), "--image", "a PNG or JPEG file", self.image
        )
