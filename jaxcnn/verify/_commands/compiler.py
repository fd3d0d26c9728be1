"""Does the compiler compute what a program says? Each program is compiled and held against itself
op by op, at sizes where XLA changes its mind, and must give equal bits in equal calls.

A difference that options of the compiler cure is the compiler's fault, and no rule's."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn._core.case import Case
from jaxcnn._core.compiler import CURE, FLAG, guarded, here, suspects
from jaxcnn._core.op import Op
from jaxcnn.verify import _trace as trace
from jaxcnn.verify._numerics.comparison import Tolerance, compare
from jaxcnn.verify._numerics.shaken import step_by_step
from jaxcnn.verify._report import Failure
from jaxcnn.verify._subject import SALT, Subject, generator, widest

# Rows: one, a batch, and what threads and blocks share out evenly and not
SIZES = (1, 128, 33_001, 65_536)
LARGEST = 2**24  # numbers in the inputs; sizes beyond it are left out
CALLS, PATIENCE = 50, 1.0  # equal calls, and the seconds that they may take
RANKS = range(2, 9)
DRAWS = 3  # of the noise
Program = tuple[Callable[..., Any], tuple[Any, ...]]


def programs() -> dict[str, Callable[[int], Program]]:
    """Small programs of the kinds that compilers fuse, by name, for a number of rows."""
    matrix = np.float32(generator(1).standard_normal((3, 3)))

    def rows(rows: int) -> Any:
        return jnp.asarray(generator(2, rows).standard_normal((rows, 3)), jnp.float32)

    def of_rows(function: Callable[[Any], Any]) -> Callable[[int], Program]:
        return lambda count: (jax.vmap(function), (rows(count),))

    def gradient(function: Callable[[Any], Any]) -> Callable[[int], Program]:
        return of_rows(jax.grad(function))

    norm = lambda row: jnp.sum((matrix @ row) ** 2)  # noqa: E731
    found = {
        "product, square, sum": of_rows(norm),
        "its gradient": gradient(norm),
        "product, relu, max": of_rows(lambda row: jnp.max(jax.nn.relu(matrix @ row))),
        "product of rows": of_rows(lambda row: jnp.dot(row, jnp.flip(row))),
        "softmax": of_rows(jax.nn.softmax),
        "variance": of_rows(jnp.var),
        "gradient of log-sum-exp": gradient(lambda row: jax.nn.logsumexp(matrix @ row)),
    }
    for rank in RANKS:
        found[f"multiply and sum, {rank} axes"] = functools.partial(_multiply_and_sum, rank)
    return found


def _multiply_and_sum(rank: int, rows: int) -> Program:
    shape = (rows, *(2 + i % 2 for i in range(rank - 1)))
    rng = generator(3, rank)
    a, b = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for _ in range(2))
    return lambda a, b: [jnp.sum(a * b, axis) for axis in range(1, rank)], (a, b)


def of_op(op: Op[..., Any, Any], case: Case, rows: int) -> Iterator[tuple[str, Program]]:
    """Forward with backward on a batch of ``rows`` examples, and one example a row under vmap."""
    static = functools.partial(op, **case.static)

    def pulled(args: tuple[Any, ...], batched: tuple[int, ...] | None = None) -> Program:
        subject = Subject(static, args, batched=batched)
        return subject.pull(static), (subject.arrays, subject.cotangents(4))

    batch = case.draw(SALT, np.float32, rows)
    yield f"{rows} examples", pulled(batch)
    if any(op.aux and i >= len(batch) - op.aux for i in case.batched):
        return
    one = tuple(x[:1] if i in case.batched else x for i, x in enumerate(batch))
    each = tuple(x[:, None] if i in case.batched else x for i, x in enumerate(batch))
    single, (_, u) = pulled(one)
    axes = [0 if i in case.batched else None for i, x in enumerate(each) if x is not None]
    cotangents = [jnp.broadcast_to(c, (rows, *c.shape)) for c in u]
    arrays = [x for x in each if x is not None]
    yield f"{rows} rows under vmap", (jax.vmap(single, (axes, 0)), (arrays, cotangents))


def numbers(program: Program) -> int:
    """How many there are in the inputs."""
    return sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(program[1]))


def against_steps(name: str, program: Program, *, guard: bool = False) -> list[Failure]:
    """The program compiled (as this library compiles its own, with ``guard``), against the program
    op by op; then equal calls for equal bits."""
    function, args = program
    jitted = jax.jit(function)
    compiled = guarded(jitted) if guard else jitted
    want = step_by_step(function, *args)
    got = compiled(*args)
    leaves, true = jax.tree.leaves(got), jax.tree.leaves(want)
    names = [f"result[{i}]" for i in range(len(leaves))]
    traced = jax.make_jaxpr(function)(*args)
    everything = trace.marks(traced, range(len(traced.jaxpr.invars)))
    eps = max(trace.narrowest(traced, everything), float(jnp.finfo(jnp.float32).eps))
    tolerance = Tolerance.of(eps, trace.longest_sum(traced.jaxpr))

    @functools.cache
    def noise() -> list[np.ndarray]:
        moved = [
            jax.tree.leaves(step_by_step(function, *args, eps=eps / 2, draw=draw))
            for draw in range(DRAWS)
        ]
        return [
            np.max([np.abs(widest(m[i]) - widest(w)) for m in moved], 0) for i, w in enumerate(true)
        ]

    failures = compare("compiler", names, leaves, true, tolerance, lambda i: noise()[i], cause="?")
    if failures:
        cured = jax.tree.leaves(jitted.lower(*args).compile(compiler_options=_cure())(*args))
        right = not compare("compiler", names, cured, true, tolerance, lambda i: noise()[i])
        text = jitted.lower(*args).compile().as_text() or ""
        return [_blamed(name, failure, right, text) for failure in failures]
    return _differ(name, compiled, args, leaves)


def _cure() -> dict[str, Any] | None:
    return dict(CURE) if jax.default_backend() == "cpu" and here() else None


def _blamed(name: str, failure: Failure, right: bool, text: str) -> Failure:
    known = " and ".join(fault.name for fault in suspects(text, here()))
    cure = f"; right with {FLAG}" if right else ""
    cause = f"the compiler, not the rule{f': {known}' if known else ''}{cure}"
    return dataclasses.replace(failure, where=f"{name}, {failure.where}", cause=cause)


def _differ(
    name: str, compiled: Callable[..., Any], args: tuple[Any, ...], first: list[Any]
) -> list[Failure]:
    end = time.perf_counter() + PATIENCE
    kept = [np.asarray(leaf) for leaf in first]
    for call in range(1, CALLS):
        again = [np.asarray(leaf) for leaf in jax.tree.leaves(compiled(*args))]
        for i, (a, b) in enumerate(zip(again, kept, strict=True)):
            if a.tobytes() != b.tobytes():
                return [
                    Failure(
                        "compiler",
                        f"{name}, result[{i}]",
                        f"call {call + 1} of a compiled program differs from the first by up to"
                        f" {np.abs(widest(a) - widest(b)).max():.3g}",
                        "the compiler, not the rule: equal calls give other bits",
                    )
                ]
        if time.perf_counter() > end:
            break
    return []
