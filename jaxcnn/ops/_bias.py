"""One number added to each channel.

    y[…,c]  = x[…,c] + b[c]
    dx[…,c] = dy[…,c]
    db[c]   = Σ_… dy[…,c]

… any leading axes, c channel. Shapes: x (…, c), b (c) → (…, c). Kept: nothing. No kinks. Raises
ValueError for shapes that do not fit, TypeError for dtypes that differ. Source, in
experiments/README.md: S3.7 (a bias is one more weight, on an input that is always 1).

>>> import jax.numpy as jnp
>>> bias(jnp.zeros((2, 3)), jnp.array([1.0, 2.0, 3.0]))
Array([[1., 2., 3.],
       [1., 2., 3.]], dtype=float32)
"""

import jax.numpy as jnp
from jax import lax

from jaxcnn._core.case import Bad, Case, normal, zeros
from jaxcnn._core.contracts import Array, Float
from jaxcnn._core.errors import check_axis_size, check_rank, check_same_dtype
from jaxcnn._core.norms import of_rows
from jaxcnn._core.op import Op
from jaxcnn._core.space import Choose, some
from jaxcnn._core.upcast import upcast


def forward(
    x: Float[Array, "*n c"], b: Float[Array, " c"]
) -> tuple[Float[Array, "*n c"], tuple[()]]:
    check_same_dtype("bias", x=x, b=b)
    check_rank("bias", "x", x, "c", at_least=True)
    check_rank("bias", "b", b, "c")
    check_axis_size("bias", "b", b, "c", 0, x.shape[-1], "`x` has channels")
    return x + lax.broadcast_to_rank(b, x.ndim), ()


def backward(
    residuals: tuple[()], dy: Float[Array, "*n c"], /
) -> tuple[Float[Array, "*n c"], Float[Array, " c"]]:
    # dx[…,c] = dy[…,c]
    dx = dy
    # db[c] = Σ_… dy[…,c]
    db = dy.sum(tuple(range(dy.ndim - 1)))
    return dx, db


def norms(residuals: tuple[()], dy: Float[Array, "*n c"], /) -> tuple[None, Float[Array, " n"]]:
    return None, of_rows(upcast(dy).sum(tuple(range(1, dy.ndim - 1))))


def reference(x: Array, b: Array) -> Array:
    ones = x[..., :1] * 0 + 1
    return x + jnp.einsum("...c,c->...c", ones, b)


CASES = (
    Case("image", (normal(2, 4, 3, 3), normal(3))),
    Case("rows", (normal(5, 2), normal(2))),
    Case("one vector", (normal(4), normal(4)), batched=()),
)


def space(choose: Choose) -> Case:
    channels = choose.integer(1, 3)
    return Case("drawn", (normal(*some(choose, 3), channels), normal(channels)))


BAD = (
    Bad(
        "channels",
        (zeros(2, 3), zeros(2)),
        "bias: `b` must have c = 3 as `x` has channels, got 2 (b: (2,) c)",
    ),
    Bad("rank", (zeros(2, 3), zeros(1, 3)), "bias: `b` must have 1 axes (c)"),
    Bad(
        "dtype",
        (zeros(2, 3), zeros(3, dtype="int32")),
        "bias: `b` must be a floating-point array",
        error=TypeError,
    ),
)

bias = Op(
    "bias",
    forward,
    backward,
    reference,
    CASES,
    bad=BAD,
    norms=norms,
    doc=__doc__,
    space=space,
    equation="y[c] = x[c] + b[c]",
    keeps="nothing",
)
