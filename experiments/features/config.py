"""The settings of a run: every default in one place, and what is refused before any work."""

import dataclasses
from pathlib import Path

from experiments.command import OnImages
from jaxcnn._io.command import expect


@dataclasses.dataclass(frozen=True)
class Config(OnImages):
    """Train a LeNet, then look inside: filters, feature maps, the pieces of images that excite its
    channels, images made to excite them, and where its decisions come from.

    The maps of evidence are put to a test: the weights are randomised from the top down, and a map
    that does not change had little to do with what was learned. Writes result.json and the pictures
    filters, maps, patches, made, evidence and sanity (.png) into --out."""

    out: Path = Path("runs/features")
    epochs: int = 1
    """Passes over the training images."""
    image: int = 0
    """Which test image's feature maps are shown."""

    def check(self) -> None:
        super().check()
        expect(self.epochs >= 1, "--epochs", "an integer ≥ 1", self.epochs)
        expect(self.image >= 0, "--image", "an integer ≥ 0", self.image)
