"""Ends a run at its first bad step, whose train state is then at hand, though the program that it
stands in goes on to its end.

>>> import jax.numpy as jnp
>>> step = jax.jit(lambda state, x, target, key: (state + x, {"finite": jnp.isfinite(x)}))
>>> state, fine = jnp.float32(0.0), jnp.array(True)
>>> for x in (1.0, jnp.nan, 4.0):
...     (state, fine), _ = until_bad(step)((state, fine), x, None, None)
>>> float(state)
1.0
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn.train._step import Metrics


def until_bad(step: jax.stages.Wrapped) -> jax.stages.Wrapped:
    """The step of (train state, whether all went well so far): one that is not finite, and all
    after it, leave the train state as it was before."""

    def held(
        carry: tuple[Any, Any], x: Any, target: Any, key: Any
    ) -> tuple[tuple[Any, Any], Metrics]:
        before, fine = carry
        after, metrics = step(before, x, target, key)
        fine = fine & metrics["finite"]
        return (jax.tree.map(lambda a, b: jnp.where(fine, a, b), after, before), fine), metrics

    return jax.jit(held, donate_argnums=0)
