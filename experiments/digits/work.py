"""Networks side by side; each alone, and all together."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.command import MNIST_DIR
from experiments.digits.config import Config
from experiments.files import clear_folder
from experiments.images import load
from experiments.progress import bar
from jaxcnn import layers, ops, train
from jaxcnn._io.drawing import ACCENT, PALE, plain_ticks, save, style
from jaxcnn._io.files import write_json
from jaxcnn._io.lines import Log
from jaxcnn.data.augment import warp
from jaxcnn.layers import Serial
from jaxcnn.runs._components import check_takes

FILES = "result.json", "metrics.jsonl", "digits.png"
PART, SMOOTHING = 10, 0.1
WIDTHS = 32, 48, 48, 96, 96
AIMS = {"single": 0.996, "ensemble": 0.997}


def network(classes: int, widths: Sequence[int]) -> Serial:
    """Convolutions with batch norm, one at full size and then two at every half of it; then dropout
    and scores."""
    parts: dict[str, Any] = {}
    for number, width in enumerate(widths, start=1):
        window = 5 if number == 1 else 3
        parts[f"conv{number}"] = layers.conv(width, kernel_size=window, bias=False)
        if number % 2:
            parts[f"pool{number}"] = layers.max_pool(2)
        parts |= {f"norm{number}": layers.batch_norm(), f"relu{number}": layers.relu()}
    return layers.serial(
        **parts, flatten=layers.flatten(), dropout=layers.dropout(0.4), dense=layers.dense(classes)
    )


def run(config: Config) -> str:
    batch, few = (16, (32, 100)) if config.smoke else (128, (None, None))
    (images, labels), (test_images, test_labels), classes = load(
        config.data_dir, train=few[0], test=few[1], batch=batch
    )
    epochs, per_epoch, count = (
        1 if config.smoke else config.epochs,
        len(images) // batch,
        config.networks,
    )
    model, black = network(classes, WIDTHS[:1] if config.smoke else WIDTHS), float(images.min())
    aims = AIMS if config.data_dir == MNIST_DIR else {}
    check_takes(model, images.shape[1:], "--data-dir: the model")
    clear_folder(config.out, FILES)
    optimizer = optax.adamw(
        optax.cosine_onecycle_schedule(epochs * per_epoch, 4e-3, pct_start=0.2),
        b2=0.99,
        weight_decay=1e-3,
    )
    first, orders, inside = jax.random.split(jax.random.key(config.seed), (3, count))
    recipe = train.Recipe(
        model,
        ops.softmax_cross_entropy,
        optimizer,
        augment=lambda key, x: warp(key, x, fill=black),
        prepare_target=lambda labels: optax.smooth_labels(
            jax.nn.one_hot(labels, classes), SMOOTHING
        ),
    )
    states = jax.jit(jax.vmap(lambda key: train.create(recipe, key, images.shape[1:])))(first)
    # every network has an order of its own
    go = jax.jit(
        jax.vmap(train.make_steps(recipe), in_axes=(0, None, None, 0, 0)), donate_argnums=0
    )
    predict = jax.jit(jax.vmap(train.make_predict(recipe), in_axes=(0, 0, None)))
    singles, together, loss, result = [], [], 0.0, {}
    with Log(config.out / "metrics.jsonl") as log, bar(epochs * per_epoch) as advance:
        for epoch in range(epochs):
            rows = jnp.stack(
                [
                    train.shuffled(jax.random.fold_in(key, epoch), len(images), batch)
                    for key in orders
                ]
            )
            for start in range(0, per_epoch, PART):
                states, metrics = go(states, images, labels, rows[:, start : start + PART], inside)
                loss = float(metrics["loss"][:, -1].mean())
                advance(f"epoch {epoch + 1}/{epochs}, loss {loss:.3f}", metrics["loss"].shape[1])
            p = jnp.concatenate(
                [
                    jax.nn.softmax(predict(states.params, states.state, test_images[at : at + 500]))
                    for at in range(0, len(test_images), 500)
                ],
                axis=1,
            )
            singles.append(np.asarray((p.argmax(-1) == test_labels[None]).mean(1)).tolist())
            together.append(float((p.mean(0).argmax(-1) == test_labels).mean()))
            log.write(epoch=epoch + 1, loss=loss, singles=singles[-1], ensemble=together[-1])
            # after every epoch, so that a run that is stopped has left what it found
            result = summary(singles[-1], together[-1])
            write_json(
                config.out / "result.json",
                {
                    "seed": config.seed,
                    "epochs": epoch + 1,
                    "networks": count,
                    **result,
                    "aims": aims,
                },
            )
            save(
                picture(config.data_dir.name, np.array(singles), together, aims),
                config.out / "digits.png",
            )
    spread = (
        ""
        if result["standard_deviation"] is None
        else f", standard deviation {result['standard_deviation']:.3%}"
    )

    def aimed(which: str) -> str:
        return f"; the aim was {aims[which]:.1%}" if aims else ""

    return "\n".join(
        [
            (
                f"each alone: {', '.join(f'{a:.2%}' for a in result['singles'])} right (mean"
                f" {result['mean']:.3%}{spread}){aimed('single')}"
            ),
            f"all {count} together: {result['ensemble']:.2%} right{aimed('ensemble')}",
            f"Results and picture are in {config.out}: {', '.join(FILES)}",
            "Next: python -m experiments.features",
        ]
    )


def summary(singles: list[float], ensemble: float) -> dict[str, Any]:
    """Accuracies: each, their mean and standard deviation (None for one), and that of all
    together."""
    deviation = float(np.std(singles, ddof=1)) if len(singles) > 1 else None
    return {
        "singles": singles,
        "mean": float(np.mean(singles)),
        "standard_deviation": deviation,
        "ensemble": ensemble,
    }


def picture(
    data: str, singles: np.ndarray, together: list[float], aims: dict[str, float]
) -> Figure:
    """Test error by epoch."""
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    ax = figure.subplots()
    style(
        ax,
        f"{data}: {together[-1]:.2%} right together, {singles[-1].mean():.2%} alone",
        "epoch",
        "test error, %",
    )
    epochs = np.arange(1, len(together) + 1)
    ax.plot(epochs, 100 * (1 - singles), "o-", color=PALE, markersize=3)
    ax.plot(
        epochs,
        100 * (1 - np.array(together)),
        "o-",
        color=ACCENT,
        linewidth=2,
        label="all together",
    )
    for name, aim in aims.items():
        ax.axhline(100 * (1 - aim), color="black", linewidth=0.8, linestyle=":")
        ax.text(1, 100 * (1 - aim), f" aim, {name}", fontsize=8, va="bottom")
    ax.set_yscale("log")
    plain_ticks(ax.yaxis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False)
    return figure
