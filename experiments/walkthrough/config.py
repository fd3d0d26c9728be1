"""The settings of a run: every default in one place, and what is refused before any work."""

import dataclasses
from pathlib import Path
from typing import Literal

from experiments.command import MNIST_DIR, OnImages
from jaxcnn._io.command import InputError, expect


@dataclasses.dataclass(frozen=True)
class Config(OnImages):
    """Walk through a network, forward and back: every value, every δ, and the rule that made it.

    The seesaw is the worked example of the lecture, and stands beside the numbers printed there;
    any other model is walked through on a test image. Prints the walk, and writes it to result.json
    and, with pictures, to walkthrough.html in --out."""

    out: Path = Path("runs/walkthrough")
    model: Literal["seesaw", "mlp", "lenet", "vgg6", "resnet20"] = "seesaw"
    """Which network."""
    image: int | None = None
    """Which test image (not for the seesaw; 0, if not given)."""
    steps: int = 100
    """Of training before the walk (not for the seesaw)."""

    def check(self) -> None:
        super().check()
        expect(self.image is None or self.image >= 0, "--image", "an integer ≥ 0", self.image)
        expect(self.steps >= 0, "--steps", "an integer ≥ 0", self.steps)
        chosen = {
            "image": self.image is not None,
            "steps": self.steps != Config.steps,
            "data-dir": self.data_dir != MNIST_DIR,
        }
        for flag, given in chosen.items():
            if self.model == "seesaw" and given:
                raise InputError(
                    f"--{flag} is not for the seesaw, which has a pattern and weights of its own;"
                    " give --model lenet, too"
                )
