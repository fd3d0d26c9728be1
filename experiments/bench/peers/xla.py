"""What the peers on JAX have in common: programs compiled ahead, what they cost, and what is kept
between forward and backward."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.data import GRADIENT, Arrays, op_inputs
from experiments.bench.peers import Order, Task

OpForward = Callable[..., jax.Array]
OpBoth = Callable[[Sequence[jax.Array], jax.Array], tuple[jax.Array, Sequence[jax.Array]]]


class Program(NamedTuple):
    """A compiled program, and what it cost: "compile_seconds", "temp_bytes"."""

    run: Callable[..., Any]
    facts: dict[str, float]


def compile_program(
    function: Callable[..., Any], *args: Any, donate: tuple[int, ...] = ()
) -> Program:
    """Traced, lowered and compiled for arguments like ``args``."""
    start = time.perf_counter()
    compiled = jax.jit(function, donate_argnums=donate).lower(*args).compile()
    facts = {"compile_seconds": time.perf_counter() - start}
    memory = compiled.memory_analysis()
    if memory is not None:
        facts["temp_bytes"] = memory.temp_size_in_bytes
    return Program(compiled, facts)


def put(array: np.ndarray) -> jax.Array:
    """On the device; real numbers in float32, or in float64 where that is switched on."""
    real = np.issubdtype(array.dtype, np.floating)
    return jnp.array(array, jnp.result_type(float) if real else array.dtype)


def kept_bytes(forward: Callable[..., tuple[Any, Any]], *args: Any) -> int:
    """The bytes of the residuals of ``forward(*args) -> (value, residuals)``: exact, and the same
    every time.

    Each array of the traced program counts once. The arguments do not count, as they are alive
    anyway; nor do constants (the zeros that autodiff of a ReLU holds on to), which a compiler
    writes where it needs them."""
    closed, shapes = jax.make_jaxpr(forward, return_shape=True)(*args)
    jaxpr = closed.jaxpr
    varies = set(jaxpr.invars)
    for equation in jaxpr.eqns:
        if any(not hasattr(v, "val") and v in varies for v in equation.invars):
            varies.update(equation.outvars)
    _, residuals = jax.tree.structure(shapes).unflatten(jaxpr.outvars)
    kept = {v for v in jax.tree.leaves(residuals) if not hasattr(v, "val") and v in varies} - set(
        jaxpr.invars
    )
    return sum(v.aval.size * v.aval.dtype.itemsize for v in kept)


def op_task(order: Order, arrays: Arrays, forward: OpForward, both: OpBoth) -> Task:
    """``forward(*inputs) -> y``, or ``both(inputs, dy) -> (y, cotangents)``."""
    inputs = [put(array) for array in op_inputs(arrays)]
    if order.kind == "forward":
        program = compile_program(forward, *inputs)
        outputs = {"y": np.array(program.run(*inputs))}
        return Task(lambda: ready(program.run(*inputs)), outputs, program.facts)
    dy = put(arrays["dy"])
    program = compile_program(both, inputs, dy)
    y, cotangents = program.run(inputs, dy)
    named = {f"{GRADIENT}{number}": np.array(d) for number, d in enumerate(cotangents)}
    return Task(lambda: ready(program.run(inputs, dy)), {"y": np.array(y), **named}, program.facts)


def ready(result: Any) -> None:
    """Wait until it is computed."""
    jax.block_until_ready(result)
