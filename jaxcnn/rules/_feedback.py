"""Other backwards of layers with weights: δ is carried down by something else than the weights'
transpose.

    the true rule          dx = dy wᵀ
    feedback alignment     dx = dy Bᵀ           B drawn once, never changed
    sign symmetric         dx = dy sign(w)ᵀ/√(fan in / 2)

Neither needs the forward's weights on the way back, which a brain has no way of knowing. dw is the
true one for the dy that arrives. Sources: Lillicrap et al. 2016; Liao, Leibo and Poggio 2016.

>>> import jax.numpy as jnp
>>> from jaxcnn import ops
>>> x, w = jnp.array([[1.0, 2.0]]), jnp.array([[0.1], [-3.0]])
>>> dense = sign_symmetric(ops.dense)
>>> dx, dw, _ = dense.pull(dense.run(x, w)[1], jnp.ones((1, 1)))
>>> dx, dw
(Array([[ 1., -1.]], dtype=float32), Array([[1.],
       [2.]], dtype=float32))
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn._core.op import Op

WITH_WEIGHTS = ("dense", "conv")


def feedback_alignment(op: Op, *, seed: int = 0) -> Op:
    """``dense`` or ``conv`` with δ carried by fixed random weights; ``seed`` settles which, so give
    each layer its own."""
    return _carried_by(op, functools.partial(_fixed, seed))


def sign_symmetric(op: Op) -> Op:
    """``dense`` or ``conv`` with δ carried by the weights' signs, all of the size that weights
    start with."""
    return _carried_by(op, _signs)


@functools.cache
def fixed_weights(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Normal numbers of the size that He et al. give to weights (the last axis is the output), the
    same for a seed wherever they are drawn; float32.

    >>> fixed_weights((2, 3), 0).shape
    (2, 3)
    """
    return (np.random.default_rng(seed).standard_normal(shape) * _size(shape)).astype(np.float32)


def _size(shape: tuple[int, ...]) -> float:
    """√(2 / fan in)."""
    return math.sqrt(2 / max(1, math.prod(shape[:-1])))


def _carried_by(op: Op, carrier: Callable[[jax.Array], jax.Array]) -> Op:
    if op.name not in WITH_WEIGHTS:
        raise ValueError(
            f"a feedback rule is for {' and '.join(WITH_WEIGHTS)}, whose residuals begin with x and"
            f" w; got {op.name}"
        )
    return op.replace(backward=functools.partial(_backward, op, carrier))


def _backward(
    op: Op,
    carrier: Callable[[jax.Array], jax.Array],
    residuals: Any,
    dy: jax.Array,
    /,
    **settings: Any,
) -> tuple[Any, ...]:
    # dw reads x and dy alone, so that with another w all but dx stays as it is
    x, w, *rest = residuals
    return op.backward((x, carrier(w), *rest), dy, **settings)


def _fixed(seed: int, w: jax.Array) -> jax.Array:
    return jnp.asarray(fixed_weights(w.shape, seed), w.dtype)


def _signs(w: jax.Array) -> jax.Array:
    return jnp.sign(w) * _size(w.shape)
