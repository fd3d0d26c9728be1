"""One of several processes that train together:
``python process_worker.py ADDRESS COUNT INDEX OUT``. The first writes what all have found."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from jaxcnn import ops, train, value_and_grad
from jaxcnn.layers import Layer
from jaxcnn.train._names import named
from jaxcnn.train._source import Arrays


def parts(data: Arrays, batch_size: int, index: int, count: int) -> Iterator[Arrays]:
    """This process's part of each batch, from the examples in turn."""
    size = batch_size // count
    while True:
        for at in range(0, len(data[0]), batch_size):
            own = slice(at + index * size, at + (index + 1) * size)
            yield np.asarray(data[0])[own], np.asarray(data[1])[own]


def train_together(
    layout: train.Layout | None, index: int, count: int, net: Layer, data: Arrays
) -> dict[str, np.ndarray]:
    """The gradient of the first batch, and a run from parts of the data, whose end is tested on all
    of them."""
    params, state = net.init(jax.random.key(0), data[0].shape[1:])
    run = value_and_grad(net, ops.softmax_cross_entropy)
    run = run if layout is None else layout.differentiate(run)
    x, target = next(parts(data, 16, index, count))
    if layout is not None:
        x, target = layout.whole_batch(x), layout.whole_batch(target)
    found = {"first": jax.jit(run)(params, state, x, target, jax.random.key(5))}
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.05, momentum=0.9))
    settings: dict[str, Any] = {
        "key": jax.random.key(1),
        "test": data,
        "report_every": 3,
    }
    recipe = train.Recipe(net, ops.softmax_cross_entropy, optimizer, layout=layout)
    by_parts, reports = train.fit(
        recipe,
        parts(data, 16, index, count),
        steps=6,
        **settings,
    )
    shuffled, more = train.fit(recipe, data, batch_size=16, epochs=1, **settings)
    found |= {"parts": by_parts.params, "shuffled": shuffled.params, "state": shuffled.state}
    whole = (
        found
        if layout is None
        else jax.jit(lambda tree: tree, out_shardings=NamedSharding(layout.mesh, PartitionSpec()))(
            found
        )
    )
    scores = np.array([(report.scores or {})["accuracy"] for report in (reports[-1], more[-1])])
    return {name: np.asarray(value) for name, value in named(whole).items()} | {"accuracy": scores}


if __name__ == "__main__":
    address, count, index, out = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    jax.config.update("jax_platforms", "cpu")
    jax.distributed.initialize(address, count, index)
    from test_layout import batch, small_net

    assert len(jax.devices()) == count * len(jax.local_devices())
    layout = train.Layout(
        jax.make_mesh((len(jax.devices()),), ("data",)),
        cut=sys.argv[5] if len(sys.argv) > 5 else None,
    )
    found = train_together(layout, index, count, small_net(), batch(48))
    if index == 0:
        np.savez(out, allow_pickle=False, **found)
