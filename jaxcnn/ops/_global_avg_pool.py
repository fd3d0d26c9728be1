"""The mean over all spatial axes.

    y[n,c]    = 1/Q Σ_q x[n,q,c]
    dx[n,q,c] = dy[n,c] / Q

n example, q one of Q cells, c channel. Shapes: x (n, *space, c) → (n, c). Kept: nothing but the
input's shape. No kinks. Accumulates in float32 for 16-bit inputs. Raises ValueError for fewer than
3 axes, TypeError for integers. Source, in experiments/README.md: S0.4, over the whole image.

>>> import jax.numpy as jnp
>>> global_avg_pool(jnp.arange(4.0).reshape(1, 2, 2, 1))
Array([[1.5]], dtype=float32)
"""

import math

import jax.numpy as jnp

from jaxcnn._core.case import Bad, Case, normal, zeros
from jaxcnn._core.contracts import Array, Float
from jaxcnn._core.cotangent import Static
from jaxcnn._core.errors import check_floating, check_rank
from jaxcnn._core.op import Op
from jaxcnn._core.space import Choose, some


def forward(x: Float[Array, "n *space c"]) -> tuple[Float[Array, "n c"], Static[tuple[int, ...]]]:
    check_floating("global_avg_pool", x=x)
    check_rank("global_avg_pool", "x", x, "n w c", at_least=True)
    space = x.shape[1:-1]
    return x.mean(tuple(range(1, x.ndim - 1))), Static(space)


def backward(
    residuals: Static[tuple[int, ...]], dy: Float[Array, "n c"], /
) -> tuple[Float[Array, "n *space c"]]:
    space = residuals.value
    # dx[n,q,c] = dy[n,c] / Q
    n, c = dy.shape
    share = (dy / max(math.prod(space), 1)).reshape(n, *(1,) * len(space), c)
    return (jnp.broadcast_to(share, (n, *space, c)),)


def reference(x: Array) -> Array:
    cells = x.reshape(x.shape[0], -1, x.shape[-1])
    return jnp.einsum("nqc->nc", cells) / cells.shape[1]


CASES = (
    Case("2-D", (normal(2, 3, 4, 5),)),
    Case("1-D", (normal(3, 4, 2),)),
    Case("3-D", (normal(2, 2, 3, 2, 2),)),
)


def space(choose: Choose) -> Case:
    return Case("drawn", (normal(*some(choose, 5, least=3)),))


BAD = (Bad("rank", (zeros(2, 3),), "global_avg_pool: `x` must have 3 or more axes (… n w c)"),)

global_avg_pool = Op(
    "global_avg_pool",
    forward,
    backward,
    reference,
    CASES,
    bad=BAD,
    doc=__doc__,
    space=space,
    equation="y[c] = 1/Q Σ_q x[q,c]",
    keeps="nothing",
)
