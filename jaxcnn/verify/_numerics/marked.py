"""Which hand-written rules does a derivative run, and how often? Mark what each rule gives out, and
count the marks that come back.

A mark is an identity that a traced program shows by name. Its transpose is the same mark on the
cotangent: it stands in the backward exactly where the rule's own backward is run.

>>> import jax.numpy as jnp
>>> from jaxcnn import ops
>>> rules_run(lambda x: ops.relu(ops.relu(x)) + jax.lax.stop_gradient(ops.tanh(x)), [jnp.ones(3)])
{'relu': (2, 2), 'tanh': (1, 0)}
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Primitive
from jax.interpreters import ad, batching

from jaxcnn.verify import _trace as trace
from jaxcnn.verify._numerics.shaken import bind

Run = tuple[int, int]  # forward, backward
INLINE = {"checkpoint", "closed_call", "jit", "pjit", "remat", "remat2"}
MARKED = {"scan", "while", "cond"}
RULES = {"custom_vjp_call", "custom_jvp_call"}

mark = Primitive("mark")
mark.def_abstract_eval(lambda x, **_: x)
ad.deflinear2(mark, lambda ct, _, **at: [mark.bind(ct, **{**at, "way": "backward"})])
batching.defvectorized(mark)


def rules_run(f: Callable[..., Any], args: Sequence[Any]) -> dict[str, Run]:
    """How often each rule runs forward and backward where all outputs of ``f`` are differentiated
    in ``args``, loops of known length counted as often as they go round. Rules inside of another
    rule's forward have no say, and are not counted.

    Raises NotImplementedError for rules inside of what cannot be marked (``shard_map``)."""
    program = jax.make_jaxpr(f)(*args)
    names: list[str] = []

    def pulled(*args: Any) -> Any:
        outputs, pull = jax.vjp(lambda *a: _run(program.jaxpr, program.consts, a, names), *args)
        return outputs, pull([jnp.ones_like(y) for y in outputs])

    seen: Counter[tuple[int, int, str]] = Counter()
    for eqn, times in trace.equations(jax.make_jaxpr(pulled)(*args).jaxpr):
        if eqn.primitive is mark:
            seen[eqn.params["rule"], eqn.params["place"], eqn.params["way"]] += times
    found: dict[str, Run] = {}
    for number, name in enumerate(names):  # a rule has run as often as any of its outputs shows
        forward, backward = (
            max(
                (n for (rule, _, way), n in seen.items() if (rule, way) == (number, which)),
                default=0,
            )
            for which in ("forward", "backward")
        )
        before = found.get(name, (0, 0))
        found[name] = before[0] + forward, before[1] + backward
    return found


def _run(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], names: list[str]) -> list[Any]:
    """The program, with what each rule gives out marked; ``names`` takes the rules as they are
    met."""
    values: dict[Any, Any] = dict(
        zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True)
    )
    read = lambda v: v.val if isinstance(v, Literal) else values[v]  # noqa: E731
    for eqn in jaxpr.eqns:
        inputs, name = [read(v) for v in eqn.invars], eqn.primitive.name
        inner = next(trace.inner_programs(eqn), None)
        if name in INLINE and inner is not None:
            outputs = _run(inner, _consts(eqn), inputs, names)
        else:
            outputs = bind(_with_marks(eqn, names), inputs)
            outputs = outputs if eqn.primitive.multiple_results else [outputs]
        if name == "custom_vjp_call":
            at = {"rule": len(names), "way": "forward"}
            names.append(trace.name_of(eqn))
            outputs = [
                mark.bind(y, place=place, **at) if trace.carries_derivative(var) else y
                for place, (y, var) in enumerate(zip(outputs, eqn.outvars, strict=True))
            ]
        values.update(zip(eqn.outvars, outputs, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _consts(eqn: Any) -> Sequence[Any]:
    closed = (p for p in eqn.params.values() if isinstance(p, ClosedJaxpr))
    return next((c.consts for c in closed), ())


def _with_marks(eqn: Any, names: list[str]) -> Any:
    """The equation, with marks in the programs that it runs again and again, or one of several."""
    name = eqn.primitive.name
    if name not in MARKED:
        if name not in RULES and any(
            inner.primitive.name == "custom_vjp_call"
            for program in trace.inner_programs(eqn)
            for inner, _ in trace.equations(program)
        ):
            raise NotImplementedError(f"rules inside of {name}")
        return eqn

    def marked(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(marked(v) for v in value)
        if not isinstance(value, ClosedJaxpr):
            return value
        shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in value.jaxpr.invars]
        return jax.make_jaxpr(lambda *a: _run(value.jaxpr, value.consts, a, names))(*shapes)

    return eqn.replace(params={key: marked(value) for key, value in eqn.params.items()})
