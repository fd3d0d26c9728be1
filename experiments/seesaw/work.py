"""From settings to figures, pictures and a verdict."""

import contextlib
import math
import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.files import clear_folder
from experiments.progress import track
from experiments.seesaw import pictures
from experiments.seesaw.config import Config
from experiments.seesaw.training import NETWORKS, WEIGHTS, program
from jaxcnn._io.drawing import save
from jaxcnn._io.files import write_json

# sigmoid: 0.023 after 1000 epochs
DOCUMENT = {"MLP, sigmoid": None, "MLP, softmax": 324, "CNN, softmax": 261}
FILES = "result.json", "epochs.png", "settings.png"
# learning rate, weight decay, scale
GRID = [
    (rate, decay, scale)
    for decay in (0.0, 0.001, 0.1)
    for scale in (0.5, 1.0, 2.0)
    for rate in (0.1, 0.3, 1.0)
]
FEWER = 100  # starts, for each of the other settings


def run(config: Config) -> str:
    clear_folder(config.out, FILES)
    with contextlib.suppress(RuntimeError):  # a device a CPU, where JAX has not started yet
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    starts, cap, grid = (20, 50, GRID[:2]) if config.smoke else (config.starts, config.epochs, GRID)
    chosen = config.learning_rate, config.weight_decay, config.scale
    noise = jnp.asarray(
        np.random.default_rng(config.seed).standard_normal((len(NETWORKS), starts, WEIGHTS)),
        jnp.float32,
    )
    began = time.perf_counter()
    found = jax.block_until_ready(program(starts, cap)(jnp.array(chosen), noise))
    seconds = time.perf_counter() - began
    epochs = {name: np.asarray(counts) for name, (counts, _) in found.items()}
    errors = {name: float(np.median(error)) for name, (_, error) in found.items()}
    few = noise[:, :FEWER]
    fewer, table = program(few.shape[1], cap), []
    for rate, decay, scale in track(
        grid, "learning rate {0[0]}, weight decay {0[1]}, scale {0[2]}".format
    ):
        counts = {
            n: np.asarray(c) for n, (c, _) in fewer(jnp.array([rate, decay, scale]), few).items()
        }
        networks = {n: summary(c, cap) for n, c in counts.items()}
        table.append(
            {"learning_rate": rate, "weight_decay": decay, "scale": scale, "networks": networks}
        )
    networks = {
        name: (
            summary(counts, cap)
            | {
                "document": DOCUMENT[name],
                "error_after_1000": None if math.isnan(errors[name]) else errors[name],
            }
        )
        for name, counts in epochs.items()
    }
    settings = dict(zip(("learning_rate", "weight_decay", "scale"), chosen, strict=True))
    write_json(
        config.out / "result.json",
        {
            "seconds": seconds,
            "starts": starts,
            "cap": cap,
            **settings,
            "seed": config.seed,
            "networks": networks,
            "grid": table,
        },
    )
    save(pictures.arrivals(epochs, cap, DOCUMENT), config.out / "epochs.png")
    save(pictures.settings(table), config.out / "settings.png")
    lines = [
        f"{starts} networks of each kind, up to {cap} epochs, in {seconds:.1f} s with compiling;"
        " how many epochs they took:"
    ]
    lines += [
        f"  {name:<14}{_told(s)}; the document: {s['document'] or '0.023 after 1000 epochs'}"
        for name, s in networks.items()
    ]
    for of_all, whose in ((True, "all, arrived or not"), (False, "those that arrive")):
        found_order, count = order(networks, of_all=of_all), agreeing(table, of_all=of_all)
        lines.append(
            f"  by the median of {whose}: {found_order}; the document's order in {count} of"
            f" {len(table)} settings"
        )
    return "\n".join(
        [
            *lines,
            f"Results and pictures are in {config.out}: {', '.join(FILES)}",
            "Next: python -m experiments.walkthrough",
        ]
    )


def summary(epochs: np.ndarray, cap: int) -> dict[str, Any]:
    """Share that arrives; quartiles among all, null where a quartile never arrives; the median of
    those that arrive, null if none does."""
    quartiles = np.quantile(epochs, [0.25, 0.5, 0.75], method="inverted_cdf")
    there = epochs[epochs <= cap]
    return {
        "arrived": len(there) / len(epochs),
        "quartiles": [int(q) if q <= cap else None for q in quartiles],
        "median_of_arrived": float(np.median(there)) if len(there) else None,
    }


def median(found: dict[str, Any], *, of_all: bool) -> float | None:
    """Of all networks, None where it never arrives; or of those that arrive, None where none
    does."""
    return found["quartiles"][1] if of_all else found["median_of_arrived"]


def order(networks: dict[str, Any], *, of_all: bool) -> str:
    """The networks that have a median, the one with the smallest first."""
    medians = {name: median(found, of_all=of_all) for name, found in networks.items()}
    there = {name: value for name, value in medians.items() if value is not None}
    return " < ".join(sorted(there, key=there.__getitem__)) or "none has one"


def agreeing(table: list[dict[str, Any]], *, of_all: bool) -> int:
    """In how many settings the order is the document's: CNN, softmax MLP, sigmoid MLP."""
    document = " < ".join(reversed(NETWORKS))
    return sum(order(row["networks"], of_all=of_all) == document for row in table)


def _told(found: dict[str, Any]) -> str:
    def epoch(number: float | None) -> str:
        return "never" if number is None else f"{number:g}"

    low, middle, high = map(epoch, found["quartiles"])
    error = found["error_after_1000"]
    return (
        f"{found['arrived']:5.1%} arrive, median {middle} (quartiles {low} to {high}), of those"
        f" that arrive {epoch(found['median_of_arrived'])}"
        + ("" if error is None else f"; median error after 1000 epochs {error:.2g}")
    )
