"""Does the rule hold on several devices? Inside ``shard_map``, and on Auto and Explicit meshes,
each against one device.

Needs a process with several devices; simulated ones will do
(``jax.config.update("jax_num_cpu_devices", 8)`` before anything runs)."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxcnn.verify import _trace as trace
from jaxcnn.verify._numerics.comparison import compare
from jaxcnn.verify._probe import Broken, Probe, Skip
from jaxcnn.verify._report import Failure, in_words
from jaxcnn.verify._subject import (
    Arrays,
    Subject,
    differentiable,
    is_array,
    quick,
    stack,
    variant,
    widest,
)

AXIS = "data"


def mapped(probe: Probe) -> list[Failure]:
    """In ``shard_map`` each device has inputs of its own and shares the others: shared inputs get
    the sum of the devices' cotangents."""
    count = _devices(probe)
    own = _own(probe.subject)
    stacked = [
        stack([variant(x, k % 8) for k in range(count)]) if o else x
        for x, o in zip(probe.subject.arrays, own, strict=True)
    ]
    cotangents = [stack([c] * count) for c in probe.u]
    pull = probe.subject.pull(probe.subject.f)
    own_leaves = [own[i] for i in probe.subject.places]

    def local(arrays: Arrays, cotangents: Arrays) -> tuple[Arrays, Arrays]:
        mine = [x[0] if o else x for x, o in zip(arrays, own, strict=True)]
        value, gradient = pull(mine, [c[0] for c in cotangents])
        return [v[None] for v in value], [
            g[None] if o else g for g, o in zip(gradient, own_leaves, strict=True)
        ]

    specs = [PartitionSpec(AXIS) if o else PartitionSpec() for o in own]
    along = [PartitionSpec(AXIS)] * len(cotangents)
    mesh = jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,))
    out = (along, [PartitionSpec(AXIS) if o else PartitionSpec() for o in own_leaves])

    def everywhere(body: Any) -> Any:
        return quick(jax.shard_map(body, mesh=mesh, in_specs=(specs, along), out_specs=out))(
            stacked, cotangents
        )

    value, gradient = _tried(
        probe,
        lambda: everywhere(local),
        probe.subject.reference and (lambda: everywhere(_local(probe, own, own_leaves))),
    )
    loop = [
        probe.f(
            [x[k] if o else x for x, o in zip(stacked, own, strict=True)],
            [c[k] for c in cotangents],
        )
        for k in range(count)
    ]
    values, gradients = (
        [np.stack([widest(part[side][i]) for part in loop]) for i in range(len(loop[0][side]))]
        for side in (0, 1)
    )
    summed = [g if o else g.sum(0) for g, o in zip(gradients, own_leaves, strict=True)]
    return _same("shard_map", probe, (value, gradient), (values, summed))


def _local(probe: Probe, own: list[bool], own_leaves: list[bool]) -> Any:
    assert probe.subject.reference is not None
    pull = probe.subject.pull(probe.subject.reference)

    def local(arrays: Arrays, cotangents: Arrays) -> tuple[Arrays, Arrays]:
        value, gradient = pull(
            [x[0] if o else x for x, o in zip(arrays, own, strict=True)], [c[0] for c in cotangents]
        )
        return [v[None] for v in value], [
            g[None] if o else g for g, o in zip(gradient, own_leaves, strict=True)
        ]

    return local


def auto(probe: Probe) -> list[Failure]:
    """On a mesh whose axis is Auto: XLA divides the work."""
    return _on_mesh(probe, AxisType.Auto)


def explicit(probe: Probe) -> list[Failure]:
    """On a mesh whose axis is Explicit: shardings are part of the types."""
    return _on_mesh(probe, AxisType.Explicit)


