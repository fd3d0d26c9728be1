"""The worked example S1.7: its network, and each number of it beside the one that the document
prints."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.walkthrough.walk import Walk, walk
from jaxcnn import layers, models, ops

ALPHA = LAMBDA = 0.1
PATTERN, TARGET = jnp.array([1.0, 1, 0, 0, 0])[None, :, None], jnp.array([0])
PARAMS = {
    "conv": {"kernel": jnp.array([0.1, -0.1]).reshape(2, 1, 1)},
    "hidden": {"kernel": jnp.array([[-0.1, 0.1], [0.2, -0.1]])},
    "scores": {"kernel": jnp.array([[0.1, 0.2], [0.1, -0.1]])},
}


class Quantity(NamedTuple):
    """``printed`` is what the document has, "" where it prints nothing; ``why`` says where a
    difference comes from."""

    name: str
    rule: str
    value: Any
    printed: str = ""
    why: str = ""


def network() -> layers.Serial:
    """Filter of 2, ReLU, pool, two hidden sigmoids, two scores; no biases."""
    return models.seesaw_cnn()


def walked() -> Walk:
    """The pattern 11000, whose class is 0."""
    return walk(network(), PARAMS, {}, PATTERN, TARGET, ops.softmax_cross_entropy)


def quantities(found: Walk) -> list[Quantity]:
    """Forward, then back, then the updates Δw = −α (∂L/∂w + λ w), all from the old weights."""
    at = {stage.name: stage for stage in found.stages}
    y = {name: stage.y.ravel().tolist() for name, stage in at.items()}
    d = {name: stage.delta.ravel().tolist() for name, stage in at.items()}
    p = jax.nn.softmax(found.scores[0]).tolist()
    move = {
        n: -ALPHA * (s.gradients["kernel"] + LAMBDA * s.params["kernel"])
        for n, s in at.items()
        if s.params
    }
    rounded = at["scores"].delta.round(2)
    without = (
        (rounded @ PARAMS["scores"]["kernel"].T @ PARAMS["hidden"]["kernel"].T).ravel().tolist()
    )
    passing = layers.serial(**{**network().layers, "relu": layers.of(ops.relu.using(at_zero=1.0))})
    tie = (
        walk(passing, PARAMS, {}, PATTERN, TARGET, ops.softmax_cross_entropy)
        .stages[0]
        .delta.ravel()
        .tolist()
    )
    slip = (
        "the document leaves out σ'(C) and σ'(D), about ¼, and goes on from ±0.49:"
        f" {_short(without)}"
    )
    return [
        Quantity("filter", "f[i] = In[i] w1 + In[i+1] w2", y["conv"]),
        Quantity("ReLU", "max(f, 0)", y["relu"]),
        Quantity("pool: A, B", "the larger of two", y["pool"]),
        Quantity("hidden: C, D", "σ(Σ w · pool)", y["sigmoid"], "0.4975, 0.5025"),
        Quantity("scores", "Σ w · hidden", y["scores"]),
        Quantity("p", "softmax of the scores", p),
        Quantity(
            "data loss",
            "−ln p[target]",
            found.loss,
            "0.29",
            f"the document takes log₁₀: {found.loss / math.log(10):.5f}",
        ),
        Quantity("∂L/∂scores", "p − [1, 0]", d["scores"], "−0.49, 0.49", "rounding"),
        Quantity("δ at C, D, before σ", "(Σ ∂L/∂score · w) · σ (1 − σ)", d["hidden"]),
        Quantity("gradient reaching A, B", "Σ δ · w", d["pool"], "−0.0147, 0.0196", slip),
        Quantity(
            "… at the ReLU's outputs",
            "all to the largest of each two",
            d["relu"],
            "both cells of B: 0.0196",
            "a tie of 0 and 0: the first takes it here",
        ),
        Quantity(
            "… at the filter's outputs",
            "passes where f > 0",
            d["conv"],
            "",
            f"S1.5 lets it pass at 0, too: {_short(tie)}; both inputs there are 0, so no weight"
            " notices",
        ),
        Quantity(
            "∂L/∂w1, ∂L/∂w2",
            "Σ_i ∂L/∂f[i] · In[i], … In[i+1]",
            at["conv"].gradients["kernel"].ravel().tolist(),
            "−0.0147, 0",
            "follows from what reaches A",
        ),
        Quantity("Δw of C→1", "−α (∂L/∂score₁ · C + λ w)", float(move["scores"][0, 0]), "0.023"),
        Quantity("Δw of A→C", "−α (δ_C · A + λ w)", float(move["hidden"][0, 0]), "0.000878"),
        Quantity(
            "Δw1",
            "−α (∂L/∂w1 + λ w1)",
            float(move["conv"][0, 0, 0]),
            "0.00047",
            "follows from what reaches A",
        ),
        Quantity(
            "Δw2",
            "−α (∂L/∂w2 + λ w2)",
            float(move["conv"][1, 0, 0]),
            "−0.001",
            "λ w2 with w2 = +0.1; the weight is −0.1",
        ),
    ]


def shown(value: float | list[float]) -> str:
    """Numbers with the digits that count."""
    return _short(value) if isinstance(value, list) else f"{value:.8g}"


def _short(values: list[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
