"""A glance at a call, of a tenth of a check's time: is it worth a closer look, and why?"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.verify._fuzz.examples import Example
from jaxcnn.verify._report import in_words
from jaxcnn.verify._subject import Subject, generator, like, quick, widest

STEP = 1e-5  # of the largest input
# What is looked at: differences relative to the largest number, or to the sum of the terms
VALUE, SLOPE = 1e-9, 1e-5
ROUNDED = {"float32": 1e-4, "bfloat16": 5e-2}


def screen(f: Callable[..., Any], reference: Callable[..., Any] | None, example: Example) -> str:
    """What looks wrong, in words that are the same for the same fault; empty if nothing does.

    The value is compared with the reference's, the gradient of each input with a central
    difference along one random direction, and in a narrow dtype both with themselves in float64.
    One compilation each of the function and its reference's forward."""
    try:
        with jax.enable_x64(True), np.errstate(all="ignore"):
            return _screen(f, reference, example)
    except Exception as problem:
        return f"raised {type(problem).__name__}: {in_words(problem)[:20]}"


def _screen(f: Callable[..., Any], reference: Callable[..., Any] | None, example: Example) -> str:
    subject = Subject(f, example.args, argnums=example.argnums).astype(jnp.float64)
    run, u = quick(subject.pull(f)), subject.cotangents(0)
    value, gradient = run(subject.arrays, u)
    if reference is not None:
        wanted = quick(subject.primal(reference))(subject.arrays)
        if _differ(value, wanted, VALUE):
            return "value"
    for number, name in enumerate(subject.names):
        if not _fits(run, subject, number, value, widest(gradient[number]), u):
            return f"gradient of {name}"
    if example.dtype != "float64":
        narrow = subject.astype(example.dtype)
        drawn = narrow.cotangents(0)
        rounded = quick(narrow.pull(f))(narrow.arrays, drawn)
        wide = [like(c, full) for c, full in zip(drawn, u, strict=True)]
        exact = run(narrow.astype(jnp.float64).arrays, wide)
        if _differ(rounded, exact, ROUNDED[example.dtype]):
            return f"in {example.dtype}"
    return ""


def _fits(run: Any, subject: Subject, number: int, value: Any, gradient: Any, u: Any) -> bool:
    """Whether the slope along a random direction in one of the inputs is what the gradient says."""
    leaf = widest(subject.leaves[number])
    if gradient.shape != leaf.shape:
        return False
    direction = generator(number, 5).standard_normal(leaf.shape)
    h = STEP * max(float(np.abs(leaf).max(initial=0.0)), 1e-3)

    def at(t: float) -> list[np.ndarray]:
        leaves = [*subject.leaves]
        leaves[number] = like(leaf + t * direction, leaves[number])
        return [widest(y) for y in run(subject.put(leaves), u)[0]]

    pairs = list(zip(at(h), at(-h), [widest(c) for c in u], strict=True))
    numeric = sum(float(np.sum((up - down) * c)) for up, down, c in pairs) / (2 * h)
    terms = float(np.abs(gradient * direction).sum())
    size = sum(float(np.abs(widest(y) * widest(c)).sum()) for y, c in zip(value, u, strict=True))
    rounding = 8 * np.finfo(np.float64).eps * size / h
    gap = abs(float(np.sum(gradient * direction)) - numeric)
    return not gap > SLOPE * (terms + abs(numeric)) + rounding  # nan: the value says more


def _differ(found: Any, wanted: Any, allowed: float) -> bool:
    """Whether arrays differ, measured by the largest element of each."""
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        a, b = widest(got), widest(want)
        finite = np.isfinite(b)
        if a.shape != b.shape or not np.array_equal(np.isfinite(a), finite):
            return True
        size = np.abs(np.where(finite, b, 0)).max(initial=0.0)
        if np.abs(np.where(finite, a - b, 0)).max(initial=0.0) > allowed * size:
            return True
    return False
