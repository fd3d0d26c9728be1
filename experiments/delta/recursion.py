"""The documents' equations as they stand there, for four layers of sigmoids and the total square
error (S0.7, S2.3):

    forward      a⁰ = x,  aˡ = σ(aˡ⁻¹ Wˡ + bˡ)
    output       δ⁴ = −2 (t − a⁴) ⊙ a⁴ ⊙ (1 − a⁴)
    below        δˡ = (δˡ⁺¹ Wˡ⁺¹ᵀ) ⊙ aˡ ⊙ (1 − aˡ)
    gradients    ∇Wˡ = aˡ⁻¹ᵀ δˡ,  ∇bˡ = Σ_n δˡ
    step         W ← W − α ∇W

Rows are patterns, so one equation serves a pattern and a batch.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcnn import deltas, layers, ops
from jaxcnn._gradient import losses_and_delta
from jaxcnn.layers import Serial

WIDTHS = (6, 5, 4, 2)
RATE = 0.5
LOSS = ops.squared_error


class Watched(NamedTuple):
    """One step: the error before it, ‖δ‖ of each layer, and the largest difference between the two
    ways in any δ and any gradient."""

    error: jax.Array
    norms: jax.Array
    difference: jax.Array


def network() -> Serial:
    """The same four layers in the library's words."""
    parts = {}
    for number, width in enumerate(WIDTHS, start=1):
        parts |= {
            f"dense{number}": layers.dense(width),
            f"sigmoid{number}": layers.activation("sigmoid"),
        }
    return layers.serial(**parts)


def by_recursion(params: Any, x: jax.Array, t: jax.Array) -> tuple[jax.Array, list[jax.Array], Any]:
    """The error, δ of every layer (first first), and the gradients."""
    names = [f"dense{number}" for number in range(1, len(WIDTHS) + 1)]
    a = [x]
    for name in names:
        a.append(jax.nn.sigmoid(a[-1] @ params[name]["kernel"] + params[name]["bias"][None]))
    found = [-2 * (t - a[-1]) * a[-1] * (1 - a[-1])]
    for number in reversed(range(1, len(names))):
        found.insert(
            0, (found[0] @ params[names[number]]["kernel"].T) * a[number] * (1 - a[number])
        )
    gradients = {
        name: {"kernel": before.T @ d, "bias": d.sum(0)}
        for name, before, d in zip(names, a, found, strict=False)
    }
    return jnp.square(t - a[-1]).sum(), found, gradients


def by_library(params: Any, x: jax.Array, t: jax.Array) -> tuple[list[jax.Array], Any]:
    """δ of every layer, and the gradients, by hand-written rules."""
    model = network()
    (y, _), residuals = model.forward(params, {}, x)
    _, dy = losses_and_delta(LOSS, y, t, mean=False)
    found = deltas(model, residuals, dy)
    return [found[f"dense{number}"] for number in range(1, len(WIDTHS) + 1)], model.backward(
        residuals, dy
    )[0]


def step(params: Any, batch: tuple[jax.Array, jax.Array]) -> tuple[Any, Watched]:
    """By the recursion; the library looks on."""
    error, found, gradients = by_recursion(params, *batch)
    theirs, their_gradients = by_library(params, *batch)
    pairs = zip(
        jax.tree.leaves((found, gradients)), jax.tree.leaves((theirs, their_gradients)), strict=True
    )
    difference = jnp.stack([jnp.abs(a - b).max() for a, b in pairs]).max()
    params = jax.tree.map(lambda w, d: w - RATE * d, params, gradients)
    return params, Watched(error, jnp.stack([jnp.linalg.norm(d) for d in found]), difference)
