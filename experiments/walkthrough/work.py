"""Walk, print, and write the page."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.files import clear_folder
from experiments.images import load
from experiments.progress import bar
from experiments.walkthrough import page, sample
from experiments.walkthrough.config import Config
from experiments.walkthrough.walk import Walk, walk
from jaxcnn import models, ops, train
from jaxcnn._io.columns import columns
from jaxcnn._io.command import InputError
from jaxcnn._io.files import write_file, write_json
from jaxcnn.runs._components import check_takes

FILES = "result.json", "walkthrough.html"


def run(config: Config) -> str:
    if config.model == "seesaw":
        with jax.enable_x64(True):
            found = sample.walked()
            told = sample.quantities(found)
        clear_folder(config.out, FILES)
        rows = [
            {"name": q.name, "rule": q.rule, "value": q.value, "document": q.printed, "why": q.why}
            for q in told
        ]
        write_json(config.out / "result.json", {"model": "seesaw", "quantities": rows})
        write_file(config.out / "walkthrough.html", page.seesaw(found, told))
        text = as_text(told)
    else:
        found, target = of_model(config)
        clear_folder(config.out, FILES)
        write_json(
            config.out / "result.json",
            {
                "model": config.model,
                "image": config.image or 0,
                "loss": found.loss,
                "layers": [_figures(found, n) for n in range(len(found.stages))],
            },
        )
        write_file(config.out / "walkthrough.html", page.model(config.model, found, target))
        text = in_short(config.model, found, target)
    return (
        f"{text}\nResults are in {config.out}: {', '.join(FILES)} (open it in a browser)\nNext:"
        " python -m experiments.seesaw"
    )


def of_model(config: Config) -> tuple[Walk, int]:
    """A model, trained for a little while, on one test image; and the image's class."""
    few = (640, 100) if config.smoke else (None, None)
    (images, labels), (test_images, test_labels), classes = load(
        config.data_dir, train=few[0], test=few[1]
    )
    index = config.image or 0
    if index >= len(test_images):
        raise InputError(
            f"--image must be less than the {len(test_images)} test images, got {index}"
        )
    model: Any = (
        models.mlp((128, classes))
        if config.model == "mlp"
        else models.MODELS[config.model](classes)
    )
    check_takes(model, images.shape[1:], "--data-dir: the model")
    recipe = train.Recipe(model, ops.softmax_cross_entropy, optax.adam(1e-3))
    key = jax.random.key(config.seed)
    state = train.create(recipe, key, images.shape[1:])
    steps = 2 if config.smoke else config.steps
    if steps:
        with bar(steps) as advance:
            state, _ = train.fit(
                recipe,
                (images, labels),
                key=key,
                batch_size=min(64, len(images)),
                steps=steps,
                report_every=10,
                start=state,
                callbacks=[
                    lambda report, _: advance(
                        f"training: loss {report.loss:.3f}", len(report.losses)
                    )
                ],
            )
    chosen = slice(index, index + 1)
    found = walk(
        model,
        state.params,
        state.state,
        test_images[chosen],
        test_labels[chosen],
        ops.softmax_cross_entropy,
    )
    return found, int(test_labels[index])


def as_text(told: list[sample.Quantity]) -> str:
    """The sample run as a table, the reasons under it."""
    rows = [(q.name, q.rule, sample.shown(q.value), q.printed) for q in told]
    reasons: list[str] = []
    marks = [""]
    for q in told:
        if q.why:
            reasons.append(f"  {len(reasons) + 1}  {q.name}: {q.why}")
        marks.append(str(len(reasons)) if q.why else "")
    header = ("quantity", "rule", "exact", "the document")
    lines = columns([(*row, mark) for row, mark in zip((header, *rows), marks, strict=True)])
    return "\n".join([*lines, "", "Where the two differ:", *reasons])


def in_short(name: str, found: Walk, target: int) -> str:
    """A line a layer: forward on the left, back on the right."""
    p = jax.nn.softmax(found.scores[0])
    lines = [
        (
            f"{name} on an image of class {target}: p[{target}] = {p[target]:.4f}, loss"
            f" {found.loss:.4f}, taken for {int(p.argmax())}"
        ),
        "",
    ]
    lines += [
        f"{'layer':<24}{'output':<16}{'from … to':<22}{'zero':>6}  "
        f" {'‖δ‖':<10}{'‖gradient‖':<22}rule"
    ]
    for stage, n in zip(found.stages, range(len(found.stages)), strict=True):
        f = _figures(found, n)
        span = f"{f['smallest']:.3g} … {f['largest']:.3g}"
        gradients = ", ".join(f"{norm:.2g}" for norm in f["gradient_norms"].values())
        lines.append(
            f"{stage.name:<24}{'×'.join(map(str, stage.y.shape[1:])):<16}"
            f"{span:<22}{f['zero']:>6.0%}"
            f"   {f['delta_norm']:<10.3g}{gradients:<22}{stage.rules[0]}"
        )
    return "\n".join(
        [*lines, f"{'(the image)':<24}{'':<44}   {float(jnp.linalg.norm(found.dx)):<10.3g}"]
    )


def _figures(found: Walk, number: int) -> dict[str, Any]:
    stage = found.stages[number]
    y = np.asarray(stage.y)
    return {
        "name": stage.name,
        "rules": stage.rules,
        "shape": y.shape[1:],
        "smallest": float(y.min()),
        "largest": float(y.max()),
        "zero": float((y == 0).mean()),
        "delta_norm": float(jnp.linalg.norm(stage.delta)),
        "gradient_norms": {n: float(jnp.linalg.norm(g)) for n, g in stage.gradients.items()},
    }
