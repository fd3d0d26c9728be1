"""How good outputs are, one number an example.

>>> import jax.numpy as jnp
>>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1])).tolist()
[1.0, 0.0]
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from jaxcnn._core.upcast import upcast

Measure: TypeAlias = Callable[[Any, Any], jax.Array]
"""(output, target) of a batch → one number an example; a loss of ``ops`` is one."""


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1 for each example whose largest logit (the first of equals) is its label's, 0 for the
    others, NaN where a logit is NaN: (n,).

    >>> import jax.numpy as jnp
    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1])).tolist()
    [1.0, 0.0]
    """
    right = upcast((logits.argmax(-1) == labels).astype(logits.dtype))
    return jnp.where(jnp.isnan(logits).any(-1), jnp.nan, right)
