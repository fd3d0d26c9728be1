"""Compile a training step for devices that need not be there, and read off what it will cost each
of them.

Nothing is computed and no array is made: the train state is known by its shapes
(``jax.eval_shape``), so a plan for 256 chips needs no more memory than one for 4.

>>> import jax, optax
>>> from jaxcnn import models, ops
>>> from jaxcnn.train import Layout, Recipe
>>> layout = Layout(jax.make_mesh((len(jax.devices()),), ("data",)))
>>> model, loss, optimizer = models.mlp((8, 2)), ops.softmax_cross_entropy, optax.sgd(0.1)
>>> recipe = Recipe(model, loss, optimizer, layout=layout)
>>> found = plan(recipe, (4, 4, 1), 16 * layout.devices)
>>> # how much memory a CPU has is not asked
>>> found.fits is None, found.memory is not None and found.memory.peak > 0
(True, True)
"""

import dataclasses
import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxcnn._core.errors import check_counts, setting_error
from jaxcnn._io.files import to_json
from jaxcnn.plan._chips import gibibytes
from jaxcnn.plan._collectives import Collective, collectives
from jaxcnn.train._layout import Layout
from jaxcnn.train._older import or_its_parts
from jaxcnn.train._recipe import Recipe
from jaxcnn.train._step import create, make_step

LITTLE: Any = {"exec_time_optimization_effort": -1.0}


class Memory(NamedTuple):
    """Bytes on each device; ``reused`` are those of the outputs that stand in the arguments'
    memory."""

    arguments: int
    outputs: int
    reused: int
    temporaries: int
    program: int

    @property
    def peak(self) -> int:
        """All of them together, which is the most that there can be at a time."""
        return self.arguments + self.outputs - self.reused + self.temporaries + self.program


@dataclasses.dataclass(frozen=True)
class Plan:
    """A step on each device of a mesh. Where the compiler ``refused`` it, its reason, and None
    for all that is not known then.

    ``flops`` and ``bytes_accessed`` are the compiler's estimates; with ``loops`` in the program,
    what is inside one counts once there, and among the collectives."""

    device: str
    mesh: dict[str, int]
    batch: int
    full: bool
    seconds: float
    hbm: int | None
    memory: Memory | None = None
    flops: float | None = None
    bytes_accessed: float | None = None
    collectives: tuple[Collective, ...] = ()
    loops: bool = False
    refused: str | None = None

    @property
    def fits(self) -> bool | None:
        """Whether a device has enough memory; None where that is not known."""
        if self.refused is not None:
            return False
        return None if self.hbm is None or self.memory is None else self.memory.peak <= self.hbm

    def to_json(self) -> str:
        """All of it, with ``peak`` and ``fits``."""
        memory = (
            None if self.memory is None else {**self.memory._asdict(), "peak": self.memory.peak}
        )
        each = [collective._asdict() for collective in self.collectives]
        return to_json(
            {**vars(self), "memory": memory, "collectives": each, "fits": self.fits}, indent=2
        )

    def __str__(self) -> str:
        devices = math.prod(self.mesh.values())
        axes = ", ".join(f"{name}={size}" for name, size in self.mesh.items())
        lines = [
            f"a step on each of {devices} × {self.device} ({axes}): {self.batch // devices:,} of a"
            f" batch of {self.batch:,}"
        ]
        lines += (
            [f"does not fit: {self.refused}"]
            if self.memory is None
            else ["", *self._figures(self.memory)]
        )
        lines += ["", f"compiling took {self.seconds:.0f} s"]
        return "\n".join(lines + _notes(self))

    def _figures(self, memory: Memory) -> list[str]:
        share = ""
        if self.hbm is not None:
            share = (
                f"   of {_mega(self.hbm)} ({memory.peak / self.hbm:.1%}):"
                f" {'fits' if self.fits else 'DOES NOT FIT'}"
            )
        rows = [
            f"{'memory':<22}{'MB':>10}",
            *(f"  {name:<20}{_mega(value):>10}" for name, value in memory._asdict().items()),
            f"  {'peak':<20}{_mega(memory.peak):>10}{share}",
            f"{'bytes accessed, MB':<22}{_mega(self.bytes_accessed or 0):>10}",
            f"{'flops, G':<22}{(self.flops or 0) / 1e9:>10,.1f}",
        ]
        head = (
            f"{'collectives':<22}{'MB':>10}{'count':>8}{'devices':>9}"
            if self.collectives
            else "no collectives"
        )
        each = [
            f"  {c.kind:<20}{_mega(c.bytes):>10}{c.calls:>8,}{c.chips:>9,}"
            for c in self.collectives
        ]
        return [*rows, head, *each]


