"""A kernel on a batch that a mesh has cut up: each device works on its own images.

A loop over blocks of images looks to XLA's partitioner like something that needs the whole batch in
one place. Here we say that it does not: the batch may stay as it is cut, the weights are the
same everywhere, and the weights' gradients are added up, which is the one collective that training
needs anyway."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

Product = Callable[[jax.Array, jax.Array], jax.Array]


def divided(product: Product, *, over_batch: bool) -> Product:
    """``product``, whose result has the batch of its left side in front or, where it sums
    ``over_batch``, none.

    It can be compiled but not differentiated or mapped.
    """

    def layouts(left: Any, mesh: Any) -> tuple[NamedSharding, NamedSharding, Any]:
        """Of the images, of what all share, and the mesh axes along which the images are cut."""
        spec = getattr(left.sharding, "spec", PartitionSpec())
        axes = spec[0] if spec else None
        return NamedSharding(mesh, PartitionSpec(axes)), NamedSharding(mesh, PartitionSpec()), axes

    def partition(mesh: Any, arguments: Any, result: Any) -> Any:
        cut, shared, axes = layouts(arguments[0], mesh)
        if not over_batch:
            return mesh, product, cut, (cut, shared)

        def add(left: jax.Array, right: jax.Array) -> jax.Array:
            own = product(left, right)
            return lax.psum(own, axes) if axes else own

        return mesh, add, shared, (cut, cut)

    def infer(mesh: Any, arguments: Any, result: Any) -> Any:
        cut, shared, _ = layouts(arguments[0], mesh)
        return shared if over_batch else cut

    def rule(mesh: Any, arguments: Any, results: Any) -> str:
        """No axis is tied to another, but for the batch."""
        names = (f"a{number}" for number in itertools.count())
        rest = [[next(names) for _ in array.shape[1:]] for array in (*arguments, *results)]
        left, right, y = (
            ["n", *rest[0]],
            ["n" if over_batch else next(names), *rest[1]],
            [next(names) if over_batch else "n", *rest[2]],
        )
        return f"{' '.join(left)}, {' '.join(right)} -> {' '.join(y)}"

    run = custom_partitioning(lambda left, right: product(left, right))
    run.def_partition(partition=partition, infer_sharding_from_operands=infer, sharding_rule=rule)
    return run
