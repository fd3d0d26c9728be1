"""How much of a result is rounding? Multiply every intermediate value by 1 ± ε and see what comes
out.

Where terms cancel, a result's own size says nothing about its error: in ``softmax(x).sum()``, in a
bias before a norm, in the bias of attention's keys the gradient is 0, and what is computed is some
rounding of terms that are large. Moving the inputs by their last place does not show it in float32;
moving all that is computed on the way does.

>>> import jax, jax.numpy as jnp
>>> pull = lambda u, x: jax.vjp(lambda x: jax.nn.softmax(x).sum(), x)[1](u)[0]
>>> x, u = jnp.array([0.3, -1.0, 2.0]), jnp.float32(1.0)
>>> noise = shaken(pull, u, x, eps=6e-8)
>>> bool(1e-9 < float(jnp.abs(noise(1, u, x) - pull(u, x)).max()) < 1e-6)
True
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jaxcnn.verify._subject import quick

# These round nothing
EXACT = {
    "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "copy_p", "gather", "max",
    "min", "neg", "pad", "reduce_max", "reduce_min", "reshape", "rev", "select_n", "sign", "slice",
    "squeeze", "stop_gradient", "transpose",
}  # fmt: skip
CALLS = {"closed_call", "custom_jvp_call", "custom_vjp_call", "jit", "pjit", "remat2"}


def shaken(function: Callable[..., Any], *args: Any, eps: float) -> Callable[..., Any]:
    """``noisy(draw, *args)``: ``function(*args)`` with every float that is computed on the way
    multiplied by 1 ± ``eps``, with other signs for another ``draw``. What a loop computes is moved
    at its end only."""
    return quick(functools.partial(_shaken, *_traced(function, args), eps))


def step_by_step(function: Callable[..., Any], *args: Any, eps: float = 0.0, draw: int = 0) -> Any:
    """``function(*args)``, each step compiled and run alone, so that none is fused with another;
    moved as in :func:`shaken` where ``eps`` is not 0.

    >>> step_by_step(jax.nn.softmax, jnp.array([1.0, 1.0]))
    Array([0.5, 0.5], dtype=float32)
    """
    return _shaken(*_traced(function, args), eps, draw, *args)


def _traced(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Any]:
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    return program, jax.tree.structure(shapes)


def _shaken(program: Any, tree: Any, eps: float, draw: Any, *args: Any) -> Any:
    counter = itertools.count(1)
    move = lambda y: _shake(y, draw, next(counter), eps) if eps else y  # noqa: E731
    found = _run(program.jaxpr, program.consts, jax.tree.leaves(args), move)
    return jax.tree.unflatten(tree, found)


def _run(jaxpr: Jaxpr, consts: list[Any], args: list[Any], move: Callable[[Any], Any]) -> list[Any]:
    """The program, step by step; ``move`` changes what a step that rounds has computed."""

    def run(jaxpr: Jaxpr, consts: Any, args: list[Any]) -> list[Any]:
        values: dict[Any, Any] = dict(
            zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True)
        )
        read = lambda v: v.val if isinstance(v, Literal) else values[v]  # noqa: E731
        for eqn in jaxpr.eqns:
            inputs, name = [read(v) for v in eqn.invars], eqn.primitive.name
            inner = next(
                (p for p in eqn.params.values() if isinstance(p, ClosedJaxpr | Jaxpr)), None
            )
            if name in CALLS and inner is not None:
                closed = isinstance(inner, ClosedJaxpr)
                own = inner.jaxpr if closed else inner
                outputs = run(own, inner.consts if closed else (), inputs)
            else:
                outputs = bind(eqn, inputs)
                outputs = outputs if eqn.primitive.multiple_results else [outputs]
                if name not in EXACT:
                    outputs = [move(y) for y in outputs]
            values.update(zip(eqn.outvars, outputs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    return run(jaxpr, consts, args)


def bind(eqn: Any, inputs: list[Any]) -> Any:
    """One equation, run. Some versions of JAX have functions beside the parameters."""
    found = eqn.primitive.get_bind_params(eqn.params)
    functions, params = found if isinstance(found, tuple) else ((), found)
    return eqn.primitive.bind(*functions, *inputs, **params)


def _shake(y: Any, draw: Any, number: int, eps: float) -> Any:
    if not jnp.issubdtype(jnp.result_type(y), jnp.inexact) or np.size(y) == 0:
        return y
    # A hash of the place: as good as random signs, and no generator needs to be compiled
    word = lax.iota(jnp.uint32, np.size(y)) * jnp.uint32(0x9E3779B1)
    word += jnp.asarray(draw, jnp.uint32) * jnp.uint32(0x85EBCA77)
    word += jnp.uint32(number * 0xC2B2AE3D % 2**32)
    word = (word ^ (word >> 15)) * jnp.uint32(0x2C1B3C6D)
    signs = 1 - 2 * ((word ^ (word >> 13)) & 1).astype(jnp.int32)
    real = jnp.finfo(jnp.result_type(y)).dtype
    return y * (1 + jnp.asarray(eps, real) * signs.astype(real).reshape(np.shape(y)))