@or_its_parts("model", "loss", "optimizer", "layout", "image_shape", "batch")
def plan(recipe: Recipe, image_shape: tuple[int, ...], batch: int, *, full: bool = False) -> Plan:
    """The step of :func:`jaxcnn.train.make_step`, for a ``batch`` (over all devices) of float32
    images of ``image_shape`` and integer labels, compiled for the devices of the recipe's layout.

    For a TPU the compiler makes little effort, unless the plan is ``full``: seconds instead of
    minutes, for figures that are not quite those of a run, which makes all of it.

    Raises:
        ValueError: the recipe has no layout, loss or optimizer; ``batch`` is no multiple of the
            devices, ``microbatch`` no divisor of each one's part, or the model does not take such
            images.
    """
    layout, microbatch = recipe.layout, recipe.microbatch
    if layout is None:
        raise ValueError(
            "plan: the recipe has no `layout`, which says for which devices; give Recipe(…,"
            " layout=train.Layout(mesh))"
        )
    check_counts(
        "plan",
        batch=batch,
        **{f"image_shape[{axis}]": length for axis, length in enumerate(image_shape)},
    )
    if batch % layout.devices:
        raise setting_error("plan", "batch", f"a multiple of the {layout.devices} devices", batch)
    part = batch // layout.devices
    if microbatch is not None and part % microbatch:
        raise setting_error(
            "plan", "microbatch", f"a divisor of the {part} examples of each device", microbatch
        )
    start = time.perf_counter()
    lowered = make_step(recipe).lower(*_arguments(recipe, layout, image_shape, batch))
    device = layout.mesh.devices.flat[0]
    capacity = gibibytes(device.device_kind)
    about: dict[str, Any] = {
        "device": device.device_kind,
        "mesh": dict(layout.mesh.shape),
        "batch": batch,
        "full": full or device.platform != "tpu",
        "hbm": None if capacity is None else int(capacity * 2**30),
    }
    try:
        program = lowered.compile(None if about["full"] else LITTLE)
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith("RESOURCE_EXHAUSTED"):
            raise
        reason = str(error).splitlines()[0].partition(": ")[2]
        return Plan(**about, seconds=time.perf_counter() - start, refused=reason)
    seconds = time.perf_counter() - start
    cost: Any = program.cost_analysis()
    text = str(program.as_text())
    return Plan(
        **about,
        seconds=seconds,
        memory=_memory(program.memory_analysis()),
        flops=cost["flops"],
        bytes_accessed=cost["bytes accessed"],
        collectives=tuple(collectives(text, layout.devices)),
        loops=" while(" in text,
    )


def _arguments(
    recipe: Recipe, layout: Layout, image_shape: tuple[int, ...], batch: int
) -> tuple[Any, ...]:
    """Of the step: shapes, dtypes and shardings."""
    key = jax.eval_shape(jax.random.key, 0)
    state = jax.eval_shape(lambda key: create(recipe, key, image_shape), key)
    kept = jax.tree.map(
        lambda leaf, lies: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=lies),
        state,
        layout.shardings(state),
    )
    parts, whole = (NamedSharding(layout.mesh, spec) for spec in (layout.batch, PartitionSpec()))
    images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.float32, sharding=parts)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=parts)
    return kept, images, labels, jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=whole)


def _memory(found: Any) -> Memory:
    return Memory(
        arguments=found.argument_size_in_bytes,
        outputs=found.output_size_in_bytes,
        reused=found.alias_size_in_bytes,
        temporaries=found.temp_size_in_bytes,
        program=found.generated_code_size_in_bytes,
    )


def _mega(count: float) -> str:
    return f"{count / 1e6:,.1f}"


def _notes(found: Plan) -> list[str]:
    """What is to be known before the figures are believed."""
    notes = []
    if not found.full:
        notes.append(
            "with little effort: a run's program takes less memory or more, and may talk otherwise;"
            " --full compiles that one, in minutes"
        )
    if found.loops:
        notes.append("what is inside a loop counts once: in flops, bytes accessed and collectives")
    return notes
