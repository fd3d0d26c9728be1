"""One run from start to end: load, train, write the result, draw the pictures, say where they are."""

import time

import jax
import numpy as np
from rich.console import Console

from experiments.files import clear_folder
from experiments.mnist import pictures, training
from experiments.mnist.config import MNIST_DIR, Config
from jaxcnn import ops
from jaxcnn.command import InputError
from jaxcnn.data import DataError, Dataset, load_idx_folder
from jaxcnn.drawing import save
from jaxcnn.files import write_json
from jaxcnn.lines import Log
from jaxcnn.train.draw import learning_curves

RESULT, METRICS = "result.json", "metrics.jsonl"
PICTURES = "learning_curves.png", "filters.png", "mistakes.png"
PAPER = "Ali et al. 2019", 0.9921
FASHION = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


def run(config: Config, start: float) -> training.Record:
    """Train as ``config`` says and leave everything in ``config.out``.

    ``start`` is when the program began, by ``time.perf_counter``.

    Raises:
        InputError: the data cannot be used, or do not fit the settings; nothing was written then.
        DivergedError: the loss is no longer finite.
    """
    console = Console()
    try:
        data = load_idx_folder(config.data_dir)
    except DataError as error:
        raise InputError(f"--data-dir {error}") from None
    trainer = training.Trainer(config, data)
    n, (height, width) = len(data.train_images), data.train_images.shape[1:]
    console.print(
        f"{config.model}, {trainer.parameters:,} parameters, on {data.name}: {n:,} + {len(data.test_images):,} images "
        f"of {height}×{width}, {data.classes} classes",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    record = training.Record(trainer.steps_per_epoch)
    clear_folder(config.out, (RESULT, METRICS, *PICTURES))
    with Log(config.out / METRICS) as log:
        training.run(trainer, config, record, log, console, start)
    result = {
        "test_accuracy": record.accuracies[-1] if record.accuracies else None,
        "test_accuracy_by_epoch": record.accuracies,
        "seconds": time.perf_counter() - start,
        "seconds_compile": record.seconds_compile,
        "epochs": len(record.accuracies),
        "steps": len(record.losses),
        "interrupted": record.interrupted,
        "seed": config.seed,
        "model": config.model,
        "parameters": trainer.parameters,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "label_smoothing": config.label_smoothing,
        "data_dir": data.name,
        "classes": data.classes,
        "jax": jax.__version__,
    }
    write_json(config.out / RESULT, result)
    draw(config, data, trainer, record)
    tell(config, record, console)
    return record


def draw(config: Config, data: Dataset, trainer: training.Trainer, record: training.Record) -> None:
    """Every picture that there is something to draw for."""
    embedded = config.data_dir.resolve() == MNIST_DIR.resolve()
    curves, filters, mistakes = (config.out / name for name in PICTURES)
    if record.losses:
        per_epoch = record.steps_per_epoch
        scores = {number * per_epoch: {"accuracy": value} for number, value in enumerate(record.accuracies, start=1)}
        reference = {"accuracy": PAPER} if embedded else {}
        save(learning_curves(record.losses, scores, per_epoch=per_epoch, reference=reference), curves)
    if record.params is None or record.logits is None:
        return
    image_shape = data.train_images.shape[1], data.train_images.shape[2]
    save(pictures.filters(training.first_kernel(trainer.model, record.params), image_shape), filters)
    probabilities = np.asarray(ops.softmax(record.logits))
    fashion = "fashion" in data.name.lower() and data.classes == len(FASHION)
    names = FASHION if fashion else [str(label) for label in range(data.classes)]
    save(pictures.mistakes(data.test_images, data.test_labels, probabilities, names), mistakes)


def tell(config: Config, record: training.Record, console: Console) -> None:
    """What was written, and what one might do now."""
    lines = []
    if record.interrupted:
        epochs = len(record.accuracies)
        lines.append(
            f"Interrupted after {len(record.losses):,} steps and {epochs} whole epoch{'s' * (epochs != 1)}; "
            f"what follows is of those."
        )
    written = [name for name in (RESULT, METRICS, *PICTURES) if (config.out / name).exists()]
    lines.append(f"Results and pictures are in {config.out}: {', '.join(written)}")
    if config.data_dir.resolve() == MNIST_DIR.resolve():
        other = "--data-dir PATH/TO/fashion_mnist --out runs/fashion_mnist"
        lines.append(f"Next: clothes instead of digits, from the same four files: python -m experiments.mnist {other}")
    else:
        model = "lenet" if config.model == "resnet20" else "resnet20"
        other = f"--data-dir {config.data_dir} --model {model} --out {config.out}_{model}"
        lines.append(f"Next: another model on the same images: python -m experiments.mnist {other}")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
