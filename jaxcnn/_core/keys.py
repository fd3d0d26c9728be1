"""Random keys as they come in: of the old style or the new, of any of JAX's generators.

The library draws with threefry alone. ``vmap`` over keys of the faster generators (rbg, unsafe_rbg)
draws from the first key only, so that neither an example nor a seed would have numbers of its own,
and what is drawn would depend on the devices; their words are folded into a key of threefry
instead. A key of threefry stays what it is.

>>> import jax
>>> old, new = jax.random.PRNGKey(7), jax.random.key(7)
>>> other = jax.random.key(7, impl="rbg")
>>> bool(threefry("fit", old) == threefry("fit", new)), threefry("fit", other).dtype
(True, key<fry>)
>>> threefry("fit", 7)
Traceback (most recent call last):
TypeError: fit: `key` must be a random key, got int (a Python value); pass jax.random.key(seed)
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn._core.errors import show

NAME = "threefry2x32"


def threefry(function: str, key: Any, *, several: bool = False) -> jax.Array:
    """``key`` as a new-style key of threefry; with ``several`` it may be an array (n,) of them.
    Raises TypeError for anything else."""
    dtype = getattr(key, "dtype", None)
    old = dtype == jnp.uint32
    if not old and (dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key)):
        raise TypeError(
            f"{function}: `key` must be a random key, got {show(key)}; pass jax.random.key(seed)"
        )
    if old:
        (words,) = jax.eval_shape(jax.random.PRNGKey, 0).shape
        if key.shape[-1:] != (words,):
            raise TypeError(
                f"{function}: `key` must be a random key, got {show(key)}, where old-style ones"
                f" have {words} words; pass jax.random.key(seed)"
            )
        key = jax.random.wrap_key_data(jnp.asarray(key))
    if key.ndim > several:
        wanted = "one random key, or an array (n,) of them" if several else "one random key"
        raise TypeError(
            f"{function}: `key` must be {wanted}, got an array of keys of shape {key.shape}"
        )
    if str(jax.random.key_impl(key)) == NAME:
        return key
    words = jax.random.key_data(key)
    first = jax.random.wrap_key_data(jnp.zeros((*key.shape, 2), jnp.uint32), impl=NAME)
    fold = jax.vmap(jax.random.fold_in) if key.ndim else jax.random.fold_in
    return functools.reduce(fold, jnp.moveaxis(words, -1, 0), first)
