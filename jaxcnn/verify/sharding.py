"""Does the rule hold on several devices? Inside ``shard_map``, and on Auto and Explicit meshes, each against one device.

Needs a process with several devices (simulated ones will do).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxcnn.verify.report import Failure, compare
from jaxcnn.verify.subject import Arrays, Subject, differentiable

CLOSE = 1e-10
AXIS = "data"


def mapped(subject: Subject, *, seed: int = 0, tolerance: float = CLOSE) -> list[Failure]:
    """In ``shard_map`` each device has batched inputs of its own and shares the others: shared inputs get the sum of the devices' cotangents."""
    count = jax.device_count()
    batched = _batched_leaves(subject)
    batched[0] |= not any(batched)  # something must differ from device to device
    stacked = [jnp.stack([x * (1 + i / count) for i in range(count)]) if b else x
               for x, b in zip(subject.leaves, batched, strict=True)]  # fmt: skip
    cotangents = [jnp.stack([c] * count) for c in subject.cotangents(seed + 1)]
    pull = subject.pull(subject.f)

    def local(leaves: Arrays, cotangents: Arrays) -> tuple[Arrays, Arrays]:
        mine = [x[0] if b else x for x, b in zip(leaves, batched, strict=True)]
        value, gradient = pull(mine, [c[0] for c in cotangents])
        return [v[None] for v in value], [g[None] if b else g for g, b in zip(gradient, batched, strict=True)]

    specs = [PartitionSpec(AXIS) if b else PartitionSpec() for b in batched]
    along = [PartitionSpec(AXIS)] * len(cotangents)
    mesh = jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,))
    everywhere = jax.shard_map(local, mesh=mesh, in_specs=(specs, along), out_specs=(along, specs))
    value, gradient = jax.jit(everywhere)(stacked, cotangents)

    one = jax.jit(pull)
    loop = [one([x[k] if b else x for x, b in zip(stacked, batched, strict=True)], [c[k] for c in cotangents])
            for k in range(count)]  # fmt: skip
    true_value, parts = jax.tree.map(lambda *p: jnp.stack(p), *loop)
    true_gradient = [g if b else g.sum(0) for g, b in zip(parts, batched, strict=True)]
    outputs = [f"output {i}" for i in range(len(value))]
    return [
        *compare("shard_map, value", outputs, value, true_value, tolerance),
        *compare("shard_map, gradient", subject.names, gradient, true_gradient, tolerance),
    ]


def on_mesh(subject: Subject, axis_type: AxisType, *, seed: int = 0, tolerance: float = CLOSE) -> list[Failure]:
    """With the batch laid out over a mesh whose axis is Auto or Explicit; the leading axis of batched inputs must divide by the devices."""
    count = jax.device_count()
    mesh = jax.make_mesh((count,), (AXIS,), axis_types=(axis_type,))
    cotangents = subject.cotangents(seed + 1)
    pull = subject.pull(subject.f)
    true_value, true_gradient = jax.jit(pull)(subject.leaves, cotangents)
    batch = {x.shape[0] for x, b in zip(subject.leaves, _batched_leaves(subject), strict=True) if b}

    def place(value: Any, along: bool) -> Any:
        spec = PartitionSpec(AXIS) if along else PartitionSpec()
        return jax.device_put(value, NamedSharding(mesh, spec))

    def lay_out(position: int, arg: Any) -> Any:
        return jax.tree.map(lambda leaf: place(leaf, position in subject.batched), arg)

    placed = Subject(subject.f, tuple(lay_out(i, arg) for i, arg in enumerate(subject.args)))
    follows = [c.ndim > 0 and c.shape[0] in batch for c in cotangents]
    with jax.set_mesh(mesh):
        shapes = jax.eval_shape(placed.primal(placed.f), placed.leaves)
        specs = [s.sharding.spec if axis_type == AxisType.Explicit and s.sharding is not None
                 else (PartitionSpec(AXIS) if f else PartitionSpec()) for s, f in zip(shapes, follows, strict=True)]  # fmt: skip
        laid = [jax.device_put(c, NamedSharding(mesh, spec)) for c, spec in zip(cotangents, specs, strict=True)]
        value, gradient = jax.jit(placed.pull(placed.f))(placed.leaves, laid)
    check = f"{axis_type.name} mesh"
    outputs = [f"output {i}" for i in range(len(value))]
    return [
        *compare(f"{check}, value", outputs, value, true_value, tolerance),
        *compare(f"{check}, gradient", subject.names, gradient, true_gradient, tolerance),
    ]


def _batched_leaves(subject: Subject) -> list[bool]:
    """For each differentiable leaf, whether it has a batch axis."""
    return [
        position in subject.batched
        for position, arg in enumerate(subject.args)
        for leaf in jax.tree.leaves(arg)
        if differentiable(leaf)
    ]
