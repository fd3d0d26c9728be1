"""Random keys of every kind that JAX has: each gives the numbers of its seed, on one device as on
several."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec
from test_layout import batch

from jaxcnn import layers, models, ops, train
from jaxcnn._core.keys import threefry

GENERATORS = ["threefry2x32", "rbg", pytest.param("unsafe_rbg", marks=pytest.mark.slow)]


def test_an_old_style_key_gives_the_numbers_of_the_new(x64):
    old, new = jax.random.PRNGKey(3), jax.random.key(3)
    x, model = jnp.ones((4, 5)), models.mlp((3, 2))
    np.testing.assert_array_equal(ops.dropout(x, old, rate=0.5), ops.dropout(x, new, rate=0.5))
    np.testing.assert_array_equal(
        ops.dropout(x, jax.random.split(old, 4), rate=0.5),
        ops.dropout(x, jax.random.split(new, 4), rate=0.5),
    )
    for a, b in zip(*(jax.tree.leaves(model.init(key, (5,))) for key in (old, new)), strict=True):
        np.testing.assert_array_equal(a, b)
    drop = layers.dropout(0.5)
    dropped, expected = (drop.apply({}, {}, x, key, train=True)[0] for key in (old, new))
    np.testing.assert_array_equal(dropped, expected)


@pytest.mark.slow
def test_a_run_from_either_style_is_the_same():
    model, data = models.mlp((4, 5)), batch(32)

    def run(key):
        return train.fit(
            train.Recipe(model, ops.softmax_cross_entropy, optax.sgd(0.1)),
            data,
            key=key,
            batch_size=16,
            epochs=2,
        )

    np.testing.assert_array_equal(
        run(jax.random.PRNGKey(2))[1][-1].losses, run(jax.random.key(2))[1][-1].losses
    )


@pytest.mark.parametrize("name", GENERATORS)
def test_dropout_is_the_same_on_several_devices_and_of_each_example_alone(name):
    key, x = jax.random.key(5, impl=name), jnp.ones((16, 40))
    drop = lambda x, key: layers.dropout(0.5).apply({}, {}, x, key, train=True)[0]  # noqa: E731
    whole = drop(x, key)
    for devices in 2, 8:
        mesh = jax.make_mesh(
            (devices,), ("data",), (AxisType.Auto,), devices=jax.devices()[:devices]
        )
        mapped = jax.shard_map(
            drop,
            mesh=mesh,
            in_specs=(PartitionSpec("data"), PartitionSpec()),
            out_specs=PartitionSpec("data"),
        )
        np.testing.assert_array_equal(mapped(x, key), whole)
    keys = jax.random.split(key, 16)
    each = jnp.stack([ops.dropout(row, own, rate=0.5) for row, own in zip(x, keys, strict=True)])
    np.testing.assert_array_equal(ops.dropout(x, keys, rate=0.5), each)
    assert len({row.tobytes() for row in np.asarray(each)}) == 16
    assert 0.4 < float((whole == 0).mean()) < 0.6


@pytest.mark.parametrize("name", GENERATORS[1:])
def test_each_key_of_a_generator_gives_numbers_of_its_own(name):
    found = [threefry("test", jax.random.key(seed, impl=name)) for seed in range(50)]
    assert len({jax.random.key_data(key).tobytes() for key in found}) == 50
    together = threefry(
        "test", jax.vmap(lambda seed: jax.random.key(seed, impl=name))(jnp.arange(50)), several=True
    )
    np.testing.assert_array_equal(
        jax.random.key_data(together), [jax.random.key_data(key) for key in found]
    )
