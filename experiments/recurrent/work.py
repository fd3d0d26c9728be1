"""Both tasks, figures and pictures."""

from typing import Any

import jax
import numpy as np

from experiments.files import clear_folder
from experiments.images import Images, load
from experiments.progress import bar
from experiments.recurrent import pictures
from experiments.recurrent.config import Config
from experiments.recurrent.tasks import (
    CLIP,
    adder,
    draw_sums,
    optimizer,
    reader,
    through_time,
    trainer,
)
from jaxcnn import ops
from jaxcnn._io.drawing import save
from jaxcnn._io.files import write_json
from jaxcnn._io.lines import Log

FILES = "result.json", "metrics.jsonl", "digits.png", "adding.png"
BATCH, SUMS, PART = 128, 64, 50
RATE = 1e-3  # of the adding task
GUESS = 1 / 6  # the mean square error of always saying 1


def run(config: Config) -> str:
    few = (2 * BATCH, 200) if config.smoke else (None, None)
    data = load(config.data_dir, train=few[0], test=few[1], batch=BATCH)
    clear_folder(config.out, FILES)
    with Log(config.out / "metrics.jsonl") as log:
        digits = read_digits(config, data, log)
        adding = {
            name: add(config, log, clip=clip)
            for name, clip in (("clipped", True), ("as they come", False))
        }
    write_json(
        config.out / "result.json",
        {
            "seed": config.seed,
            "digits": {
                "test_accuracy": digits["accuracies"][-1],
                "epochs": len(digits["accuracies"]),
            },
            "adding": {
                name: {
                    "test_error": found["error"],
                    "guessing": GUESS,
                    "largest_gradient": float(np.nanmax(found["norms"])),
                }
                for name, found in adding.items()
            },
        },
    )
    save(pictures.digits(digits), config.out / "digits.png")
    save(pictures.adding(adding, config.length, GUESS, CLIP), config.out / "adding.png")
    lines = [
        f"digits, row by row: {digits['accuracies'][-1]:.2%} of the test images are right after"
        f" {len(digits['accuracies'])} epochs"
    ]
    for name, found in adding.items():
        lines.append(
            f"adding, gradients {name}: mean square error {found['error']:.2g} (guessing:"
            f" {GUESS:.3f}), longest gradient {np.nanmax(found['norms']):.3g}"
        )
    return "\n".join(
        [
            *lines,
            f"Results and pictures are in {config.out}: {', '.join(FILES)}",
            "Next: python -m experiments.features",
        ]
    )


def read_digits(config: Config, data: Images, log: Log) -> dict[str, Any]:
    """Test accuracy by epoch, and ‖δ‖ through time before and after."""
    (images, labels), (test_images, test_labels), classes = data
    rows, test_rows = images[..., 0], test_images[..., 0]
    epochs, per_epoch = 1 if config.smoke else config.epochs, len(rows) // BATCH
    model, loss = reader(classes), ops.softmax_cross_entropy
    update = optimizer(2e-3, epochs * per_epoch, clip=True)
    params, _ = model.init(jax.random.key(config.seed), rows.shape[1:])

    def batch(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        chosen = jax.random.randint(key, (BATCH,), 0, len(rows))
        return rows[chosen], labels[chosen]

    go, look = (
        trainer(model, loss, update, batch),
        jax.jit(lambda p: through_time(model, loss, p, rows[:BATCH], labels[:BATCH])),
    )
    correct = jax.jit(
        lambda p: (model.forward(p, {}, test_rows)[0][0].argmax(-1) == test_labels).mean()
    )
    at, accuracies, losses, before = (params, update.init(params)), [], [], look(params)
    with bar(epochs * per_epoch) as advance:
        for epoch in range(epochs):
            keys = jax.random.split(
                jax.random.fold_in(jax.random.key(config.seed), epoch), per_epoch
            )
            for start in range(0, per_epoch, PART):
                at, (values, _) = go(at, keys[start : start + PART])
                losses += np.asarray(values).tolist()
                advance(f"digits: epoch {epoch + 1}, loss {losses[-1]:.3f}", len(values))
            accuracies.append(float(correct(at[0])))
            log.write(task="digits", epoch=epoch + 1, test_accuracy=accuracies[-1])
    return {"accuracies": accuracies, "losses": losses, "before": before, "after": look(at[0])}


def add(config: Config, log: Log, *, clip: bool) -> dict[str, Any]:
    """The test error, the loss and the gradient's norm step by step, ‖δ‖ through time at the start
    and at the end."""
    steps, model, loss = 20 if config.smoke else config.adding_steps, adder(), ops.squared_error
    update = optimizer(RATE, steps, clip=clip)
    key = jax.random.key(config.seed)
    params, _ = model.init(jax.random.fold_in(key, 0), (config.length, 2))
    test = draw_sums(jax.random.fold_in(key, 1), 1000, config.length)
    go = trainer(model, loss, update, lambda key: draw_sums(key, SUMS, config.length))
    look = jax.jit(lambda p: through_time(model, loss, p, *test))
    at, losses, norms, before = (params, update.init(params)), [], [], look(params)
    keys = jax.random.split(jax.random.fold_in(key, 2), steps)
    name = "clipped" if clip else "as they come"
    with bar(steps) as advance:
        for start in range(0, steps, PART):
            at, (values, lengths) = go(at, keys[start : start + PART])
            losses += np.asarray(values).tolist()
            norms += np.asarray(lengths).tolist()
            advance(f"adding, gradients {name}: loss {losses[-1]:.4f}", len(values))
            log.write(task="adding", gradients=name, step=len(losses), loss=losses[-1])
    error = float(
        jax.jit(lambda p: loss(model.forward(p, {}, test[0])[0][0], test[1]).mean())(at[0])
    )
    return {
        "error": error,
        "losses": losses,
        "norms": norms,
        "before": before,
        "after": look(at[0]),
    }
