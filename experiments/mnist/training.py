"""From settings and data to a trained model: the pieces are those of ``jaxcnn.train``, the loop is here."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from experiments.images import check_takes, standardiser
from experiments.mnist.config import Config
from jaxcnn import models, ops, train
from jaxcnn.command import InputError, RunError
from jaxcnn.data import Dataset
from jaxcnn.layers import Layer
from jaxcnn.layers.compose import Serial
from jaxcnn.lines import Log

LOG_EVERY = 50
TEST_BATCH = 500


class DivergedError(RunError):
    """The loss is no longer a number."""


@dataclasses.dataclass
class Record:
    """What a run has done so far, which is what it leaves behind when it is interrupted.

    ``params`` and ``logits`` (of all test images) are those at the end of the last whole epoch, None before.
    """

    steps_per_epoch: int
    losses: list[float] = dataclasses.field(default_factory=list)
    accuracies: list[float] = dataclasses.field(default_factory=list)
    params: dict | None = None
    logits: np.ndarray | None = None
    seconds_compile: float = 0.0
    interrupted: bool = False


def build(config: Config, classes: int) -> Layer:
    """The model that ``--model`` names."""
    if config.model == "mlp":
        return models.mlp((128, classes))
    if config.model == "lenet":
        return models.lenet(classes, dropout=config.dropout)
    return models.MODELS[config.model](classes)


def first_kernel(model: Layer, params: dict) -> np.ndarray:
    """The kernel of the first layer that has one."""
    names = model.layers if isinstance(model, Serial) else params
    return np.asarray(next(params[name]["kernel"] for name in names if "kernel" in params.get(name, {})))


def softener(classes: int, share: float) -> Callable[[jax.Array], jax.Array]:
    """Labels (n,) to rows (n, classes): ``share`` of each spread over all classes, so that no score need grow without end."""
    return lambda labels: optax.smooth_labels(jax.nn.one_hot(labels, classes), share)


class Trainer:
    """A model in training on a data set. InputError where the two do not fit."""

    def __init__(self, config: Config, data: Dataset) -> None:
        self.data, self.batch_size = data, config.batch_size
        self.steps_per_epoch = len(data.train_images) // config.batch_size
        if self.steps_per_epoch == 0:
            raise InputError(
                f"--batch-size {config.batch_size} is more than the {len(data.train_images)} training images"
            )
        self.model = build(config, data.classes)
        schedule = optax.cosine_onecycle_schedule(
            config.epochs * self.steps_per_epoch, config.learning_rate, pct_start=config.warmup
        )
        self._optimizer = optax.adam(schedule, b2=config.beta2)
        init_key, self._key = jax.random.split(jax.random.key(config.seed))
        self._rng = np.random.default_rng(config.seed)
        height, width = data.train_images.shape[1:]
        self._prepare = standardiser(data.train_images)
        self._soften = softener(data.classes, config.label_smoothing)
        check_takes(self.model, (height, width, 1), f"--model {config.model}")
        self.train_state = train.create(self.model, self._optimizer, init_key, (height, width, 1))

    @property
    def parameters(self) -> int:
        """How many numbers are learned."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.train_state.params))

    def compile(self) -> None:
        """Compile the two programs that ``epoch`` and ``test`` run."""
        step = train.make_step(self.model, ops.softmax_cross_entropy, self._optimizer, self._prepare, self._soften)
        images, labels = self.data.train_images[: self.batch_size], self.data.train_labels[: self.batch_size]
        self._step = step.lower(self.train_state, images, labels, self._key).compile()
        predict = train.make_predict(self.model, self._prepare)
        test_images = _padded(self.data.test_images[:TEST_BATCH])
        self._predict = predict.lower(self.train_state.params, self.train_state.state, test_images).compile()

    def epoch(self) -> Iterator[float]:
        """Train on every image once, in random order, but for the last partial batch; yields the loss of each step."""
        batches = self._rng.permutation(len(self.data.train_images))[: self.steps_per_epoch * self.batch_size]
        previous = None
        for batch in batches.reshape(self.steps_per_epoch, self.batch_size):
            images, labels = self.data.train_images[batch], self.data.train_labels[batch]
            self.train_state, metrics = self._step(self.train_state, images, labels, self._key)
            # a loss is read while the next step already runs
            if previous is not None:
                yield float(previous)
            previous = metrics["loss"]
        if previous is not None:
            yield float(previous)

    def test(self) -> np.ndarray:
        """The logits (n, classes) of all test images."""
        params, state, images = self.train_state.params, self.train_state.state, self.data.test_images
        parts = [images[start : start + TEST_BATCH] for start in range(0, len(images), TEST_BATCH)]
        logits = [np.asarray(self._predict(params, state, _padded(part)))[: len(part)] for part in parts]
        return np.concatenate(logits)


