"""From settings to figures, pictures and a verdict."""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.drawing import save
from experiments.files import clear_folder, write_json
from experiments.progress import track
from experiments.seesaw import pictures
from experiments.seesaw.config import Config
from experiments.seesaw.training import NETWORKS, all_epochs_until

DOCUMENT = {"MLP, sigmoid": None, "MLP, softmax": 324, "CNN, softmax": 261}  # sigmoid: 1000 epochs were not enough
FILES = "result.json", "epochs.png", "settings.png"
# learning rate, weight decay, scale
GRID = [(rate, decay, scale) for decay in (0.0, 0.001, 0.1) for scale in (0.5, 1.0, 2.0) for rate in (0.1, 0.3, 1.0)]


def run(config: Config) -> str:
    clear_folder(config.out, FILES)
    starts, cap, grid = (20, 50, GRID[:2]) if config.smoke else (config.starts, config.epochs, GRID)
    chosen = config.learning_rate, config.weight_decay, config.scale
    began = time.perf_counter()
    program = jax.jit(functools.partial(all_epochs_until, starts, cap))
    found = jax.block_until_ready(program(jnp.array(chosen), jax.random.key(config.seed)))
    seconds = time.perf_counter() - began
    epochs = {name: np.asarray(counts) for name, counts in found.items()}
    fewer = jax.jit(functools.partial(all_epochs_until, min(starts, 100), cap))
    table = [
        {"learning_rate": rate, "weight_decay": decay, "scale": scale,
         "networks": {n: summary(np.asarray(c), cap) for n, c in fewer(jnp.array([rate, decay, scale]), jax.random.key(config.seed)).items()}}
        for rate, decay, scale in track(grid, "learning rate {0[0]}, weight decay {0[1]}, scale {0[2]}".format)
    ]  # fmt: skip
    networks = {name: summary(counts, cap) | {"document": DOCUMENT[name]} for name, counts in epochs.items()}
    settings = dict(zip(("learning_rate", "weight_decay", "scale"), chosen, strict=True))
    write_json(config.out / "result.json", {"seconds": seconds, "starts": starts, "cap": cap, **settings, "seed": config.seed, "networks": networks, "grid": table})  # fmt: skip
    save(pictures.arrivals(epochs, cap, DOCUMENT), config.out / "epochs.png")
    save(pictures.settings(table), config.out / "settings.png")
    lines = [f"{starts} networks of each kind, up to {cap} epochs, in {seconds:.1f} s with compiling:"]
    lines += [
        f"  {name:<14}{_told(s)}; the document: {s['document'] or 'not within 1000'}" for name, s in networks.items()
    ]
    lines += [
        f"  order by the median: {order(networks)}; in {agreeing(table)} of {len(table)} other settings it is the document's"
    ]
    return "\n".join(
        [
            *lines,
            f"Results and pictures are in {config.out}: {', '.join(FILES)}",
            "Next: python -m experiments.walkthrough",
        ]
    )


def summary(epochs: np.ndarray, cap: int) -> dict[str, Any]:
    """Share that arrives, and quartiles among all: null where a quartile never arrives."""
    quartiles = np.quantile(epochs, [0.25, 0.5, 0.75], method="inverted_cdf")
    return {"arrived": float((epochs <= cap).mean()), "quartiles": [int(q) if q <= cap else None for q in quartiles]}


def order(networks: dict[str, Any]) -> str:
    """The networks, the one with the smallest median first; those whose median never arrives are last."""
    medians = {name: found["quartiles"][1] or np.inf for name, found in networks.items()}
    return " < ".join(sorted(medians, key=medians.__getitem__))


def agreeing(table: list[dict[str, Any]]) -> int:
    """How many settings have the document's order: CNN, softmax MLP, sigmoid MLP."""
    return sum(
        order(row["networks"]) == " < ".join(reversed(NETWORKS))
        and row["networks"]["CNN, softmax"]["quartiles"][1] is not None
        for row in table
    )


def _told(found: dict[str, Any]) -> str:
    low, middle, high = (q if q is not None else "never" for q in found["quartiles"])
    return f"{found['arrived']:5.1%} arrive, median {middle} epochs (quartiles {low} to {high})"
