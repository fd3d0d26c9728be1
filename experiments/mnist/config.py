"""The settings of ``python -m experiments.mnist``: those of a run, on the images that are here."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from experiments.command import MNIST_DIR
from jaxcnn.runs._command import Train


@dataclasses.dataclass(frozen=True)
class Mnist(Train):
    """Train a model on the MNIST that is part of the repository, or on other images, with
    hand-written gradients: `python -m jaxcnn train`, with two pictures more.

    Writes into --out: config.json, metrics.jsonl, checkpoints, model.safetensors, result.json,
    learning_curves.png, filters.png, mistakes.png. Ctrl-C saves and leaves; --resume goes on, and
    ends as if nothing had been.
    """

    data: Annotated[str, tyro.conf.arg(aliases=["--data-dir"])] = str(MNIST_DIR)
    """A folder of IDX files (MNIST, Fashion-MNIST …), of CIFAR-10's files, or of images
    (train/CLASS/*.png, test/CLASS/*.png); or an .npz file."""
    out: Path = Path("runs/mnist")
    """Folder of the run."""
