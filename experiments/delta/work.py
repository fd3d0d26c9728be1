"""Both ways of training, and the picture of small changes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from matplotlib.figure import Figure

from experiments.delta.config import Config
from experiments.delta.recursion import WIDTHS, Watched, network, step
from experiments.files import clear_folder
from jaxcnn import ops
from jaxcnn._io.drawing import ACCENT, PALE, REFERENCE, plain_ticks, save, style
from jaxcnn._io.files import write_json

PATTERNS = 16
FILES = "result.json", "training.png", "small_changes.png"
WAYS = {"pattern by pattern": 1, "in full batches": PATTERNS}


def run(config: Config) -> str:
    clear_folder(config.out, FILES)
    with jax.enable_x64(True):
        return _run(config)


def _run(config: Config) -> str:
    epochs = 3 if config.smoke else config.epochs
    x, t, params = problem(jax.random.key(config.seed))
    watched = {way: train(params, x, t, size, epochs, config.seed) for way, size in WAYS.items()}
    changes = {name: small_changes(f, y) for name, (f, y) in functions().items()}
    summary = {
        way: {
            "error_at_start": float(by_epoch(w, PATTERNS // WAYS[way])[0]),
            "error_at_end": float(by_epoch(w, PATTERNS // WAYS[way])[-1]),
            "steps": len(w.error),
            "largest_difference": float(w.difference.max()),
        }
        for way, w in watched.items()
    }
    write_json(
        config.out / "result.json",
        {"epochs": epochs, "seed": config.seed, "widths": WIDTHS, "ways": summary},
    )
    save(curves(watched), config.out / "training.png")
    save(errors(changes), config.out / "small_changes.png")
    lines = [
        f"{way}: {s['steps']} steps, error {s['error_at_start']:.3g} → {s['error_at_end']:.3g}; the"
        " recursion's δ and gradients and the library's differ by at most"
        f" {s['largest_difference']:.0e}"
        for way, s in summary.items()
    ]
    return "\n".join(
        [
            *lines,
            f"Results and pictures are in {config.out}: {', '.join(FILES)}",
            "Next: python -m experiments.vanishing",
        ]
    )


def problem(key: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
    """Patterns, targets in (0, 1), and first weights."""
    key_x, key_t, key_w = jax.random.split(key, 3)
    x = jax.random.normal(key_x, (PATTERNS, 4))
    params, _ = network().init(key_w, (4,))
    return x, jax.nn.sigmoid(2 * jax.random.normal(key_t, (PATTERNS, WIDTHS[-1]))), params


def train(params: Any, x: jax.Array, t: jax.Array, size: int, epochs: int, seed: int) -> Watched:
    """All steps in one program, the patterns in a new random order in each epoch."""
    rng = np.random.default_rng(seed)
    rows = jnp.concatenate(
        [jnp.asarray(rng.permutation(PATTERNS)).reshape(-1, size) for _ in range(epochs)]
    )
    return jax.jit(lambda params: lax.scan(lambda p, r: step(p, (x[r], t[r])), params, rows)[1])(
        params
    )


def by_epoch(watched: Watched, steps: int) -> np.ndarray:
    """Σ (t − a)² over all patterns of an epoch, each before its step."""
    return np.asarray(watched.error).reshape(-1, steps).sum(1)


def functions() -> dict[str, tuple[Callable[[jax.Array], jax.Array], jax.Array]]:
    """A number, a vector, and a function of a function (S3.8)."""
    w = jax.random.normal(jax.random.key(1), (4, 3))
    y = jax.random.normal(jax.random.key(2), (4,))
    return {
        "softplus of a number": (ops.softplus, jnp.asarray(0.3)),
        "softmax of a vector": (ops.softmax, y),
        "tanh(w · sigmoid(y))": (lambda y: ops.tanh(ops.dense(ops.sigmoid(y), w)), y),
    }


def small_changes(
    f: Callable[[jax.Array], jax.Array], y: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and the largest |f(y + h v) − f(y) − h J v| for each; J from the hand-written
    backwards."""
    v = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
    linear = jnp.tensordot(jax.jacrev(f)(y), v, y.ndim)
    steps = np.logspace(0, -12, 49)
    return steps, np.array([float(jnp.abs(f(y + h * v) - f(y) - h * linear).max()) for h in steps])


def curves(watched: dict[str, Watched]) -> Figure:
    """The error, and ‖δ‖ of every layer, step by step."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    for row, (way, w) in zip(figure.subplots(2, 2), watched.items(), strict=True):
        style(row[0], f"Trained {way}: error of all patterns", "epoch", "Σ (t − a)²")
        steps = PATTERNS // WAYS[way]  # in an epoch
        row[0].plot(by_epoch(w, steps), color=ACCENT, linewidth=1.5)
        worst = float(w.difference.max())
        style(row[1], f"‖δ‖ by layer; recursion and library: ≤ {worst:.0e} apart", "epoch", "‖δ‖")
        for number, norm in enumerate(
            w.norms.reshape(-1, steps, w.norms.shape[1]).mean(1).T, start=1
        ):
            shade = (number - 1) / (len(WIDTHS) - 1)
            colour = tuple(
                (1 - shade) * int(PALE[i : i + 2], 16) / 255
                + shade * int(ACCENT[i : i + 2], 16) / 255
                for i in (1, 3, 5)
            )
            row[1].plot(norm, color=colour, linewidth=1.2, label=f"layer {number}")
        row[1].legend(frameon=False, ncols=4, fontsize=8)
        for ax in row:
            ax.set_yscale("log")
            plain_ticks(ax.yaxis)
    return figure


def errors(changes: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Error against step: h² from the left out term, until rounding takes over."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    ax = figure.subplots()
    style(
        ax,
        "|f(y + h v) − f(y) − h J v|: it falls with h² until float64 runs out of digits",
        "step h",
        "largest difference",
    )
    for (name, (steps, found)), colour in zip(
        changes.items(), (ACCENT, REFERENCE, "#64748b"), strict=True
    ):
        ax.plot(
            steps,
            np.maximum(found, 1e-18),
            "o-",
            markersize=3,
            linewidth=1.2,
            color=colour,
            label=name,
        )
    ends = np.array([1e-6, 1.0])
    ax.plot(ends, 0.1 * ends**2, ":", color="black", linewidth=1, label="h²/10")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(1e-18, 2)
    ax.legend(frameon=False)
    return figure
