"""What checkpoints, log and progress bar cost: ``python -m experiments.bench.overhead``. The steps
of :func:`jaxcnn.train.fit` with all of them, and of the bare compiled loop, in turn.

One run of fit is halted every 500 steps, for as many bare ones: a machine that grows slower or
faster does so for both. A checkpoint falls into the middle of each stretch, twice as often as
``python -m jaxcnn train`` writes one; the stretch ends when it is written. ``--smoke`` sees only
that it works."""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

from experiments.command import MNIST_DIR
from experiments.images import load
from jaxcnn import models, ops, train
from jaxcnn._io.command import Parser, program
from jaxcnn._io.outside import load_jax
from jaxcnn.train._checkpoint import Checkpoints
from jaxcnn.train._progress import Progress

PART, BATCH, EVERY = 50, 64, 500
LOSS, OPTIMIZER, KEY = ops.softmax_cross_entropy, optax.adam(1e-3), jax.random.key(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = Parser(
        "python -m experiments.bench.overhead",
        description="What checkpoints, log and progress bar cost.",
    )
    parser.add_argument("--smoke", action="store_true", help="only see that it works")
    smoke = parser.parse_args(arguments).smoke
    load_jax(begin=False)
    pairs, every, part = (2, 4, 2) if smoke else (10, EVERY, PART)
    (images, labels), _, classes = load(MNIST_DIR)
    model = models.mlp((16, classes)) if smoke else models.lenet(classes)
    recipe = train.Recipe(model, LOSS, OPTIMIZER)
    steps = train.make_steps(train.make_step(recipe, guard=True))
    own = train.create(recipe, KEY, images.shape[1:])
    found: dict[str, list[float]] = {"bare": [], "whole": []}
    begun = 0.0

    def bare() -> None:
        nonlocal own
        rows = (
            np.random.default_rng(len(found["bare"]))
            .permutation(len(images))[: every * BATCH]
            .reshape(-1, BATCH)
        )
        for at in range(0, every, part):
            own, _ = steps(own, images, labels, rows[at : at + part], KEY, jnp.int32(part))
        jax.block_until_ready(own)

    def timed(report: train.Report, state: train.TrainState) -> None:
        """Halt in the middle between two checkpoints; the first time, to compile the bare loop."""
        nonlocal begun
        if (report.step - every // 2) % every:
            return
        checkpoints.wait()
        bar.__exit__(None, None, None)
        if begun:
            found["whole"].append(time.perf_counter() - begun)
        else:
            bare()
        begun = time.perf_counter()
        bare()
        found["bare"].append(time.perf_counter() - begun)
        bar.__enter__()
        begun = time.perf_counter()

    total, console = pairs * every + every // 2, Console(stderr=True, force_terminal=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        Checkpoints(Path(folder, "states"), every=every) as checkpoints,
        train.JsonLines(Path(folder, "log.jsonl")) as log,
        Progress(total, BATCH, console=console) as bar,
    ):
        train.fit(
            recipe,
            (images, labels),
            key=KEY,
            batch_size=BATCH,
            steps=total,
            evaluate_every=total,
            report_every=part,
            callbacks=[log, bar, checkpoints, timed],
        )
    found["bare"].pop()  # the last has no partner
    assert len(found["whole"]) == pairs
    ms = {name: 1000 / every * statistics.median(times) for name, times in found.items()}
    shares = sorted(
        whole / bare - 1 for whole, bare in zip(found["whole"], found["bare"], strict=True)
    )
    print(
        f"bare loop {ms['bare']:.2f} ms a step, fit with checkpoints, log and bar"
        f" {ms['whole']:.2f}: {statistics.median(shares):+.1%} ({shares[0]:+.1%} to"
        f" {shares[-1]:+.1%}, {pairs} pairs)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(program(main))
