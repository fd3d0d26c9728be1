"""Sums of 16-bit numbers are kept in float32: what a rule computes in, before its result is rounded
once.

>>> import jax.numpy as jnp
>>> upcast(jnp.ones(2, "bfloat16")).dtype, upcast(jnp.ones(2, "float32")).dtype
(dtype('float32'), dtype('float32'))
>>> many = jnp.ones((1, 4096), "bfloat16")       # where 256 + 1 is 256
>>> matmul(many, many.T)
Array([[4096.]], dtype=float32)
"""

import jax
import jax.numpy as jnp


def upcast(x: jax.Array) -> jax.Array:
    """``x``, in float32 where it has 16 bits."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """``a @ b``, added up and returned in float32 where they have 16 bits; the factors are not
    copied into 32."""
    return jnp.matmul(a, b, preferred_element_type=jnp.promote_types(a.dtype, jnp.float32))
