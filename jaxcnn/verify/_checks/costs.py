"""What a gradient runs and what it costs: the rules that ran, bytes kept and used, operations,
traces and compilations; each against what was declared."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxcnn._core import residuals
from jaxcnn.verify._numerics.marked import rules_run
from jaxcnn.verify._probe import Probe, Skip, Undecided
from jaxcnn.verify._report import Failure, in_words
from jaxcnn.verify._subject import Subject

COMPILED = "/jax/core/compile/backend_compile_duration"
LIMITS = {
    "residual_bytes": "bytes are kept for the backward, beside inputs and outputs",
    "temporary_bytes": "bytes are used by the compiled gradient besides inputs and outputs",
    "flops": "operations are in the compiled gradient, as XLA counts them",
    "traces": "times Python ran the function, for one compiled gradient that was called twice",
    "compilations": "programs were compiled for a second equal gradient, outside of jit",
}


def rules(probe: Probe) -> list[Failure]:
    """The hand-written rules run where they are differentiated, those that are declared above
    all."""
    if not probe.traceable:
        raise Skip("the function cannot be traced")
    probe.need_structure()
    primal = probe.subject.primal(probe.subject.f)
    try:
        ran = rules_run(lambda *leaves: primal(probe.subject.put([*leaves])), probe.subject.leaves)
    except Exception as problem:  # the count is a service; whether the rule is right, others say
        raise Undecided(f"they cannot be counted: {in_words(problem)}") from None
    probe.ran = ran
    if not ran and not probe.expected:
        raise Skip("no hand-written rule")
    counts = ", ".join(f"{name} {forward}/{back}" for name, (forward, back) in ran.items())
    probe.notes["rules"] = f"ran forward/back: {counts}"
    failures = []
    for name in probe.expected:
        forward, backward = ran.get(name, (0, 0))
        if backward:
            continue
        known = ", ".join(ran) or "none"
        cause = (
            "nothing that is differentiated depends on it: stop_gradient, an integer, or an output"
            " that is not looked at"
            if forward
            else f"the function does not call it (rules that it calls: {known})"
        )
        failures.append(Failure("rules", name, f"the backward of {name} did not run", cause))
    return failures


def cost(probe: Probe) -> list[Failure]:
    """The gradient keeps and computes no more than was declared."""
    if not probe.traceable:
        raise Skip("the function cannot be traced")
    probe.need_structure()
    with jax.enable_x64(probe.x64):
        found = _kept(probe.given)
        if probe.limits is not None:
            found |= _compiled(probe.given, probe.seed) | _again(probe.given, probe.seed)
    probe.costs = found
    probe.notes["cost"] = ", ".join(f"{name} {value:,.0f}" for name, value in found.items())
    return [
        Failure("cost", name, f"{found[name]:,.0f} {LIMITS[name]}, where {most:,.0f} are allowed")
        for name, most in (probe.limits or {}).items()
        if not found[name] <= most  # nan: the backend does not say
    ]


def _kept(subject: Subject) -> dict[str, float]:
    def forward(*leaves: Any) -> Any:
        f = lambda leaves: subject.primal(subject.f)(subject.put(leaves))  # noqa: E731
        return jax.vjp(f, list(leaves))

    return {"residual_bytes": float(residuals.size(residuals.trace(forward, *subject.leaves).own))}


def _compiled(subject: Subject, seed: int) -> dict[str, float]:
    u = subject.cotangents(seed, 1)
    program = jax.jit(subject.pull(subject.f)).lower(subject.arrays, u).compile()
    memory: Any = program.memory_analysis()
    counted: Any = program.cost_analysis()
    counted = counted[0] if isinstance(counted, list) and counted else counted
    return {
        "temporary_bytes": float(getattr(memory, "temp_size_in_bytes", np.nan)),
        "flops": float((counted or {}).get("flops", np.nan)),
    }


def _again(subject: Subject, seed: int) -> dict[str, float]:
    """What equal calls are traced and compiled again for."""
    u, calls, compiled = subject.cotangents(seed, 1), [], []

    def counted(*args: Any) -> Any:
        calls.append(1)
        return subject.f(*args)

    run = jax.jit(subject.pull(counted))
    for _ in range(2):
        jax.block_until_ready(run(subject.arrays, u))
    traces, plain = len(calls), subject.pull(subject.f)
    listen: Callable[..., None] = lambda event, *_, **__: compiled.append(event)  # noqa: E731
    jax.block_until_ready(plain(subject.arrays, u))
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.block_until_ready(plain(subject.arrays, u))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return {"traces": float(traces), "compilations": float(compiled.count(COMPILED))}
