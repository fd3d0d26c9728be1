"""What a run leaves behind when it ends or is interrupted: weights, figures, pictures, and a word
about them."""

import dataclasses
import json
import shlex
import time
from collections.abc import Sequence

import jax
import numpy as np
from rich.console import Console

from jaxcnn import train
from jaxcnn._io.drawing import save
from jaxcnn._io.files import write_json
from jaxcnn._io.lines import read_lines
from jaxcnn._io.outside import printable
from jaxcnn.data._folder import counted
from jaxcnn.runs._config import Config, go_on
from jaxcnn.runs._dataset_of_run import RunData
from jaxcnn.runs._model_file import MODEL, about, digest, save_model
from jaxcnn.train._draw import heat_map, history, learning_curves
from jaxcnn.train._logs import missing
from jaxcnn.train._watch import Kind

METRICS, RESULT, CURVES = "metrics.jsonl", "result.json", "learning_curves.png"
LEFT_OUT = "left_out.json"
FEW = 12  # classes that are told one by one
LABELS: dict[Kind, str] = {"delta": "‖δ‖", "gradient": "‖gradient‖", "weight": "‖weights‖"}
NORMS = tuple(f"{kind}_norms.png" for kind in LABELS)


def model_names(config: Config) -> list[str]:
    """The model files of a run, one for each of its seeds."""
    return (
        [MODEL]
        if config.seeds == 1
        else [f"model_{config.seed + number}.safetensors" for number in range(config.seeds)]
    )


def tell_data(config: Config, given: RunData, console: Console) -> None:
    """Before a run: how many images there are of each class, and what was left out, which is also
    written down."""
    counts = given.counts
    told = [f"{name}: {count:,}" for name, count in counts.items()]
    if len(counts) > FEW:
        order = sorted(counts, key=lambda name: counts[name])
        ends = [f"{counts[name]:,} ({name})" for name in (order[0], order[-1])]
        told = [f"from {ends[0]} to {ends[1]}"]
    lines = [printable(f"training images by class: {'; '.join(told)}")]
    if given.left_out:
        write_json(config.out / LEFT_OUT, [list(pair) for pair in given.left_out])
        lines.append(
            printable(f"left out: {counted(given.left_out)}; listed in {config.out / LEFT_OUT}")
        )
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def accuracy_on_test(
    recipe: train.Recipe, state: train.TrainState, test: tuple[np.ndarray, np.ndarray], seeds: int
) -> list[float]:
    """The accuracy on the test images of the parameters that are kept, of each seed."""
    evaluate = train.make_evaluate(dataclasses.replace(recipe, layout=None))
    return [
        evaluate(own.params if own.average is None else own.average, own.state, *test)["accuracy"]
        for own in _of_each_seed(state, seeds)
    ]


def _of_each_seed(state: train.TrainState, seeds: int) -> list[train.TrainState]:
    """The train states of runs that were made at once."""
    if seeds == 1:
        return [state]
    return [jax.tree.map(lambda leaf, n=n: leaf[n], state) for n in range(seeds)]


def leave(
    config: Config,
    given: RunData,
    state: train.TrainState,
    norms: train.Norms | None,
    interrupted: bool,
    began: float,
    before: float,
    compiling: float,
    shape: tuple[int, ...],
    on_test: list[float] | None,
) -> list[str]:
    """Weights, result and pictures; what should be known of them. The run ``began`` on this clock,
    spent ``compiling`` seconds on that, and took ``before`` seconds in earlier sittings;
    ``on_test`` has the accuracies of the only look at the test images, where others were
    watched."""
    states = _of_each_seed(state, config.seeds)
    for own, name in zip(states, model_names(config), strict=True):
        save_model(
            config.out / name, config, own, about(given.classes, given.names, given.scale, shape)
        )
    lines, seconds = read_lines(config.out / METRICS), time.perf_counter() - began
    losses, scores = history(lines)
    kept = int(np.ravel(state.step)[0])
    lost = missing(lines, len(losses))
    bad = int((~np.isfinite(losses)).sum()) - len(lost)
    tested = kept if kept in scores else max(scores, default=None)
    each = next(
        (
            [row["accuracy"] for row in line["each"]]
            for line in lines
            if "each" in line and line["step"] == tested
        ),
        None,
    )
    by_epoch = [row["accuracy"] for row in scores.values()]
    last = None if tested is None else scores[tested]["accuracy"]
    if given.validation is None:
        accuracies = {"test_accuracy": last, "test_accuracy_by_epoch": by_epoch}
    else:
        each = on_test if on_test and config.seeds > 1 else None
        accuracies = {
            "test_accuracy": float(np.mean(on_test)) if on_test else None,
            "validation_accuracy": last,
            "validation_accuracy_by_epoch": by_epoch,
        }
    result = {
        **accuracies,
        "test_accuracy_by_seed": each,
        "standard_deviation": float(np.std(each, ddof=1)) if each else None,
        "steps": len(losses),
        "steps_not_finite": bad,
        "steps_missing_in_log": len(lost),
        "seconds": seconds,
        "seconds_compile": compiling,
        "seconds_of_all_sittings": seconds + before,
        "interrupted": interrupted,
        "params_sha256": digest(state.params if state.average is None else state.average),
        "data": given.name,
        "classes": given.classes,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)) // config.seeds,
        "jax": jax.__version__,
        "settings": json.loads(config.text()),
    }
    write_json(config.out / RESULT, result)
    if np.isfinite(losses).any():
        save(
            learning_curves(losses, scores, per_epoch=given.per_epoch, watched=_watched(given)),
            config.out / CURVES,
        )
    if norms is not None and norms.rows:
        for (kind, label), name in zip(LABELS.items(), NORMS, strict=True):
            save(
                heat_map(
                    norms.table(kind),
                    f"{label} by layer, {config.model} on {given.name}",
                    label=label,
                ),
                config.out / name,
            )
    known = (
        []
        if tested is None
        else [
            f"{scores[tested]['accuracy']:.2%} of the {len(given.watched[1]):,}"
            f" {_watched(given)} images are right"
            f" after {tested / given.per_epoch:.3g} epochs ({tested:,} steps), {seconds:.0f} s"
        ]
    )
    if on_test:
        known.append(f"{np.mean(on_test):.2%} of the {len(given.test[1]):,} test images, seen once")
    elif config.patience and given.validation is None:
        known.append("chosen by the test images: --validation 0.1 keeps them apart")
    known += [f"{bad:,} of {len(losses):,} steps had a loss that was not finite"] if bad else []
    if len(lost):
        known.append(
            f"{config.out / METRICS} lacks the losses of {len(lost):,} of {len(losses):,} steps,"
            f" the first of them step {lost[0]:,}; they were taken, and their lines were lost"
        )
    return known


def _watched(given: RunData) -> str:
    return "test" if given.validation is None else "validation"


def say(
    config: Config,
    written: Sequence[str],
    interrupted: bool,
    done: int,
    steps: int,
    known: Sequence[str],
    console: Console,
) -> None:
    """What was written, and what one might do now."""
    out = shlex.quote(str(config.out))
    lines = [f"Everything is in {config.out}: {', '.join(sorted(written))}", *known]
    if interrupted:
        rest = (
            ", in each process with its --coordinator, --processes and --process"
            if jax.process_count() > 1
            else ""
        )
        lines.append(f"Interrupted at step {done:,} of {steps:,}; {go_on(config.out)}{rest}")
    else:
        lines.append(f"Next: python -m jaxcnn eval {out}; python -m jaxcnn predict {out} IMAGE…")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
