"""One call that proves a function's gradient."""

import dataclasses
import functools
import inspect
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.verify._checks import (
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
from jaxcnn.verify._numerics.domains import PROJECTIONS, Domain, fits, inside
from jaxcnn.verify._probe import Broken, Probe, Skip, Undecided
from jaxcnn.verify._report import Failure, Report, Verdict, in_words
from jaxcnn.verify._subject import Subject, as_arrays, as_here, differentiable, widest

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


def check(
    f: Callable[..., Any],
    *args: Any,
    reference: Callable[..., Any] | None = None,
    seed: int = 0,
    only: str | Collection[str] = (),
    skip: str | Collection[str] = (),
    dtypes: Sequence[Any] = ("float32",),
    bits: float = 0.0,
    strict_kinks: bool = True,
    argnums: int | str | Sequence[int | str] | None = None,
    outputs: int | str | Sequence[int | str] | None = None,
    rtol: float = 0.0,
    atol: float = 0.0,
    domain: Domain | None = None,
    surrogate: Callable[..., Any] | None = None,
    linear: bool = True,
    budget: float | None = None,
    expect_rule: str | Collection[str] = (),
    limits: Mapping[str, float] | None = None,
    **settings: Any,
) -> Report:
    """Prove the gradient of ``f`` at ``args``: in float64 whatever the process is set to, and then
    in float32.

    Args:
        f: any JAX function of pytrees of arrays, wired with a hand-written rule or not.
            Floating-point and complex leaves are differentiated; integers, keys, strings and the
            like are carried along (Python floats too, where ``f`` does not take arrays for them).
        reference: the same function written plainly. Its ``jax.vjp`` is then the oracle,
            elementwise; without one, finite differences decide.
        seed: for the random cotangents and directions.
        only, skip: names of checks (``verify.CHECKS``) to make, or to leave out.
        dtypes: in which the rounding of value and gradient is judged against the float64 answer.
        bits: the relative difference that two equal calls may show (for sums without an order, as
            on a GPU).
        strict_kinks: at a kink the rule must give what the reference gives, not just anything
            between the one-sided slopes.
        argnums: which inputs are differentiated, by position or by path
            (``"[0]['kernel']"``); all floating ones, if not given. The others are constants.
        outputs: which outputs are looked at, in the same way.
        rtol, atol: for a function that is approximate by design (a solver that stops at 1e-6):
            value, gradient and slopes may be off by ``rtol`` of the largest element of an array,
            and by ``atol``, beyond what rounding explains.
        domain: where the function is right: "simplex" (rows that sum to 1), "symmetric"
            (matrices), "unit" (vectors), for each argument that is in it here; or a projection
            that takes and returns all arguments. All points and directions then stay inside.
        surrogate: the function whose derivative the rule is meant to have, where that is not
            ``f``'s own on purpose (straight-through estimators, spikes).
        linear: False for a backward that is not linear on purpose (gradient clipping); it is then
            judged at cotangents 2⁻¹⁰ as large.
        budget: seconds. Checks that tell most a second are made first; those that no time is
            left for are skipped, and say so. A check that has begun comes to its end.
        expect_rule: names of hand-written rules whose backward must run (``report.rules`` has
            all that ran).
        limits: what the gradient may cost at most, in the dtypes given: ``residual_bytes`` (kept
            beside inputs and outputs), ``temporary_bytes``, ``flops`` (of the compiled gradient),
            ``traces`` (of one compiled gradient, called twice), ``compilations`` (for a second
            equal call outside of ``jit``). ``{}`` measures all, for ``report.costs``.
        settings: handed to ``f`` and ``reference`` as keywords (``stride=2``). What both ``f`` and
            ``check`` know by that name must be bound to ``f`` by ``functools.partial``.

    Returns:
        A :class:`~jaxcnn.verify.Report`: ``report.ok``, ``print(report)``, ``report.reason``.

    Raises:
        ValueError: if no argument can be differentiated, the name of a check or of a limit is
            unknown, or the budget is no positive number.
        TypeError: for a setting that ``f`` and ``check`` both have.
        Exception: whatever ``f`` itself raises at ``args``.

    >>> import jax, jax.numpy as jnp
    >>> from jaxcnn import Op, verify
    >>> wrong = Op("cube", lambda x: (x**3, x), lambda x, dy: (2 * x**2 * dy,))
    >>> report = verify.check(wrong, jnp.array([1.0, 2.0]), reference=lambda x: x * x * x)
    >>> report.ok, report.reason
    (False, 'gradient: args[0]: every element is 0.666667 × expected: a constant factor is wrong or
    missing')
    """
    asked = known_names(only, seed_of=dtypes)
    left_out = known_names(skip, seed_of=dtypes)
    own = {"argnums": argnums, "outputs": outputs, "rtol": rtol, "atol": atol}
    own |= {"domain": domain, "surrogate": surrogate, "budget": budget}
    own |= {"expect_rule": expect_rule or None, "limits": limits}
    _refuse_doubt(f, args, {**own, "linear": None if linear else "no"})
    if budget is not None and not (isinstance(budget, int | float) and 0 < budget < math.inf):
        raise ValueError(f"check: `budget` must be a positive number of seconds, got {budget!r}")
    for name in limits or ():
        if name not in costs.LIMITS:
            raise ValueError(
                f"check: there is no limit {name!r}; choose from {', '.join(costs.LIMITS)}"
            )
    if settings:
        f = functools.partial(f, **settings)
        reference = reference and functools.partial(reference, **settings)
        surrogate = surrogate and functools.partial(surrogate, **settings)
    if domain is not None:
        f = inside(f, domain, args)
        reference = reference and inside(reference, domain, args)
        surrogate = surrogate and inside(surrogate, domain, args)
    if surrogate is not None:
        reference = _straight_through(reference or f, surrogate)
    if not linear:
        left_out = (*left_out, "linear in dy")
    real = jnp.result_type(float)
    x64 = real == jnp.float64
    with jax.enable_x64(True):
        for leaf in filter(differentiable, jax.tree.leaves(args)):
            real = jnp.promote_types(
                real, jnp.finfo(leaf.dtype).dtype
            )  # a Python float beside arrays is as wide as they
        exact = Subject(
            f,
            as_arrays(args, real),
            reference,
            argnums=_chosen(argnums),
            outputs=_chosen(outputs),
        )
        if any(isinstance(leaf, float) for leaf in jax.tree.leaves(args)) and not _runs(exact):
            # floats that the function does not take as arrays: settings
            exact = dataclasses.replace(exact, args=as_arrays(args, None))
    with jax.enable_x64(x64):  # as the user's process has them
        given = dataclasses.replace(exact, args=jax.tree.map(as_here, exact.args))
    with jax.enable_x64(True):
        return prove(
            given,
            exact,
            x64=x64,
            seed=seed,
            only=asked,
            skip=left_out,
            dtypes=dtypes,
            bits=bits,
            strict_kinks=strict_kinks,
            rtol=rtol,
            atol=atol,
            small=not linear,
            budget=budget,
            expected=(expect_rule,) if isinstance(expect_rule, str) else tuple(expect_rule),
            limits=limits,
        )


def prove(
    given: Subject,
    exact: Subject | None = None,
    *,
    x64: bool = True,
    seed: int = 0,
    only: Collection[str] = (),
    skip: Collection[str] = (),
    dtypes: Sequence[Any] = ("float32",),
    bits: float = 0.0,
    strict_kinks: bool = True,
    rtol: float = 0.0,
    atol: float = 0.0,
    small: bool = False,
    budget: float | None = None,
    expected: tuple[str, ...] = (),
    limits: Mapping[str, float] | None = None,
) -> Report:
    """:func:`check` for a :class:`Subject`, with x64 on: ``given`` as a process has it whose
    setting is ``x64``, and the same ``exact``, with all its digits."""
    if not given.leaves:
        chosen = "" if given.argnums is None else f" among argnums={given.argnums}"
        raise ValueError(
            f"check: no argument{chosen} holds a floating-point array, so there is no gradient to"
            f" prove; got {_shapes(given)}"
        )
    subject = _widest(given if exact is None else exact)
    probe = Probe(
        subject,
        given,
        seed,
        bits,
        strict_kinks,
        x64=x64,
        rtol=rtol,
        atol=atol,
        small=small,
        expected=expected,
        limits=limits,
    )
    runs = dict(CHECKS)
    for dtype in dict.fromkeys(
        [*dtypes, *(str(leaf.dtype) for leaf in given.leaves if leaf.dtype.itemsize < 4)]
    ):
        runs[f"in {jnp.dtype(dtype).name}"] = functools.partial(rounding.in_dtype, dtype=dtype)
    wanted = [
        name
        for name in runs
        if (name in only or not only)
        and name not in skip
        and (subject.reference is not None or name != "gradient")
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
        seed,
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


def _runs(subject: Subject) -> bool:
    try:
        jax.eval_shape(subject.primal(subject.f), subject.arrays)
    except Exception:
        return False
    return True


def _chosen(which: int | str | Sequence[int | str] | None) -> tuple[int | str, ...] | None:
    return (which,) if isinstance(which, int | str) else None if which is None else tuple(which)


def _straight_through(f: Callable[..., Any], surrogate: Callable[..., Any]) -> Callable[..., Any]:
    """The values of ``f`` with the derivatives of ``surrogate``."""

    def both(*args: Any) -> Any:
        def joined(y: Any, s: Any) -> Any:
            if not differentiable(y):
                return y
            return jax.lax.stop_gradient(y) + s - jax.lax.stop_gradient(s)

        return jax.tree.map(joined, f(*args), surrogate(*args))

    return both


def _refuse_doubt(f: Callable[..., Any], args: tuple[Any, ...], own: dict[str, Any]) -> None:
    """TypeError for a setting that was given, where ``f`` takes one of that name, too."""
    try:
        parameters = inspect.signature(f).parameters
        taken = inspect.signature(f).bind_partial(*args).arguments
    except (TypeError, ValueError):  # no signature to be had, or f's own error comes later
        return
    for name, value in own.items():
        if value not in (None, 0.0) and name in parameters and name not in taken:
            raise TypeError(
                f"check: `{name}` is a setting of verify.check and of the function; bind the"
                f" function's with functools.partial(f, {name}=…)"
            )


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


def known_names(names: str | Collection[str], seed_of: Sequence[Any]) -> tuple[str, ...]:
    """The names of checks, as a tuple; ValueError for one that there is not."""
    chosen = (names,) if isinstance(names, str) else tuple(names)
    known = [
        *CHECKS,
        *(f"in {jnp.dtype(d).name}" for d in ("float32", "bfloat16", "float16", *seed_of)),
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
