"""The checks by name, and the loop that makes them on one function at one point."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.verify._checks import (
    componentwise,
    costs,
    elsewhere,
    finite_differences,
    first_order,
    kinks,
    rounding,
    second_order,
    sharding,
    structure,
    transforms,
    values,
)
from jaxcnn.verify._numerics.domains import PROJECTIONS, fits, inside
from jaxcnn.verify._probe import Broken, Probe, Skip, Undecided
from jaxcnn.verify._report import Failure, Report, Verdict, in_words
from jaxcnn.verify._subject import Subject, widest

# What a rule that is right on a domain alone may fail, as their steps leave it
OFF_DOMAIN = {"gradient", "finite differences", "adjoint", "another point", "reverse over reverse"}
# What is checked first where time is short: it tells most a second
TELLING = {
    "captured tracers", "structure", "NaN and infinity", "value", "linear in dy", "gradient",
    "finite differences", "kinks", "adjoint", "another point", "in float32",
}  # fmt: skip
CHECKS: dict[str, Callable[[Probe], list[Failure]]] = {
    "captured tracers": structure.captured,
    "structure": structure.structure,
    "rules": costs.rules,
    "cost": costs.cost,
    "determinism": values.determinism,
    "NaN and infinity": values.not_finite,
    "value": values.value,
    "jit": values.jit,
    "linear in dy": first_order.linear,
    "gradient": first_order.gradient,
    "finite differences": finite_differences.against_differences,
    "kinks": kinks.kinks,
    "adjoint": first_order.adjoint,
    "stale residuals": structure.stale,
    "another point": elsewhere.elsewhere,
    "vmap": transforms.vmap,
    "scan": transforms.scan,
    "checkpoint": transforms.checkpoint,
    "shard_map": sharding.mapped,
    "Auto mesh": sharding.auto,
    "Explicit mesh": sharding.explicit,
    "forward mode": first_order.forward_mode,
    "reverse over reverse": second_order.reverse_over_reverse,
    "forward over reverse": second_order.forward_over_reverse,
    "symmetry": second_order.symmetry,
}


def prove(
    given: Subject,
    exact: Subject | None = None,
    *,
    only: Collection[str] = (),
    skip: Collection[str] = (),
    dtypes: Sequence[Any] = ("float32",),
    budget: float | None = None,
    **settings: Any,
) -> Report:
    """:func:`check` for a :class:`Subject`, with x64 on: ``given`` as the user's process has it,
    and the same ``exact``, with all its digits. The settings are those of a :class:`Probe`."""
    if not given.leaves:
        chosen = "" if given.argnums is None else f" among argnums={given.argnums}"
        raise ValueError(
            f"check: no argument{chosen} holds a floating-point array, so there is no gradient to"
            f" prove; got {_shapes(given)}"
        )
    subject = _widest(given if exact is None else exact)
    probe = Probe(subject, given, **settings)
    runs = dict(CHECKS)
    if probe.ulps or "componentwise" in only:
        runs["componentwise"] = componentwise.componentwise
    for dtype in dict.fromkeys(
        [*dtypes, *(str(leaf.dtype) for leaf in given.leaves if leaf.dtype.itemsize < 4)]
    ):
        runs[f"in {jnp.dtype(dtype).name}"] = functools.partial(rounding.in_dtype, dtype=dtype)
    wanted = [
        name
        for name in runs
        if (name in only or not only)
        and name not in skip
        and (subject.reference is not None or name != "gradient" or name in only)
    ]
    verdicts: dict[str, Verdict] = {}
    end = math.inf if budget is None else time.perf_counter() + budget
    for name in wanted if budget is None else sorted(wanted, key=lambda n: n not in TELLING):
        run = runs[name]
        if time.perf_counter() > end:
            note = f"budget: {budget:g} s are used up"
            verdicts[name] = Verdict(name, _why(run), "skipped", note=note)
            continue
        verdict = _run(probe, name, run)
        if verdict.status == "FAILED" and name in OFF_DOMAIN:
            verdict = _inside_a_domain(probe, run, verdict)
        if verdict.status == "FAILED":
            probe.failed.add(name)
        verdicts[name] = verdict
    described = values.describe(subject.f)
    return Report(
        described,
        _shapes(given),
        str(subject.leaves[0].dtype),
        tuple(verdicts[n] for n in wanted),
        probe.seed,
        probe.ran,
        probe.costs,
    )


def _why(run: Callable[[Probe], list[Failure]]) -> str:
    """What a check proves, in a line."""
    base = run.func if isinstance(run, functools.partial) else run
    return (base.__doc__ or "").splitlines()[0]


def _inside_a_domain(
    probe: Probe, run: Callable[[Probe], list[Failure]], found: Verdict
) -> Verdict:
    """The verdict, undecided where the failure vanishes at the nearest point of a domain that the
    inputs lie in (as float32 has them, rows that sum to 1 do so to 1e-8 only), or, of symmetric
    matrices, as all steps keep them symmetric: the rule may be meant for that alone."""
    subject = probe.subject
    for domain, project in PROJECTIONS.items():
        if not any(domain in fits(leaf) for leaf in subject.leaves):
            continue
        nearest = [project(leaf) if domain in fits(leaf) else leaf for leaf in subject.leaves]
        tries = [dataclasses.replace(subject, args=subject.rebuild(subject.put(nearest)))]
        if domain == "symmetric":
            f, reference = (
                function and inside(function, domain, subject.args)
                for function in (subject.f, subject.reference)
            )
            tries.append(dataclasses.replace(subject, f=f, reference=reference))  # type: ignore[arg-type]
        for kept in tries:
            other = Probe(kept, kept, probe.seed, probe.bits, probe.strict_kinks, rtol=probe.rtol)
            if _run(other, found.name, run).status == "holds" and any(
                widest(g).any() for g in other.compiled[1]
            ):
                note = (
                    f"right where the inputs stay {domain}, and not elsewhere:"
                    f" check(…, domain={domain!r}) judges it there"
                )
                return dataclasses.replace(found, status="undecided", failures=(), note=note)
    return found


def _run(probe: Probe, name: str, run: Callable[[Probe], list[Failure]]) -> Verdict:
    start = time.perf_counter()
    why = _why(run)

    def verdict(status: Any, failures: Sequence[Failure] = (), note: str = "") -> Verdict:
        worst, allowed = probe.worst.get(name, (float("nan"), float("nan")))
        return Verdict(
            name,
            why,
            status,
            tuple(failures),
            note or probe.notes.get(name, ""),
            worst,
            allowed,
            time.perf_counter() - start,
        )

    try:
        with np.errstate(all="ignore"):  # infinities and nan are findings, and compared as such
            found = run(probe)
    except Skip as reason:
        return verdict("skipped", note=str(reason))
    except Broken:
        return verdict("skipped", note="what it needs has failed already")
    except Undecided as reason:
        return verdict("undecided", note=str(reason))
    except Exception as problem:  # a rule that raises is a wrong rule: say where
        found = [Failure(name, "f", f"raised {in_words(problem, 400)}")]
    code = (
        f"verify.check({values.describe(probe.subject.f)},"
        f" *args{', reference=reference' if probe.subject.reference else ''}, seed={probe.seed},"
        f" only={name!r})"
    )
    found = [dataclasses.replace(failure, code=failure.code or code) for failure in found]
    return verdict("FAILED" if found else "holds", found)


def _widest(given: Subject) -> Subject:
    """The subject in float64, or, where it cannot be run in that, in the dtypes that were given.

    What the function makes inside has 64 bits here, integers too; those that are its arguments are
    made as wide where it does not run otherwise."""
    raised: Exception | None = None
    wide = given.astype(jnp.float64)
    for subject in (wide, wide.with_long_integers(), given):
        try:
            jax.eval_shape(subject.primal(subject.f), subject.arrays)
            if subject.reference is not None:
                jax.eval_shape(subject.primal(subject.reference), subject.arrays)
            return subject
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
            return subject  # runs, but not traced: the check of jit says so
        except Exception as problem:
            raised = problem
    assert raised is not None
    raised.add_note(
        "check: the function (or its reference) itself raised this at the arguments given, before"
        " any derivative was taken"
    )
    raise raised


def known_names(names: str | Collection[str], dtypes: Sequence[Any]) -> tuple[str, ...]:
    """The names of checks, as a tuple; ValueError for one that there is not."""
    chosen = (names,) if isinstance(names, str) else tuple(names)
    known = [
        *CHECKS,
        "componentwise",
        *(f"in {jnp.dtype(d).name}" for d in ("float32", "bfloat16", "float16", *dtypes)),
    ]
    for name in chosen:
        if name not in known:
            raise ValueError(f"check: there is no check {name!r}; choose from {', '.join(known)}")
    return chosen


def _shapes(subject: Subject) -> dict[str, str]:
    paths, _ = jax.tree_util.tree_flatten_with_path(subject.args)
    return {
        f"args{jax.tree_util.keystr(path)}": (
            f"{leaf.dtype}{list(np.shape(leaf))}" if hasattr(leaf, "dtype") else repr(leaf)[:40]
        )
        for path, leaf in paths
    }
