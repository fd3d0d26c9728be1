"""What a run on MNIST leaves beside that of ``python -m jaxcnn train``: pictures of its first layer
and of its mistakes, and a published figure to compare with."""

from pathlib import Path

import numpy as np

from experiments.command import MNIST_DIR
from experiments.mnist import pictures
from jaxcnn._io.drawing import save
from jaxcnn._io.lines import read_lines
from jaxcnn._io.outside import printable_lines
from jaxcnn.runs._components import network
from jaxcnn.runs._config import Config
from jaxcnn.runs._dataset_of_run import RunData, load
from jaxcnn.runs._folder import RunFolder
from jaxcnn.runs._model_file import open_models
from jaxcnn.runs._results import CURVES, METRICS
from jaxcnn.train._draw import history, learning_curves

PICTURES = FILTERS, MISTAKES = "filters.png", "mistakes.png"
PAPER = "Ali et al. 2019", 0.9921
FASHION = (
    "T-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


def draw(config: Config) -> None:
    """The pictures of the run in ``config.out``, and what one might do now."""
    found, data = open_models(config.out), load(config)
    RunFolder(config.out).will_write(*PICTURES)
    images, labels = data.test
    params, _ = found.members[0]
    layers = network(config, data.classes).layers
    kernel = next(params[name]["kernel"] for name in layers if "kernel" in params.get(name, {}))
    height, width = found.shape[:2]
    save(pictures.filters(np.asarray(kernel), (height, width)), config.out / FILTERS)
    probabilities = found.probabilities(images).mean(0)
    save(pictures.mistakes(images, labels, probabilities, _names(data)), config.out / MISTAKES)
    if _is_mnist(config):
        losses, scores = history(read_lines(config.out / METRICS))
        reference = {"accuracy": PAPER}
        curves = learning_curves(losses, scores, per_epoch=data.per_epoch, reference=reference)
        save(curves, config.out / CURVES)
    print(
        printable_lines(
            "\n".join(
                [
                    f"and pictures of the first layer and of the mistakes: {', '.join(PICTURES)}",
                    _next(config),
                ]
            )
        )
    )


def _names(data: RunData) -> list[str]:
    fashion = "fashion" in data.name.lower() and data.classes == len(FASHION)
    return list(data.names or (FASHION if fashion else map(str, range(data.classes))))


def _next(config: Config) -> str:
    if _is_mnist(config):
        return (
            "Next: clothes instead of digits, from the same four files: python -m experiments.mnist"
            " --data PATH/TO/fashion_mnist --out runs/fashion_mnist"
        )
    name = "lenet" if config.model == "resnet20" else "resnet20"
    return (
        "Next: another model on the same images: python -m experiments.mnist --data"
        f" {config.data} --model {name} --out {config.out}_{name}"
    )


def _is_mnist(config: Config) -> bool:
    """Whether it is the set that comes with the experiments."""
    return Path(config.data).resolve() == MNIST_DIR.resolve()
