"""Many devices give what one gives: 8 simulated ones here; real processes in test_processes.py."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from jaxcnn import layers, models, ops, train, value_and_grad
from jaxcnn.train._layout import Layout

LAYOUTS = {
    "copied": lambda: Layout(jax.make_mesh((8,), ("data",))),
    "cut": lambda: Layout(jax.make_mesh((8,), ("data",)), cut="data"),
    "hosts and chips": lambda: Layout(jax.make_mesh((2, 4), ("host", "chip")), cut="chip"),
}


USUAL = ("copied", "everything"), ("cut", "plain")


def small_net(*, across_devices: bool = True) -> layers.Serial:
    """Whatever looks at more than one example, or at random: batch norm and dropout; and kernels
    large enough to be cut up."""
    return layers.serial(
        # a bias before batch norm has gradient 0, so nothing but rounding
        conv1=layers.conv(16, window=3, bias=False),
        norm=layers.batch_norm(across_devices=across_devices),
        relu1=layers.relu(),
        pool=layers.max_pool(2),
        conv2=layers.conv(32, window=3),
        relu2=layers.relu(),
        flatten=layers.flatten(),
        dropout=layers.dropout(0.5),
        dense=layers.dense(5),
    )


def batch(count: int = 32, side: int = 8, classes: int = 5) -> tuple[jax.Array, jax.Array]:
    key_x, key_t = jax.random.split(jax.random.key(3))
    return jax.random.normal(key_x, (count, side, side, 1)), jax.random.randint(
        key_t, (count,), 0, classes
    )


def distance(one: Any, other: Any) -> float:
    """The largest of max |a − b| / max |a| over the arrays."""

    def ratio(a: Any, b: Any) -> Any:
        return np.abs(np.asarray(a) - np.asarray(b)).max() / max(np.abs(np.asarray(a)).max(), 1e-30)

    return max(jax.tree.leaves(jax.tree.map(ratio, one, other)))


@pytest.mark.parametrize("name", LAYOUTS)
def test_gradients_and_statistics_are_those_of_one_device(name):
    layout, model, (x, target), key = LAYOUTS[name](), small_net(), batch(), jax.random.key(5)
    params, state = model.init(jax.random.key(0), (8, 8, 1))
    run = value_and_grad(model, ops.softmax_cross_entropy)
    alone = jax.jit(run)(params, state, x, target, key)
    together = jax.jit(layout.differentiate(run))(params, state, x, target, key)
    assert distance(alone, together) < 2e-6
    kernel = together[1]["conv2"]["kernel"]
    parts = 1 if layout.cut is None else layout.mesh.shape[layout.cut]
    assert kernel.addressable_shards[0].data.size * parts == kernel.size


def test_batch_norm_can_look_at_each_part_alone():
    layout, model, (x, target) = LAYOUTS["copied"](), small_net(across_devices=False), batch()
    params, state = model.init(jax.random.key(0), (8, 8, 1))
    run = value_and_grad(model, ops.softmax_cross_entropy)
    (value, new_state), _ = jax.jit(layout.differentiate(run))(
        params, state, x, target, jax.random.key(5)
    )
    # a device's part a row
    z = model.layers["conv1"].apply(params["conv1"], {}, x)[0].reshape(8, -1, 16)
    assert distance(new_state["norm"]["var"], 0.9 + 0.1 * z.var(1).mean(0)) < 1e-5
    whole = jax.jit(run)(params, state, x, target, jax.random.key(5))
    assert distance(whole[0][1]["norm"]["var"], new_state["norm"]["var"]) > 1e-3
    assert abs(float(whole[0][0]) - float(value)) > 1e-4


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        pytest.param(name, extra, marks=[] if (name, extra) in USUAL else [pytest.mark.slow])
        for name in LAYOUTS
        for extra in ("plain", "everything")
    ],
)
def test_a_run_on_a_mesh_is_a_run_on_one_device(name, extra):
    layout, model, data = LAYOUTS[name](), small_net(), batch(80)
    more: dict[str, Any] = {}
    if extra == "everything":
        more = {"average": 0.9, "augment": lambda key, x: x + 0.1 * jax.random.normal(key, x.shape)}
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(1e-3))

    def run(**by: Any) -> tuple[train.TrainState, list[train.Report]]:
        return train.fit(
            train.Recipe(model, ops.softmax_cross_entropy, optimizer, **more, **by),
            data,
            test=data,
            key=jax.random.key(1),
            batch_size=16,
            epochs=2,
            report_every=3,
        )

    (alone, reports), (together, reports_together) = run(), run(layout=layout)
    assert [r.scores for r in reports] == [r.scores for r in reports_together]
    np.testing.assert_allclose(reports[0].losses, reports_together[0].losses, rtol=1e-5)
    assert distance(alone.state, together.state) < 1e-4
    assert (
        distance(alone.params["dense"]["kernel"], together.params["dense"]["kernel"]) < 1e-2
    )  # Adam divides by √v: where v is rounding, so is the step
    moment = together.opt_state[1][0].mu["conv2"]["kernel"]
    assert (
        moment.sharding.spec
        == together.params["conv2"]["kernel"].sharding.spec
        == layout.spec(moment.shape)
    )


def test_dropout_masks_do_not_depend_on_the_mesh():
    layout, x = LAYOUTS["hosts and chips"](), jnp.ones((16, 40))
    drop = lambda x, key: layers.dropout(0.5).apply({}, {}, x, key, train=True)[0]  # noqa: E731
    mapped = jax.shard_map(
        drop, mesh=layout.mesh, in_specs=(layout.batch, PartitionSpec()), out_specs=layout.batch
    )
    assert bool((mapped(x, jax.random.key(0)) == drop(x, jax.random.key(0))).all())


def test_microbatches_of_each_device():
    layout, (x, target) = LAYOUTS["cut"](), batch()
    model = models.mlp((1024, 5), "tanh")
    params, state = model.init(jax.random.key(0), (8, 8, 1))
    alone = jax.jit(value_and_grad(model, ops.softmax_cross_entropy))(params, state, x, target)
    by_twos = layout.differentiate(value_and_grad(model, ops.softmax_cross_entropy, microbatch=2))
    assert distance(alone, jax.jit(by_twos)(params, state, x, target, None)) < 2e-6


def test_the_state_of_a_dynamic_loss_scale_lies_on_the_mesh_too():
    layout, model, data = LAYOUTS["cut"](), small_net(), batch(32)
    policy = train.Policy("float16", loss_scale="dynamic")
    state, reports = train.fit(
        train.Recipe(
            model, ops.softmax_cross_entropy, optax.sgd(0.1), policy=policy, layout=layout
        ),
        data,
        key=jax.random.key(1),
        batch_size=16,
        epochs=4,
    )
    assert state.scale is not None
    assert state.scale.value.sharding.device_set == set(layout.mesh.devices.flat)
    assert reports[-1].loss < 2


def test_batches_of_an_iterator_are_cut_up():
    layout, model, data = LAYOUTS["copied"](), models.mlp((16, 5)), batch(16)
    batches = iter([jax.tree.map(np.asarray, data)] * 3)
    state, _ = train.fit(
        train.Recipe(model, ops.softmax_cross_entropy, optax.sgd(0.1), layout=layout),
        batches,
        key=jax.random.key(1),
        steps=3,
    )
    assert int(state.step) == 3
    alone, _ = train.fit(
        train.Recipe(model, ops.softmax_cross_entropy, optax.sgd(0.1)),
        iter([data] * 3),
        key=jax.random.key(1),
        steps=3,
    )
    assert distance(alone.params, state.params) < 1e-5


def test_what_cannot_be_shared_evenly_is_refused():
    layout = LAYOUTS["copied"]()
    with pytest.raises(
        ValueError, match="`cut` must be None or an axis of the mesh \\(data\\), got 'model'"
    ):
        Layout(layout.mesh, cut="model")
    with pytest.raises(
        ValueError, match="fit: setting `batch_size` must be a multiple of the 8 devices, got 12"
    ):
        train.fit(
            train.Recipe(
                models.mlp((5,)), ops.softmax_cross_entropy, optax.sgd(0.1), layout=layout
            ),
            batch(),
            key=jax.random.key(0),
            batch_size=12,
            epochs=1,
        )


def test_evaluation_counts_every_example_once():
    layout, model, (x, target) = LAYOUTS["copied"](), models.mlp((5,)), batch(37)
    params, state = model.init(jax.random.key(0), (8, 8, 1))
    measures = {"accuracy": train.accuracy, "loss": ops.softmax_cross_entropy}
    alone = train.make_evaluate(train.Recipe(model, measures=measures))(params, state, x, target)
    together = train.make_evaluate(
        train.Recipe(model, layout=layout, measures=measures), batch_size=10
    )(params, state, x, target)
    assert together == pytest.approx(alone, rel=1e-5)
