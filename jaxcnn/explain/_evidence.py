"""Where a decision came from: input gradients, Grad-CAM, occlusion.

All of them take ``(model, params, state, x, classes)``: x (n, *space, c), classes (n,) integers,
and look at score[n] = model(x)[n, classes[n]], in evaluation mode. All work under ``jit``. A model
with other rules (``model.map_ops``, :mod:`jaxcnn.rules`) gives other pictures: ``class_gradient``
of one with guided ReLUs is guided backpropagation.

>>> import jax, jax.numpy as jnp
>>> from jaxcnn import layers
>>> model = layers.serial(
...     conv=layers.conv(2), relu=layers.relu(), pool=layers.global_avg_pool(),
...     dense=layers.dense(3),
... )
>>> params, state = model.init(jax.random.key(0), (8, 8, 1))
>>> x, classes = jnp.ones((5, 8, 8, 1)), jnp.array([0, 1, 2, 0, 1])
>>> class_gradient(model, params, state, x, classes).shape
(5, 8, 8, 1)
>>> grad_cam(model, params, state, x, classes, layer="relu").shape
(5, 8, 8)
>>> occlusion(model, params, state, x, classes, window=4, stride=2).shape
(5, 3, 3)
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn._core.errors import setting_error
from jaxcnn._core.window import resolve
from jaxcnn._gradient import activations, deltas
from jaxcnn.layers import Layer


def class_gradient(
    model: Layer, params: Any, state: Any, x: jax.Array, classes: jax.Array
) -> jax.Array:
    """∂ score[n] / ∂ x[n]: the shape of x."""
    (scores, _), residuals = model.forward(params, state, x)
    _, dx = model.backward(residuals, _chosen(scores, classes))
    return dx


def grad_cam(
    model: Layer, params: Any, state: Any, x: jax.Array, classes: jax.Array, *, layer: str
) -> jax.Array:
    """max(0, Σ_c (mean over space of δ[c]) · y[c]) at the output y of ``layer``: its shape without
    channels.

    ``layer`` is a name of ``jaxcnn.deltas``; its output must have spatial axes. Raises ValueError
    if there is no such layer."""
    (scores, _), residuals = model.forward(params, state, x)
    found = deltas(model, residuals, _chosen(scores, classes))
    if layer not in found or found[layer].ndim < 3:
        able = ", ".join(name for name, delta in found.items() if delta.ndim >= 3) or "none"
        raise ValueError(
            f"grad_cam: `layer` must be a layer with spatial axes ({able}), got {layer!r}"
        )
    delta, y = found[layer], activations(model, params, state, x)[layer]
    weights = delta.mean(tuple(range(1, delta.ndim - 1)), keepdims=True)
    return jnp.maximum((weights * y).sum(-1), 0)


def occlusion(
    model: Layer,
    params: Any,
    state: Any,
    x: jax.Array,
    classes: jax.Array,
    *,
    window: int,
    stride: int = 1,
    fill: float | jax.Array = 0.0,
) -> jax.Array:
    """How much score[n] falls when a square of ``window`` cells is set to ``fill``: (n, *places),
    the squares ``stride`` apart.

    Images (n, h, w, c) only; one square at a time for the whole batch.
    """
    if x.ndim != 4:
        raise setting_error("occlusion", "x", "a batch of images (n, h, w, c)", x.shape)
    over = resolve(
        "occlusion", x.shape[1:3], window=window, stride=stride, padding="VALID", dilation=1
    )
    rows, columns = jnp.arange(over.cells[0])[:, None], jnp.arange(over.cells[1])[None]

    def score(x: jax.Array) -> jax.Array:
        (scores, _), _ = model.forward(params, state, x)
        return (scores * _chosen(scores, classes)).sum(-1)

    def covered(place: jax.Array) -> jax.Array:
        top, left = place // over.places[1] * stride, place % over.places[1] * stride
        inside = (
            (rows >= top) & (rows < top + window) & (columns >= left) & (columns < left + window)
        )
        return score(jnp.where(inside[None, ..., None], fill, x))

    falls = score(x)[None] - lax.map(covered, jnp.arange(over.places[0] * over.places[1]))
    return falls.T.reshape(-1, *over.places)


def _chosen(scores: jax.Array, classes: jax.Array) -> jax.Array:
    return jax.nn.one_hot(classes, scores.shape[-1], dtype=scores.dtype)
