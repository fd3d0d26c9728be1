"""All activations, depths and scales; figures and pictures."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.drawing import save
from experiments.files import clear_folder, open_log, write_json
from experiments.images import load
from experiments.progress import track
from experiments.vanishing import pictures
from experiments.vanishing.config import Config
from experiments.vanishing.measure import Data, Measured, before_and_after

ACTIVATIONS = "sigmoid", "tanh", "relu", "softplus"
DEPTHS = 2, 5, 10, 20, 50
SCALES = 0.5, 1.0, 1.4142135, 2.0, 4.0  # of the standard deviation 1/√inputs; √2 is He's
FILES = "result.json", "metrics.jsonl", "deltas.png", "depth.png", "silent.png"


def run(config: Config) -> str:
    clear_folder(config.out, FILES)
    data = _data(config)
    depths, steps = ((3,), 2) if config.smoke else (DEPTHS, config.steps)
    jobs = [(activation, depth) for activation in ACTIVATIONS for depth in depths]
    found: dict[tuple[str, int], tuple[Measured, Measured]] = {}
    with open_log(config.out / "metrics.jsonl") as log:
        for activation, depth in track(jobs, "{0[0]}, {0[1]} layers".format):
            start, end = before_and_after(
                activation, depth, jnp.array(SCALES), steps, data, jax.random.key(config.seed)
            )
            found[activation, depth] = jax.tree.map(np.asarray, (start, end))
            log.write(**_row(activation, depth, *found[activation, depth]))
    rows = [_row(*job, *found[job]) for job in jobs]
    write_json(config.out / "result.json", {"seed": config.seed, "steps": steps, "scales": SCALES, "rows": rows})
    save(pictures.fading(found, ACTIVATIONS, max(depths), SCALES), config.out / "deltas.png")
    save(pictures.by_depth(found, ACTIVATIONS, depths, SCALES), config.out / "depth.png")
    save(pictures.silent(found, ACTIVATIONS, max(depths), SCALES), config.out / "silent.png")
    lines = [f"{row['activation']:<9}{row['depth']:>3} layers: {_told(row)}" for row in rows]
    return "\n".join(
        [
            *lines,
            f"Results and pictures are in {config.out}: {', '.join(FILES)}",
            "Next: python -m experiments.features",
        ]
    )


def _data(config: Config) -> Data:
    (x, labels), (test_x, test_labels) = load(
        config.data_dir, train=200 if config.smoke else 10_000, test=200 if config.smoke else 2_000
    )
    return Data((x, labels), (test_x, test_labels))


def _row(activation: str, depth: int, start: Measured, end: Measured) -> dict[str, Any]:
    """What is kept of a network; numbers that are no longer finite are null."""

    def numbers(array: np.ndarray) -> Any:
        return [numbers(a) for a in array] if array.ndim else float(array) if np.isfinite(array) else None

    return {"activation": activation, "depth": depth} | {
        when: {name: numbers(values) for name, values in measured._asdict().items()}
        for when, measured in (("start", start), ("trained", end))
    }


def _told(row: dict[str, Any]) -> str:
    best = int(np.argmax(row["trained"]["correct"]))
    norms = row["start"]["norms"][best]
    fades = f"{norms[0] / norms[-1]:.1e}" if norms[0] is not None and norms[-1] else "not finite"
    return f"best with scale {SCALES[best]:.3g}: {row['trained']['correct'][best]:.1%} correct; there, ‖δ‖ at the first layer over the last was {fades} at the start"
