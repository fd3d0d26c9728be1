"""One call that proves a function's gradient."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcnn.verify._checks import costs
from jaxcnn.verify._judge import known_names, prove
from jaxcnn.verify._numerics.domains import Domain, inside
from jaxcnn.verify._report import Report
from jaxcnn.verify._subject import Subject, as_arrays, as_here, differentiable


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
    ulps: float = 0.0,
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
        ulps: where it is not 0, each component of value and gradient in float32 may be off by so
            many units in its own last place, for cotangents that are 1 at one place alone: small
            components beside large ones must keep their digits. Few functions do that.
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
    asked = known_names(only, dtypes)
    left_out = known_names(skip, dtypes)
    own = {"argnums": argnums, "outputs": outputs, "rtol": rtol, "atol": atol}
    own |= {"domain": domain, "surrogate": surrogate, "budget": budget}
    own |= {"expect_rule": expect_rule or None, "limits": limits, "ulps": ulps}
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
            only=asked,
            skip=left_out,
            dtypes=dtypes,
            budget=budget,
            x64=x64,
            seed=seed,
            bits=bits,
            strict_kinks=strict_kinks,
            rtol=rtol,
            atol=atol,
            small=not linear,
            expected=(expect_rule,) if isinstance(expect_rule, str) else tuple(expect_rule),
            limits=limits,
            ulps=ulps,
        )


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
