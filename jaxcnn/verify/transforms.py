"""Does the rule keep its word under JAX's transformations? Each must give the plain answer."""

import itertools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn.verify.report import Failure, compare
from jaxcnn.verify.subject import Arrays, Subject

CLOSE = 1e-11


def jit(subject: Subject, *, seed: int = 0, tolerance: float = CLOSE) -> list[Failure]:
    """Eager equals compiled, value and gradient."""
    cotangents = subject.cotangents(seed + 1)
    pull = subject.pull(subject.f)
    eager, compiled = pull(subject.leaves, cotangents), jax.jit(pull)(subject.leaves, cotangents)
    return _both("jit", subject, compiled, eager, tolerance)


def scan_and_checkpoint(subject: Subject, *, seed: int = 0, tolerance: float = CLOSE) -> list[Failure]:
    """Inside ``lax.scan``, and recomputed by ``jax.checkpoint``."""
    cotangents = subject.cotangents(seed + 1)
    pull = subject.pull(subject.f)
    plain = jax.jit(pull)(subject.leaves, cotangents)
    rematerialised = jax.jit(subject.pull(jax.checkpoint(subject.f)))(subject.leaves, cotangents)
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (subject.leaves, cotangents))
    _, looped = jax.jit(lambda xs: lax.scan(lambda _, x: (None, pull(*x)), None, xs))(twice)
    last = jax.tree.map(lambda leaf: leaf[1], looped)
    return [
        *_both("checkpoint", subject, rematerialised, plain, tolerance),
        *_both("scan", subject, last, plain, tolerance),
    ]


def vmap(
    subject: Subject, *, seed: int = 0, every: bool = False, size: int = 3, tolerance: float = CLOSE
) -> list[Failure]:
    """A map over some inputs equals a loop, value and gradient: over each input alone and all together, or over ``every`` choice."""
    leaves, tree = jax.tree.flatten(subject.args)
    mappable = range(len(leaves))
    choices: Iterable[tuple[int, ...]]
    if every:
        choices = itertools.chain.from_iterable(itertools.combinations(mappable, r) for r in range(1, len(leaves) + 1))
    else:
        choices = {*((i,) for i in mappable), tuple(mappable)}
    cotangents = [jnp.stack([c] * size) * jnp.arange(1.0, size + 1).reshape(-1, *[1] * c.ndim).astype(c.dtype)
                  for c in subject.cotangents(seed + 1)]  # fmt: skip
    failures = []
    for chosen in sorted(choices):
        axes = [0 if i in chosen else None for i in range(len(leaves))]
        stacked = [_variants(leaf, size, seed + i) if i in chosen else leaf for i, leaf in enumerate(leaves)]

        def pull(all_leaves: Arrays, cotangents: Arrays) -> tuple[Arrays, Arrays]:
            point = Subject(subject.f, tree.unflatten(all_leaves))
            return point.pull(point.f)(point.leaves, cotangents)

        mapped = jax.jit(jax.vmap(pull, in_axes=(axes, 0)))(stacked, cotangents)
        one = jax.jit(pull)
        loop = [one([s[k] if i in chosen else s for i, s in enumerate(stacked)], [c[k] for c in cotangents])
                for k in range(size)]  # fmt: skip
        expected = jax.tree.map(lambda *parts: jnp.stack(parts), *loop)
        failures += _both(f"vmap over {chosen}", subject, mapped, expected, tolerance)
    return failures


def _variants(leaf: Any, size: int, seed: int) -> Any:
    """``leaf`` and others like it, stacked."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.split(leaf, size)
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.stack([jnp.roll(leaf, i) for i in range(size)])
    return jnp.stack([leaf * (1 + i / 4) for i in range(size)])


def _both(check: str, subject: Subject, got: Any, want: Any, tolerance: float) -> list[Failure]:
    outputs = [f"output {i}" for i in range(len(want[0]))]
    return [
        *compare(f"{check}, value", outputs, got[0], want[0], tolerance),
        *compare(f"{check}, gradient", subject.names, got[1], want[1], tolerance),
    ]