def _padded(images: np.ndarray) -> np.ndarray:
    """Up to TEST_BATCH images, filled up with black ones: one shape, one compilation."""
    filling = np.zeros((TEST_BATCH - len(images), *images.shape[1:]), images.dtype)
    return np.concatenate([images, filling])


class _ImagesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:8,.0f} images/s" if task.speed else "", style="cyan")


def run(trainer: Trainer, config: Config, record: Record, log: Log, console: Console, start: float) -> None:
    """Train for all epochs, filling ``record``; Ctrl-C ends it early, and says so there.

    Raises:
        DivergedError: a loss is not finite.
    """
    columns = [
        TextColumn("{task.description}"), BarColumn(bar_width=30), TextColumn("loss {task.fields[loss]:.4f}"),
        _ImagesPerSecond(), TimeRemainingColumn(), TextColumn("left"),
    ]  # fmt: skip
    try:
        with console.status("compiling …"):
            before = time.perf_counter()
            trainer.compile()
            record.seconds_compile = time.perf_counter() - before
        images = config.epochs * trainer.steps_per_epoch * trainer.batch_size
        with Progress(*columns, console=console, refresh_per_second=4) as progress:
            task = progress.add_task("", total=images, loss=math.nan)
            for epoch in range(1, config.epochs + 1):
                progress.update(task, description=f"epoch {epoch}/{config.epochs}")
                _one_epoch(
                    trainer,
                    epoch,
                    record,
                    log,
                    start,
                    lambda loss: progress.update(task, advance=trainer.batch_size, loss=loss),
                )
                loss = float(np.mean(record.losses[-trainer.steps_per_epoch :]))
                accuracy, seconds = record.accuracies[-1], time.perf_counter() - start
                log.write(
                    epoch=epoch, step=len(record.losses), train_loss=loss, test_accuracy=accuracy, seconds=seconds
                )
                progress.console.print(
                    f"epoch {epoch}/{config.epochs}  loss {loss:.4f}  test accuracy {accuracy:.2%}  {seconds:.1f} s",
                    highlight=False,
                )
    except KeyboardInterrupt:
        record.interrupted = True


def _one_epoch(
    trainer: Trainer, epoch: int, record: Record, log: Log, start: float, show: Callable[[float], None]
) -> None:
    since, since_step = time.perf_counter(), len(record.losses)
    for loss in trainer.epoch():
        record.losses.append(loss)
        step = len(record.losses)
        if not math.isfinite(loss):
            raise DivergedError(f"the loss became {loss} at step {step} (epoch {epoch}); try a smaller --learning-rate")
        show(loss)
        if step % LOG_EVERY == 0:
            now = time.perf_counter()
            rate = (step - since_step) * trainer.batch_size / (now - since)
            log.write(
                epoch=epoch,
                step=step,
                loss=float(np.mean(record.losses[-LOG_EVERY:])),
                images_per_second=rate,
                seconds=now - start,
            )
            since, since_step = now, step
    logits = trainer.test()
    # copied, as the next step takes the buffers of the train state
    record.params = jax.tree.map(jnp.copy, trainer.train_state.params)
    record.logits = logits
    record.accuracies.append(float(np.mean(logits.argmax(-1) == trainer.data.test_labels)))
