"""Direct feedback alignment: every chosen layer gets its δ straight from the output's (Nøkland
2016).

    δ[l] = δ[output] B_l          B_l drawn once, never changed

so that no error passes through the layers between, and a layer that stands in front of a chosen one
learns from that one's δ by the true rules.

>>> import jax, jax.numpy as jnp
>>> from jaxcnn import layers
>>> chain = layers.serial(dense1=layers.dense(4), relu1=layers.relu(), dense2=layers.dense(2))
>>> model = direct(chain, ["relu1"])
>>> params, state = model.init(jax.random.key(0), (3,))
>>> (y, _), residuals = model.forward(params, state, jnp.ones((5, 3)))
>>> _ = model.backward(residuals, y, tap=lambda path, delta: print(*path, delta.shape))
dense2 (5, 2)
relu1 (5, 4)
dense1 (5, 4)
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn.layers._compose import Serial, keep
from jaxcnn.layers._layer import Params, Tap, within
from jaxcnn.rules import fixed_weights


@dataclasses.dataclass(frozen=True, eq=False)
class Direct(Serial):
    """A serial model in which the layers named in ``seeds`` get their δ from the output."""

    seeds: dict[str, int]

    def backward(
        self, residuals: Any, dy: jax.Array, tap: Tap | None = None
    ) -> tuple[Params, jax.Array]:
        dparams: Params = {}
        at_output = dy.reshape(dy.shape[0], -1)
        for name, layer in reversed(self.layers.items()):
            if name in self.seeds:
                # as of a layer from here to the output
                shape = (math.prod(dy.shape[1:]), at_output.shape[1])
                carrier = jnp.asarray(fixed_weights(shape, self.seeds[name]), dy.dtype)
                dy = (at_output @ carrier.T).reshape(dy.shape)
            if tap:
                tap((name,), dy)
            with jax.named_scope(f"{name}/backward"):
                part, dy = layer.backward(residuals[name], dy, **within(layer, tap, name))
            keep(dparams, name, part)
        return dparams, dy


def direct(model: Serial, layers: Sequence[str], *, seed: int = 0) -> Direct:
    """``model`` with the outputs of the named ``layers`` taking δ from the output. Raises
    ValueError for names that it has not."""
    unknown = sorted(set(layers) - set(model.layers))
    if unknown:
        raise ValueError(
            f"direct: the model has no layer `{unknown[0]}`; it has {', '.join(model.layers)}"
        )
    return Direct(model.layers, {name: seed + number for number, name in enumerate(layers)})