def _on_mesh(probe: Probe, axis_type: AxisType) -> list[Failure]:
    count = _devices(probe)
    mesh = jax.make_mesh((count,), (AXIS,), axis_types=(axis_type,))
    subject = probe.subject
    along = _along(subject, count)
    if not any(along):
        raise Skip(f"no input has a leading axis that {count} devices divide")
    if trace.calls_the_host(jax.make_jaxpr(subject.pull(subject.f))(subject.arrays, probe.u)):
        # The host waits for one device, which waits for the others in an all-gather: XLA ends the
        # process after a minute
        raise Skip("a callback to the host divided among devices can wait for ever")

    def place(value: Any, divided: bool) -> Any:
        return jax.device_put(
            value, NamedSharding(mesh, PartitionSpec(AXIS) if divided else PartitionSpec())
        )

    def laid_out(f: Any) -> Any:
        placed = [place(x, a) for x, a in zip(subject.arrays, along, strict=True)]
        with jax.set_mesh(mesh):
            shapes = jax.eval_shape(subject.primal(f), placed)
            batch = {x.shape[0] for x, a in zip(subject.arrays, along, strict=True) if a}
            specs = [
                (
                    s.sharding.spec
                    if axis_type == AxisType.Explicit and s.sharding is not None
                    else PartitionSpec(AXIS)
                    if s.ndim and s.shape[0] in batch
                    else PartitionSpec()
                )
                for s in shapes
            ]
            cotangents = [
                jax.device_put(c, NamedSharding(mesh, spec))
                for c, spec in zip(probe.u, specs, strict=True)
            ]
            return quick(subject.pull(f))(placed, cotangents)

    answer = _tried(
        probe,
        lambda: laid_out(subject.f),
        subject.reference and (lambda: laid_out(subject.reference)),
    )
    return _same(f"{axis_type.name} mesh", probe, answer, probe.compiled)


def _devices(probe: Probe) -> int:
    if probe.failed & {"structure", "captured tracers"}:
        raise Broken
    if jax.device_count() == 1:
        raise Skip("this process has one device")
    if not probe.traceable:
        raise Skip("the function cannot be traced")
    return jax.device_count()


def _tried(probe: Probe, run: Any, plainly: Any) -> Any:
    """What the reference (or the bare value) cannot do either is no fault of the rule."""
    try:
        return run()
    except Exception as problem:
        if probe.subject.batched is None:
            raise Skip(f"refused with {in_words(problem)}") from None
        if plainly:
            try:
                plainly()
            except Exception:
                raise Skip("the reference is refused by JAX too") from None
        raise


def _same(check: str, probe: Probe, got: Any, want: Any) -> list[Failure]:
    outputs = [f"output[{i}]" for i in range(len(want[0]))]
    cause = "right on one device, wrong on several: a sum over the devices is missing or made twice"
    return [
        *compare(
            check, outputs, got[0], want[0], probe.tolerance, probe.noise_of_value, cause=cause
        ),
        *compare(
            check,
            probe.subject.names,
            got[1],
            want[1],
            probe.tolerance,
            lambda i: 8 * probe.noise[1][i].max(initial=0.0),
            cause=cause,
        ),
    ]


def _own(subject: Subject) -> list[bool]:
    """For each array, whether each device has its own: those with a batch axis, else the first that
    is differentiated."""
    own = _batched(subject)
    if not any(own):
        own[subject.places[0]] = True
    return own


def _batched(subject: Subject) -> list[bool]:
    batched = subject.batched or ()
    return [
        position in batched and differentiable(leaf)
        for position, arg in enumerate(subject.args)
        for leaf in jax.tree.leaves(arg)
        if is_array(leaf)
    ]


def _along(subject: Subject, count: int) -> list[bool]:
    """For each array, whether its leading axis is divided among the devices."""
    divisible = [
        x.ndim > 0 and x.shape[0] > 0 and x.shape[0] % count == 0 and differentiable(x)
        for x in subject.arrays
    ]
    if subject.batched is not None:
        everything = [
            position in subject.batched
            for position, arg in enumerate(subject.args)
            for leaf in jax.tree.leaves(arg)
            if is_array(leaf)
        ]
        return [
            b and x.ndim > 0 and x.shape[0] % count == 0
            for b, x in zip(everything, subject.arrays, strict=True)
        ]
    first = next((i for i, d in enumerate(divisible) if d), None)
    return [i == first for i in range(len(divisible))]
