"""All activations, depths and scales; figures and pictures."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.files import clear_folder
from experiments.images import load
from experiments.progress import track
from experiments.vanishing import pictures
from experiments.vanishing.config import Config
from experiments.vanishing.measure import BATCH, Measured, before_and_after, best
from jaxcnn._io.drawing import save
from jaxcnn._io.files import write_json
from jaxcnn._io.lines import Log

ACTIVATIONS = "sigmoid", "tanh", "relu", "softplus"
DEPTHS = 2, 5, 10, 20, 50
SCALES = 0.5, 1.0, 1.4142135, 2.0, 4.0  # of the standard deviation 1/√inputs; √2 is He's
FILES = "result.json", "metrics.jsonl", "deltas.png", "depth.png", "silent.png"


def run(config: Config) -> str:
    few = (200, 200) if config.smoke else (10_000, 2_000)
    data = load(config.data_dir, train=few[0], test=few[1], batch=BATCH)
    clear_folder(config.out, FILES)
    depths, steps = ((3,), 2) if config.smoke else (DEPTHS, config.steps)
    jobs = [(activation, depth) for activation in ACTIVATIONS for depth in depths]
    found: dict[tuple[str, int], tuple[Measured, Measured]] = {}
    with Log(config.out / "metrics.jsonl") as log:
        for activation, depth in track(jobs, "{0[0]}, {0[1]} layers".format):
            start, end = before_and_after(
                activation, depth, jnp.array(SCALES), steps, data, jax.random.key(config.seed)
            )
            found[activation, depth] = jax.tree.map(np.asarray, (start, end))
            log.write(**_row(activation, depth, *found[activation, depth]))
    rows = [_row(*job, *found[job]) for job in jobs]
    write_json(
        config.out / "result.json",
        {"seed": config.seed, "steps": steps, "scales": SCALES, "rows": rows},
    )
    save(pictures.fading(found, ACTIVATIONS, max(depths), SCALES), config.out / "deltas.png")
    save(pictures.by_depth(found, ACTIVATIONS, depths, SCALES), config.out / "depth.png")
    save(pictures.silent(found, ACTIVATIONS, max(depths), SCALES), config.out / "silent.png")
    lines = [
        f"{name:<9}{depth:>3} layers: {_told(*measured)}"
        for (name, depth), measured in found.items()
    ]
    return "\n".join(
        [
            *lines,
            f"Results and pictures are in {config.out}: {', '.join(FILES)}",
            "Next: python -m experiments.features",
        ]
    )


def _row(activation: str, depth: int, start: Measured, end: Measured) -> dict[str, Any]:
    """What is kept of a network."""
    return {"activation": activation, "depth": depth} | {
        when: {name: values.tolist() for name, values in measured._asdict().items()}
        for when, measured in (("start", start), ("trained", end))
    }


def _told(start: Measured, end: Measured) -> str:
    at = best(end)
    with np.errstate(all="ignore"):
        fades = start.norms[at, 0] / start.norms[at, -1]
    return (
        f"learns best with scale {SCALES[at]:.3g}: {end.correct[at]:.1%} of the test images right;"
        f" there, ‖δ‖ at the first layer over the last was {fades:.1e} at the start"
    )
