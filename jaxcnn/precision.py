"""Mixed precision: what is kept in 32 bits, what is computed in 16, and how small gradients are
kept from vanishing there.

    parameters   kept and updated in ``params``; a copy in ``compute`` goes through the network
    forward, δ   in ``compute``; every rule of the library adds up in float32 all the same
    loss         of the output in ``output``
    gradients    handed to the optimizer in ``params``

float16 ends at 6e-8 and at 65,504. A loss scale s keeps δ inside: backward starts from s ·
∂loss/∂y, and the gradients are divided by s. "dynamic" halves s when a gradient is not finite,
leaves that step out, and doubles s after every 2,000 steps that went well (Micikevicius et al.
2018). bfloat16 has the range of float32 and needs none.

>>> import jax.numpy as jnp
>>> Policy("bfloat16").to_compute({"count": jnp.ones(2, int), "kernel": jnp.ones(2)})
{'count': Array([1, 1], dtype=int32), 'kernel': Array([1, 1], dtype=bfloat16)}
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxcnn._core.errors import setting_error

FIRST, LARGEST = 2.0**15, 2.0**24
PATIENCE = 2000  # good steps until the scale is doubled


@dataclasses.dataclass(frozen=True)
class Policy:
    """Raises ValueError for a dtype that is not floating, or a ``loss_scale`` that is no number >
    0, "dynamic" or None."""

    compute: Any = "float32"
    params: Any = "float32"
    output: Any = "float32"
    loss_scale: float | Literal["dynamic"] | None = None

    def __post_init__(self) -> None:
        for name in ("compute", "params", "output"):
            value = getattr(self, name)
            if not jnp.issubdtype(jnp.dtype(value), jnp.floating):
                raise setting_error("Policy", name, "a floating dtype, such as 'bfloat16'", value)
            object.__setattr__(self, name, jnp.dtype(value))
        scale = self.loss_scale
        if isinstance(scale, bool) or not (
            scale in (None, "dynamic") or (isinstance(scale, int | float) and 0 < scale < math.inf)
        ):
            raise setting_error("Policy", "loss_scale", "a number > 0, 'dynamic' or None", scale)

    def to_compute(self, tree: Any) -> Any:
        """Every floating array of ``tree`` in ``compute``."""
        return _cast(tree, self.compute)

    def to_params(self, tree: Any) -> Any:
        """Every floating array of ``tree`` in ``params``."""
        return _cast(tree, self.params)

    def to_output(self, tree: Any) -> Any:
        """Every floating array of ``tree`` in ``output``."""
        return _cast(tree, self.output)

    @property
    def fixed_scale(self) -> float:
        """The static loss scale; 1 where there is none, or a dynamic one, which the train state
        holds."""
        return 1.0 if self.loss_scale in (None, "dynamic") else float(self.loss_scale)

    def first_scale(self) -> "Scale | None":
        """What a run begins with, None where the scale is no part of its state."""
        return Scale(jnp.float32(FIRST), jnp.int32(0)) if self.loss_scale == "dynamic" else None


class Scale(NamedTuple):
    """A dynamic loss scale: its value (float32), and how many steps went well since it last changed
    (int32)."""

    value: jax.Array
    good: jax.Array

    def after(self, finite: jax.Array) -> "Scale":
        """Half of it after a step that was not finite, twice as much after PATIENCE good ones."""
        due = self.good + 1 >= PATIENCE
        grown = jnp.where(due, jnp.minimum(2 * self.value, LARGEST), self.value)
        value = jnp.where(finite, grown, jnp.maximum(self.value / 2, 1))
        return Scale(value, jnp.where(finite & ~due, self.good + 1, 0).astype(jnp.int32))


def _cast(tree: Any, dtype: Any) -> Any:
    def one(leaf: Any) -> Any:
        return leaf.astype(dtype) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf

    return jax.tree.map(one, tree)
