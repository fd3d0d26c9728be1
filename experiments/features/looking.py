"""The ways of looking: maps of evidence, and what randomised weights make of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import models
from jaxcnn._core.op import Op
from jaxcnn.explain import class_gradient, grad_cam, occlusion
from jaxcnn.layers import Serial
from jaxcnn.rules import deconvolution, guided

Map = Callable[[Any, jax.Array, jax.Array], jax.Array]


def network(classes: int) -> Serial:
    """The library's LeNet."""
    return models.lenet(classes)


def with_relu(model: Serial, rule: Callable[[Op], Op]) -> Serial:
    """The same model, its ReLUs going back by another rule."""
    return model.map_ops(lambda path, op: rule(op) if op.name == "relu" else op)


def maps(model: Serial) -> dict[str, Map]:
    """Every way to say where a decision came from: (params, x, classes) → (n, h', w'), large where
    it did."""

    def size(gradient: jax.Array) -> jax.Array:
        return jnp.abs(gradient).sum(-1)

    return {
        "gradient": lambda p, x, c: size(class_gradient(model, p, {}, x, c)),
        "guided": lambda p, x, c: size(class_gradient(with_relu(model, guided), p, {}, x, c)),
        "deconvolution": lambda p, x, c: size(
            class_gradient(with_relu(model, deconvolution), p, {}, x, c)
        ),
        "Grad-CAM": lambda p, x, c: grad_cam(model, p, {}, x, c, layer="relu2"),
        "occlusion": lambda p, x, c: occlusion(
            model, p, {}, x, c, window=6, stride=2, fill=x.min()
        ),
    }


def randomised(
    params: dict[str, Any], names: list[str], fresh: dict[str, Any]
) -> list[dict[str, Any]]:
    """The parameters with those of the first of ``names`` drawn anew, of the first two, and so
    on."""
    return [
        {**params, **{name: fresh[name] for name in names[: count + 1]}}
        for count in range(len(names))
    ]


def rank_correlation(a: jax.Array, b: jax.Array) -> float:
    """Spearman's, the mean over the examples of two batches of maps: 1 if they rank all places
    alike, 0 if one says nothing about the other. A map that is the same everywhere says nothing."""
    found = []
    for one, other in zip(
        np.asarray(a).reshape(len(a), -1), np.asarray(b).reshape(len(b), -1), strict=True
    ):
        mine, theirs = _ranks(one), _ranks(other)
        flat = mine.std() == 0 or theirs.std() == 0
        found.append(0.0 if flat else float(np.corrcoef(mine, theirs)[0, 1]))
    return float(np.mean(found))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Places in the order of size; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]
