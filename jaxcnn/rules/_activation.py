"""Other backwards of activations: guided, deconvolution, straight through.

>>> import jax.numpy as jnp
>>> from jaxcnn import ops
>>> x, dy = jnp.array([-2.0, 0.5, 3.0]), jnp.array([1.0, -1.0, 1.0])
>>> for rule in (guided, deconvolution, straight_through):
...     relu = rule(ops.relu)
...     print(relu.pull(relu.run(x)[1], dy)[0])
[0. 0. 1.]
[1. 0. 1.]
[ 1. -1.  1.]
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn._core.errors import setting_error
from jaxcnn._core.op import Op


def guided(op: Op) -> Op:
    """dx = the op's own, of dy where dy > 0: only what excites a unit is carried further."""
    return op.replace(backward=functools.partial(_guided, op))


def _guided(op: Op, residuals: Any, dy: jax.Array, /, **settings: Any) -> tuple[jax.Array]:
    return op.backward(residuals, jnp.maximum(dy, 0), **settings)


def deconvolution(op: Op) -> Op:
    """dx = dy where dy > 0, 0 elsewhere: the activation applied to what comes back, whatever it did
    on the way forward."""
    return op.replace(backward=_deconvolution)


def _deconvolution(residuals: Any, dy: jax.Array, /, **settings: Any) -> tuple[jax.Array]:
    return (jnp.maximum(dy, 0),)


def straight_through(op: Op, *, within: float | None = None) -> Op:
    """dx = dy, and 0 where |x| > ``within``, if that is given (a unit that is far off is left
    alone; then x is kept).

    Raises ValueError for ``within`` that is not a positive number.
    """
    if within is None:
        return op.replace(backward=_identity)
    if isinstance(within, bool) or not isinstance(within, int | float) or not within > 0:
        raise setting_error("straight_through", "within", "None or a number > 0", within)
    return op.replace(
        forward=functools.partial(_keeping_x, op), backward=functools.partial(_within, within)
    )


def _identity(residuals: Any, dy: jax.Array, /, **settings: Any) -> tuple[jax.Array]:
    return (dy,)


def _keeping_x(op: Op, x: jax.Array, /, **settings: Any) -> tuple[jax.Array, jax.Array]:
    return op.forward(x, **settings)[0], x


def _within(within: float, x: jax.Array, dy: jax.Array, /, **settings: Any) -> tuple[jax.Array]:
    return (jnp.where(jnp.abs(x) <= within, dy, 0),)
