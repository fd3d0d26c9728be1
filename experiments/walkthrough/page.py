"""The walk as one page: a section a layer, to be opened by a click, with its values, its δ, its
weights and their gradients as pictures."""

from typing import Any

import jax
import numpy as np

from experiments.walkthrough import sample
from experiments.walkthrough.walk import Stage, Walk
from jaxcnn._io.html import Html, element, heat, page, table, together

FEW = 64  # numbers that are written out beside their picture, at most


def seesaw(found: Walk, told: list[sample.Quantity]) -> str:
    """The worked example, number by number, and its layers."""
    rows = [(q.name, q.rule, sample.shown(q.value), q.printed or "–", q.why) for q in told]
    body = [
        element("h1", "The sample run of the lecture, number by number"),
        element(
            "p",
            "Input 1 1 0 0 0, class 0, α = λ = 0.1, no biases. Exact values stand beside those that"
            " the document prints; where they differ, the last column says why.",
        ),
        table(("quantity", "rule", "exact", "the document", "why they differ"), rows),
        *_stages(found, open_all=True),
    ]
    return page("The sample run, number by number", together(body))


def model(name: str, found: Walk, target: int) -> str:
    """Any model on an image."""
    p = jax.nn.softmax(found.scores[0])
    said = (
        f"The image is of class {target}, the network says {int(p.argmax())} with p ="
        f" {float(p.max()):.4f}; the loss is {found.loss:.4f}."
    )
    body = [
        element("h1", f"A walk through {name}"),
        element(
            "p",
            said,
            " Click a layer to open it: its output, what comes back to it (δ), its weights and"
            " their gradients.",
        ),
        *_stages(found),
    ]
    return page(f"A walk through {name}", together(body))


def _stages(found: Walk, *, open_all: bool = False) -> list[Html]:
    start = element(
        "details",
        element("summary", "the input"),
        element(
            "div",
            heat(_channels(found.x), caption="x"),
            heat(_channels(found.dx), caption="δ, what reaches the input"),
            class_="row",
        ),
        open=True,
    )
    return [
        start,
        *(_stage(number, stage, open_all) for number, stage in enumerate(found.stages, start=1)),
    ]


def _stage(number: int, stage: Stage, opened: bool) -> Html:
    size = "×".join(map(str, stage.y.shape[1:]))
    pictures = [
        heat(_channels(stage.y), caption="output"),
        heat(_channels(stage.delta), caption="δ = ∂loss/∂output"),
    ]
    for name, array in stage.params.items():
        pictures += [
            heat(_kernel(array), caption=name),
            heat(_kernel(stage.gradients[name]), caption=f"∂loss/∂{name}"),
        ]
    parts: list[Any] = [
        element("summary", f"{number} · {stage.name}", element("span", f"  {size}", class_="aside"))
    ]
    parts += [element("p", rule) for rule in stage.rules]
    if stage.keeps:
        parts.append(element("p", stage.keeps, class_="aside"))
    if stage.y.size <= FEW:
        parts.append(
            table(
                ("", "numbers"),
                [
                    ("output", sample.shown(np.ravel(stage.y).tolist())),
                    ("δ", sample.shown(np.ravel(stage.delta).tolist())),
                ],
            )
        )
    return element("details", *parts, element("div", *pictures, class_="row"), open=opened)


def _channels(array: Any) -> np.ndarray:
    """The first example, a tile a channel; a vector as a strip."""
    one = np.asarray(array)[0]
    return np.moveaxis(one, -1, 0) if one.ndim == 3 else one.T if one.ndim == 2 else one


def _kernel(array: Any) -> np.ndarray:
    """A tile for each pair of input and output channel of a 2-D kernel, a row for each of a 1-D
    kernel; other weights as they are."""
    kernel = np.asarray(array)
    if kernel.ndim == 4:
        return kernel.transpose(2, 3, 0, 1)
    return np.moveaxis(kernel, 0, -1).reshape(-1, len(kernel)) if kernel.ndim == 3 else kernel
