"""One run from start to end: load, train, write the result, draw the pictures, say where they
are."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.files import clear_folder
from experiments.mnist import pictures
from experiments.mnist.config import MNIST_DIR, Config
from jaxcnn import ops, train
from jaxcnn._io.command import InputError
from jaxcnn._io.drawing import save
from jaxcnn._io.files import write_json
from jaxcnn.data import DataError, Dataset, load_idx_folder
from jaxcnn.data._scale import Standardiser, standardiser
from jaxcnn.layers import Serial
from jaxcnn.runs import _components as build
from jaxcnn.runs._stopping import Stop
from jaxcnn.train._draw import learning_curves
from jaxcnn.train._progress import Plain, Progress

RESULT, METRICS = "result.json", "metrics.jsonl"
PICTURES = CURVES, FILTERS, MISTAKES = "learning_curves.png", "filters.png", "mistakes.png"
FILES = RESULT, METRICS, *PICTURES
PAPER = "Ali et al. 2019", 0.9921
FASHION = (
    "T-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


class Learned(NamedTuple):
    """What a run has done: ``losses`` of all steps, test ``accuracies`` {step: …}, and the train
    state at the end of the last whole epoch, None before."""

    losses: np.ndarray
    accuracies: dict[int, float]
    state: train.TrainState | None
    interrupted: bool


def run(config: Config, start: float) -> bool:
    """Train as ``config`` says and leave everything in ``config.out``; whether the run was
    interrupted.

    ``start`` is when the program began, by ``time.perf_counter``.

    Raises:
        InputError: the data cannot be used, or do not fit the settings; nothing was written then.
        DivergedError: a loss or a gradient is no longer finite.
    """
    console = Plain()
    data, scale = load(config)
    model, shape = build.network(config.settings(), data.classes), (*data.train_images.shape[1:], 1)
    build.check_takes(model, shape, f"--model {config.model}")
    params, _ = jax.eval_shape(lambda: model.init(jax.random.key(0), shape))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    console.print(
        f"{config.model}, {parameters:,} parameters, on {data.name}: {len(data.train_images):,} +"
        f" {len(data.test_images):,} images of {shape[0]}×{shape[1]}, {data.classes} classes",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    clear_folder(config.out, FILES)
    with compilation() as compiled:
        learned = learn(config, model, data, scale, console)
    accuracies, seconds = list(learned.accuracies.values()), time.perf_counter() - start
    result = {
        "test_accuracy": accuracies[-1] if accuracies else None,
        "test_accuracy_by_epoch": accuracies,
        "seconds": seconds,
        "seconds_compile": sum(compiled),
        "epochs": len(accuracies),
        "steps": len(learned.losses),
        "interrupted": learned.interrupted,
        "seed": config.seed,
        "model": config.model,
        "parameters": parameters,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "label_smoothing": config.label_smoothing,
        "data_dir": data.name,
        "classes": data.classes,
        "jax": jax.__version__,
    }
    write_json(config.out / RESULT, result)
    draw(config, model, data, scale, learned)
    console.print(told(config, learned, seconds), highlight=False, markup=False, soft_wrap=True)
    return learned.interrupted


def load(config: Config) -> tuple[Dataset, Standardiser]:
    """The images, and what makes numbers around 0 of them. InputError where they cannot be used, or
    are fewer than a batch."""
    try:
        data = load_idx_folder(config.data_dir)
        scale = standardiser(data.train_images, str(config.data_dir))
    except DataError as error:
        raise InputError(f"--data-dir {error}") from None
    if len(data.train_images) < config.batch_size:
        raise InputError(
            f"--batch-size {config.batch_size} is more than the {len(data.train_images)} training"
            " images"
        )
    return data, scale


@contextlib.contextmanager
def compilation() -> Iterator[list[float]]:
    """The seconds that XLA takes for each program that it compiles meanwhile."""
    found: list[float] = []

    def note(event: str, duration_secs: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration"):
            found.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


def learn(
    config: Config, model: Serial, data: Dataset, scale: Standardiser, console: Console
) -> Learned:
    """Train for all epochs; Ctrl-C ends it early."""
    settings, whole = config.settings(), []
    steps = config.epochs * (len(data.train_images) // config.batch_size)
    recipe = build.recipe(settings, model, data.classes, scale, None, steps)

    def keep(report: train.Report, state: train.TrainState) -> None:
        if report.scores is not None:
            whole[:] = [jax.tree.map(jnp.copy, state)]  # as the next step takes its buffers

    with (
        Stop() as stop,
        train.JsonLines(config.out / METRICS, batch_size=config.batch_size) as log,
        Progress(steps, config.batch_size, console=console) as progress,
    ):
        _, reports = train.fit(
            recipe,
            (data.train_images, data.train_labels),
            test=(data.test_images, data.test_labels),
            key=jax.random.key(config.seed),
            batch_size=config.batch_size,
            epochs=config.epochs,
            callbacks=[log, progress, keep, stop],
        )
    losses = np.concatenate([report.losses for report in reports])
    accuracies = {
        report.step: report.scores["accuracy"] for report in reports if report.scores is not None
    }
    return Learned(losses, accuracies, whole[0] if whole else None, stop.asked)


def draw(
    config: Config, model: Serial, data: Dataset, scale: Standardiser, learned: Learned
) -> None:
    """Every picture that there is something to draw for."""
    scores = {step: {"accuracy": accuracy} for step, accuracy in learned.accuracies.items()}
    reference = {"accuracy": PAPER} if _is_mnist(config) else {}
    per_epoch = len(data.train_images) // config.batch_size
    save(
        learning_curves(learned.losses, scores, per_epoch=per_epoch, reference=reference),
        config.out / CURVES,
    )
    if learned.state is None:
        return
    params, state, images = learned.state.params, learned.state.state, data.test_images
    kernel = next(
        params[name]["kernel"] for name in model.layers if "kernel" in params.get(name, {})
    )
    height, width = images.shape[1:]
    save(pictures.filters(np.asarray(kernel), (height, width)), config.out / FILTERS)
    predict = train.make_predict(train.Recipe(model, prepare=scale))
    logits = jnp.concatenate(
        [predict(params, state, images[at : at + 500]) for at in range(0, len(images), 500)]
    )
    fashion = "fashion" in data.name.lower() and data.classes == len(FASHION)
    names = FASHION if fashion else [str(label) for label in range(data.classes)]
    save(
        pictures.mistakes(images, data.test_labels, np.asarray(ops.softmax(logits)), names),
        config.out / MISTAKES,
    )


def told(config: Config, learned: Learned, seconds: float) -> str:
    """How good it is, what was written, and what one might do now."""
    lines, epochs = [], len(learned.accuracies)
    many = f"epoch{'s' * (epochs != 1)}"
    if learned.interrupted:
        lines.append(
            f"Interrupted after {len(learned.losses):,} steps and {epochs} whole {many}; what"
            " follows is of those."
        )
    if learned.accuracies:
        lines.append(
            f"{list(learned.accuracies.values())[-1]:.2%} of the test images are right after"
            f" {epochs} {many}, {seconds:.0f} s"
        )
    written = [name for name in FILES if (config.out / name).exists()]
    lines.append(f"Results and pictures are in {config.out}: {', '.join(written)}")
    if _is_mnist(config):
        other = "--data-dir PATH/TO/fashion_mnist --out runs/fashion_mnist"
        lines.append(
            "Next: clothes instead of digits, from the same four files: python -m"
            f" experiments.mnist {other}"
        )
    else:
        name = "lenet" if config.model == "resnet20" else "resnet20"
        other = f"--data-dir {config.data_dir} --model {name} --out {config.out}_{name}"
        lines.append(f"Next: another model on the same images: python -m experiments.mnist {other}")
    return "\n".join(lines)


def _is_mnist(config: Config) -> bool:
    """Whether it is the set that comes with the experiments."""
    return config.data_dir.resolve() == MNIST_DIR.resolve()
