"""How a run is spread over many devices: each has a part of the batch, and all of the parameters
or a part of them.

    Layout(mesh)               data parallel: parameters and optimizer state copied to every device
    Layout(mesh, cut="data")   each device along that mesh axis keeps a part of them, and gathers
                               the rest for a step (ZeRO, FSDP)

    gradient = mean over the devices of the gradient of each one's part of the batch: an
               all-reduce, or a reduce-scatter where the parameters are cut up

Forward and backward run inside ``shard_map``, where every device works on its own part as one
device would, blocked kernels and all; batch norm and dropout know their place there, so that losses
and gradients are those of one device, to rounding. All else, the optimizer above all, is one
program over whole arrays, which XLA cuts up.

Several processes, on one or many hosts: call ``jax.distributed.initialize`` in each, then make the
mesh of ``jax.devices()``, which are those of all.

>>> import jax
>>> from jax.sharding import PartitionSpec
>>> layout = Layout(jax.make_mesh((len(jax.devices()),), ("data",)), cut="data")
>>> layout.spec((3, 3)) == PartitionSpec()
True
>>> layout.spec((3, 8 * layout.devices, 1024)) == PartitionSpec(None, None, "data")
True
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcnn._core.cotangent import varying
from jaxcnn._core.errors import setting_error

WHOLE = PartitionSpec()
LEAST = 4096  # numbers; what is smaller is not worth a collective of its own


@dataclasses.dataclass(frozen=True)
class Layout:
    """The batch is cut up along all axes of ``mesh``, parameters and optimizer state along the axis
    ``cut``, if one is named.

    Raises ValueError for a ``cut`` that is no axis of the mesh.
    """

    mesh: Mesh
    cut: str | None = None

    def __post_init__(self) -> None:
        if self.cut is not None and self.cut not in self.mesh.axis_names:
            raise setting_error(
                "Layout",
                "cut",
                f"None or an axis of the mesh ({', '.join(self.mesh.axis_names)})",
                self.cut,
            )
        # A mesh of jax.make_mesh has Explicit axes, on which a plain product of sharded arrays is
        # refused as ambiguous
        object.__setattr__(self, "mesh", Mesh(self.mesh.devices, self.mesh.axis_names))

    @property
    def devices(self) -> int:
        """How many there are, of all processes."""
        return self.mesh.size

    @property
    def batch(self) -> PartitionSpec:
        """How arrays of examples are sharded."""
        return PartitionSpec(self.mesh.axis_names)

    def spec(self, shape: tuple[int, ...]) -> PartitionSpec:
        """How an array of parameters of that shape is sharded: cut up along its longest axis that
        divides, the last of equals."""
        if self.cut is None or np.prod(shape) < LEAST:
            return WHOLE
        parts = self.mesh.shape[self.cut]
        divisible = [(length, axis) for axis, length in enumerate(shape) if length % parts == 0]
        if not divisible:
            return WHOLE
        _, longest = max(divisible)
        return PartitionSpec(*[None] * longest, self.cut)

    def shardings(self, tree: Any) -> Any:
        """One for each array of a train state."""
        return jax.tree.map(lambda leaf: self._sharding(self.spec(leaf.shape)), tree)

    def copies(self, x: Any) -> jax.Array:
        """``x``, which is the same in every process, whole on every device."""
        return jax.make_array_from_callback(
            np.shape(x), self._sharding(WHOLE), lambda place: np.asarray(x)[place]
        )

    def whole_batch(self, x: Any) -> jax.Array:
        """The batch whose part ``x`` is this process's."""
        return jax.make_array_from_process_local_data(self._sharding(self.batch), np.asarray(x))

    def part(self, x: Any) -> Any:
        """Inside a compiled program: examples (n, …), on each device its part of them."""
        return lax.with_sharding_constraint(x, self._sharding(self.batch))

    def keep(self, tree: Any) -> Any:
        """Inside a compiled program: a train state that keeps its sharding."""
        return lax.with_sharding_constraint(tree, self.shardings(tree))

    def gather(self, tree: Any) -> Any:
        """``tree``, whole on every device; all processes have to ask for it."""
        return jax.jit(lambda tree: tree, out_shardings=self._sharding(WHOLE))(tree)

    def check_batch(self, function: str, size: int) -> None:
        """Raises ValueError for a batch that the devices cannot share evenly."""
        if size % self.devices:
            raise setting_error(
                function, "batch_size", f"a multiple of the {self.devices} devices", size
            )

    def differentiate(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """What :func:`jaxcnn.value_and_grad` gave, over the batch of all devices:
        ``(params, state, x, target, key, **scale) -> ((value, state), grads)``."""
        axes = self.mesh.axis_names

        def local(
            params: Any, state: Any, x: Any, target: Any, key: Any, by: Mapping[str, Any]
        ) -> Any:
            # marked as different on every device, so that their cotangents are summed once, here,
            # and not in each rule, for each microbatch
            params = jax.tree.map(lambda leaf: lax.pcast(leaf, axes, to="varying"), params)
            found, grads = run(params, state, x, target, key, **by)
            return jax.tree.map(_mean, found), jax.tree.map(self._mean_kept, grads)

        def whole(params: Any, state: Any, x: Any, target: Any, key: Any, **by: Any) -> Any:
            self.check_batch("step", len(x))
            kept = jax.tree.map(lambda leaf: self.spec(leaf.shape), params)
            in_specs = (WHOLE, WHOLE, self.batch, self.batch, WHOLE, WHOLE)
            mapped = jax.shard_map(
                local, mesh=self.mesh, in_specs=in_specs, out_specs=(WHOLE, kept)
            )
            return mapped(params, state, x, target, key, by)

        return whole

    def predict(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """``run(params, state, x)`` of one device's examples, over those of all."""
        return jax.shard_map(
            run, mesh=self.mesh, in_specs=(WHOLE, WHOLE, self.batch), out_specs=self.batch
        )

    def _mean_kept(self, gradient: jax.Array) -> jax.Array:
        """The mean over all devices, of which each keeps its part."""
        spec = self.spec(gradient.shape)
        if self.cut is None or spec == WHOLE:
            return _mean(gradient)
        others = tuple(name for name in self.mesh.axis_names if name != self.cut)
        total = lax.psum(gradient, others) if others else gradient
        return (
            lax.psum_scatter(total, self.cut, scatter_dimension=len(spec) - 1, tiled=True)
            / self.devices
        )

    def _sharding(self, spec: PartitionSpec) -> NamedSharding:
        return NamedSharding(self.mesh, spec)


def _mean(x: jax.Array) -> jax.Array:
    """Over the devices, where they differ."""
    axes = tuple(sorted(varying(x)))
    return lax.pmean(x, axes) if axes else x
