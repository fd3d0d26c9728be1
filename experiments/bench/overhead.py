"""What checkpoints, log and progress bar cost: ``python -m experiments.bench.overhead``. The steps of :func:`jaxcnn.train.fit` with all of them, and of the bare compiled loop, in turn.

Counted from the second report of a run on, as the first waits for the compiler; the writing of the last checkpoint is counted, too. ``--smoke`` sees only that it works.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

from experiments.command import MNIST_DIR
from experiments.images import load
from jaxcnn import models, ops, train
from jaxcnn.train.checkpoint import Checkpoints
from jaxcnn.train.progress import Progress

PART, BATCH, EVERY = 50, 64, 200
LOSS, OPTIMIZER, KEY = ops.softmax_cross_entropy, optax.adam(1e-3), jax.random.key(0)


def main(arguments: Sequence[str] | None = None) -> int:
    smoke = "--smoke" in (sys.argv[1:] if arguments is None else arguments)
    rounds, count = (1, 2 * PART) if smoke else (5, 12 * PART)
    (images, labels), _, classes = load(MNIST_DIR)
    model = models.mlp((16, classes)) if smoke else models.lenet(classes)
    steps = train.make_steps(train.make_step(model, LOSS, OPTIMIZER, guard=True))
    rows = np.random.default_rng(0).permutation(len(images))[: count * BATCH].reshape(count, BATCH)

    def bare() -> float:
        state, begun = train.create(model, OPTIMIZER, KEY, images.shape[1:]), 0.0
        for at in range(0, count, PART):
            state, _ = steps(state, images, labels, rows[at : at + PART], KEY, jnp.int32(PART))
            if at == 0:
                jax.block_until_ready(state)
                begun = time.perf_counter()
        jax.block_until_ready(state)
        return time.perf_counter() - begun

    def whole() -> float:
        begun: list[float] = []
        with tempfile.TemporaryDirectory() as folder, Checkpoints(Path(folder, "states"), every=EVERY) as states, train.JsonLines(Path(folder, "log.jsonl")) as log:  # fmt: skip
            with Progress(count, BATCH, console=Console(stderr=True, force_terminal=True)) as bar:
                all_: list[Any] = [log, bar, states, lambda report, state: begun.append(time.perf_counter())]
                train.fit(model, LOSS, OPTIMIZER, (images, labels), key=KEY, batch_size=BATCH, steps=count, report_every=PART, callbacks=all_)  # fmt: skip
            states.wait()
            return time.perf_counter() - begun[0]

    found: dict[str, list[float]] = {"bare": [], "whole": []}
    for _ in range(rounds):
        found["bare"].append(bare())
        found["whole"].append(whole())
    ms = {name: 1000 / (count - PART) * statistics.median(times) for name, times in found.items()}
    print(f"bare loop {ms['bare']:.2f} ms a step, fit with checkpoints, log and bar {ms['whole']:.2f}: {ms['whole'] / ms['bare'] - 1:+.1%} (medians of {rounds})")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
