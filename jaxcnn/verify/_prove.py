"""The proof of an op: each of its cases through the checks, and each declared kink by its
convention."""

import functools
import math
import time
from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn._core.case import Case, Kink
from jaxcnn._core.op import Op
from jaxcnn.verify._judge import prove
from jaxcnn.verify._numerics.comparison import Tolerance, compare
from jaxcnn.verify._report import Failure, Report, Verdict
from jaxcnn.verify._subject import Subject

ON_MESHES = ("Auto mesh", "Explicit mesh")
ORACLE = ("value", "gradient")


def subject_of(op: Op, case: Case, *, seed: int = 0, batch: int | None = None) -> Subject:
    """A case in float64, to be used with x64 on."""
    reference = op.reference and functools.partial(op.reference, **case.static)
    return Subject(
        functools.partial(op, **case.static),
        case.draw(seed, "float64", batch),
        reference,
        case.batched,
    )


def prove_case(
    op: Op,
    case: Case,
    *,
    seed: int = 0,
    dtypes: Sequence[Any] = ("float32", "bfloat16"),
    only: Collection[str] = (),
) -> Report:
    """All checks (or ``only`` some) on one case; on meshes with a batch that the devices divide.

    >>> from jaxcnn import ops
    >>> prove_case(ops.tanh, ops.tanh.cases[0], only=("value", "gradient")).ok
    True
    """
    with jax.enable_x64(True):
        reports = []
        wanted = [name for name in only if name not in ON_MESHES]
        if wanted or not only:
            reports.append(
                prove(
                    subject_of(op, case, seed=seed),
                    seed=seed,
                    dtypes=dtypes,
                    only=wanted,
                    skip=ON_MESHES,
                    ulps=case.ulps,
                )
            )
        on_meshes = [name for name in ON_MESHES if name in only or not only]
        if on_meshes and jax.device_count() > 1:
            batch = jax.device_count()
            reports.append(
                prove(
                    subject_of(op, case, seed=seed, batch=batch),
                    seed=seed,
                    dtypes=(),
                    only=on_meshes,
                )
            )
    verdicts = tuple(verdict for report in reports for verdict in report.verdicts)
    return Report(f"{op.name}: {case.label}", reports[0].inputs, reports[0].dtype, verdicts, seed)


def prove_kinks(op: Op, *, seed: int = 0) -> Report:
    """At each declared kink: the declared value, and that lies between the one-sided slopes."""
    with jax.enable_x64(True):
        verdicts = tuple(_kink(op, kink) for kink in op.kinks)
    return Report(
        f"{op.name}: kinks",
        {kink.label: str(np.shape(kink.inputs[0])) for kink in op.kinks},
        "float64",
        verdicts,
        seed,
    )


def _kink(op: Op, kink: Kink) -> Verdict:
    start = time.perf_counter()
    x, *rest = [jnp.asarray(value, "float64") for value in kink.inputs]
    total = jax.jit(lambda x: jnp.sum(op(x, *rest, **kink.static)))
    got = np.asarray(jax.grad(total)(x))
    failures = compare(
        "kinks",
        ["args[0]"],
        [got],
        [np.asarray(kink.gradient, np.float64)],
        Tolerance.of(float(np.finfo(np.float64).eps)),
        cause="not what the op declares here",
    )
    failures += _between(total, x, got)
    return Verdict(
        kink.label,
        "the declared convention, between the one-sided slopes",
        "FAILED" if failures else "holds",
        tuple(failures),
        seconds=time.perf_counter() - start,
    )


def _between(total: Any, x: Any, got: np.ndarray, step: float = 1e-4) -> list[Failure]:
    base = float(total(x))
    for index in np.ndindex(x.shape):
        bump = np.zeros(x.shape)
        bump[index] = step
        right, left = (float(total(x + bump)) - base) / step, (base - float(total(x - bump))) / step
        low, high = min(left, right), max(left, right)
        slack = 1e-3 * max(1.0, abs(low), abs(high)) if math.isfinite(low + high) else math.inf
        if not low - slack <= got[index] <= high + slack:
            return [
                Failure(
                    "kinks",
                    f"args[0]{list(index)}",
                    f"{got[index]:.6g} lies outside the one-sided slopes {left:.6g} and"
                    f" {right:.6g}",
                )
            ]
    return []
