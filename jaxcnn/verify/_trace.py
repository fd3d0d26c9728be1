"""What a traced program tells without running it: what depends on what, in which precision it
computes, how long its sums are, what its rules captured."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxcnn._core.captures import reach

Marked = set[Any]


def flow(jaxpr: Jaxpr, marked: Marked, passes: Callable[[Any], bool] = lambda var: True) -> Marked:
    """``marked`` and every variable, inner programs included, that depends on it by way of
    variables that ``passes``.

    Where an inner program's variables cannot be distinguished, all of them count.
    """
    before = -1
    while before != len(marked):
        before = len(marked)
        for eqn in jaxpr.eqns:
            touched = [id(v) in marked for v in eqn.invars]
            stopped = passes is carries_derivative and eqn.primitive.name == "stop_gradient"
            if stopped or not any(touched):
                continue
            outer = [True] * len(eqn.outvars)
            for inner in inner_programs(eqn):
                aligned = len(inner.invars) == len(eqn.invars)
                marked |= {id(v) for i, v in enumerate(inner.invars) if not aligned or touched[i]}
                flow(inner, marked, passes)
                if aligned and len(inner.outvars) == len(eqn.outvars):
                    outer = [id(v) in marked for v in inner.outvars]
                    if eqn.primitive.name == "scan":
                        marked |= {
                            id(v)
                            for v, reached in zip(inner.invars[carried(eqn)], outer, strict=False)
                            if reached
                        }
            marked |= {
                id(v)
                for v, reached in zip(eqn.outvars, outer, strict=True)
                if reached and passes(v)
            }
    return marked


def carried(eqn: Any) -> slice:
    """Which inputs of a scan go round: those before its slices, as many as it has outputs that are
    not stacked.

    >>> import jax, jax.numpy as jnp
    >>> f = lambda a, c, x: jax.lax.scan(lambda c, x: (a * c, x), c, x)
    >>> program = jax.make_jaxpr(f)(2.0, 1.0, jnp.ones(3))
    >>> carried(program.eqns[-1])
    slice(1, 2, None)
    """
    (inner,) = inner_programs(eqn)
    rank: Callable[[Any], int] = lambda var: len(var.aval.shape)  # noqa: E731
    pairs = (eqn.invars, inner.invars), (eqn.outvars, inner.outvars)
    gains = [[rank(outer) - rank(own) for outer, own in zip(*pair, strict=True)] for pair in pairs]
    end, count = gains[0].count(0), gains[1].count(0)
    return slice(end - count, end)


def inner_programs(eqn: Any) -> Iterator[Jaxpr]:
    """The programs that an equation runs."""
    for value in eqn.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, Jaxpr):
                yield item


def equations(jaxpr: Jaxpr, times: int = 1) -> Iterator[tuple[Any, int]]:
    """Every equation, inner ones included, with how often loops of known length run it."""
    for eqn in jaxpr.eqns:
        yield eqn, times
        for inner in inner_programs(eqn):
            yield from equations(inner, times * eqn.params.get("length", 1))


def calls_the_host(closed: ClosedJaxpr) -> bool:
    """Whether anything in the program runs Python."""
    return any("callback" in eqn.primitive.name for eqn, _ in equations(closed.jaxpr))


def longest_sum(jaxpr: Jaxpr) -> int:
    """The largest number of terms that are added into one element."""
    return max((times * _terms(eqn) for eqn, times in equations(jaxpr)), default=1)


def _terms(eqn: Any) -> int:
    shape: Any = getattr(eqn.invars[0].aval, "shape", ()) if eqn.invars else ()
    name, params = eqn.primitive.name, eqn.params
    if name in ("reduce_sum", "reduce_prod", "reduce_window_sum") and "axes" in params:
        return math.prod(shape[a] for a in params["axes"])
    if name == "dot_general":
        return math.prod(shape[a] for a in params["dimension_numbers"][0][0])
    if name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape
        return math.prod(kernel) // max(1, kernel[params["dimension_numbers"].rhs_spec[0]])
    if name.startswith("cum") and "axis" in params:
        return shape[params["axis"]]
    if name == "reduce_window_sum":
        return math.prod(params["window_dimensions"])
    if name.startswith("scatter"):
        return math.prod(eqn.invars[2].aval.shape)
    return 1


def narrowest(closed: ClosedJaxpr, dependent: Marked) -> float:
    """The largest machine epsilon among the floating-point results that depend on the inputs."""
    found = [
        float(jnp.finfo(var.aval.dtype).eps)
        for eqn, _ in equations(closed.jaxpr)
        for var in eqn.outvars
        if id(var) in dependent
        and jnp.issubdtype(getattr(var.aval, "dtype", jnp.int32), jnp.inexact)
    ]
    return max(found, default=0.0)


def marks(
    closed: ClosedJaxpr, which: Any, passes: Callable[[Any], bool] = lambda var: True
) -> Marked:
    """What depends on the inputs at the places ``which``."""
    return flow(closed.jaxpr, {id(closed.jaxpr.invars[i]) for i in which}, passes)


def carries_derivative(var: Any) -> bool:
    """Integers and booleans hand no derivative on."""
    return jnp.issubdtype(getattr(var.aval, "dtype", jnp.int32), jnp.inexact)


def captures(closed: ClosedJaxpr, dependent: Marked, smooth: Marked) -> list[tuple[str, str, str]]:
    """(rule, variable, shape) for every array that a hand-written rule reads past its residuals.

    A backward may read nothing that depends on the inputs; a forward nothing through which a
    derivative would have to flow. Rules inside of another rule's forward have no say: their
    backward never runs."""
    found = []
    for eqn in _rules(closed.jaxpr):
        rule = name_of(eqn)
        held = _held(getattr(eqn.params.get("bwd"), "f", None), dependent)
        if not held and any(id(v) in smooth for v in eqn.invars[: eqn.params.get("num_consts", 0)]):
            thunk = getattr(eqn.params.get("fwd_jaxpr_thunk"), "f", None)
            wrapped = [value for name, value in reach(thunk) if name == "fwd"] if thunk else []
            held = _held(getattr(wrapped[0], "f", None) if wrapped else None, smooth) or {
                "?": "an array"
            }
        found += [(rule, f"`{name}`", shape) for name, shape in held.items()]
    return found


def backwards(closed: ClosedJaxpr) -> Iterator[Any]:
    """The backward of each hand-written rule, as it was given to JAX."""
    for eqn in _rules(closed.jaxpr):
        function = getattr(eqn.params.get("bwd"), "f", None)
        if function is not None:
            yield function


def _rules(jaxpr: Jaxpr) -> Iterator[Any]:
    """The calls of hand-written rules, without those inside of another's forward."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "custom_vjp_call":
            yield eqn
        else:
            for inner in inner_programs(eqn):
                yield from _rules(inner)


def _held(function: Any, among: Marked) -> dict[str, str]:
    """The traced arrays that a function holds by closure, by the name of the variable."""
    return {
        name: str(leaf.aval.str_short())
        for name, value in (reach(function) if function is not None else ())
        for leaf in jax.tree.leaves(value)
        if isinstance(leaf, Tracer) and id(getattr(leaf, "val", None)) in among
    }


def name_of(eqn: Any) -> str:
    """What the function is called that a hand-written rule belongs to."""
    debug = getattr(eqn.params["call_jaxpr"].jaxpr, "debug_info", None)
    return str(getattr(debug, "func_name", "custom_vjp"))
