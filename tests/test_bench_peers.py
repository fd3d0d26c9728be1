"""The peers compute the same as the plain network and ops in float64, and train alike."""

import importlib
import warnings
from typing import Any

import jax
import numpy as np
import pytest

from experiments.bench import data, networks, peers, proof
from experiments.bench.cases import CASES, OpCase
from experiments.bench.networks import NETWORKS
from experiments.bench.peers import Order
from experiments.bench.peers.explicit import build

BATCH = 4
pytestmark = pytest.mark.usefixtures("promoting")
# torch.compile takes half a minute, and a C++ compiler
EAGER = ("flax", "torch", "torch.channels_last")


def _prepare(peer: str, order: Order, arrays: data.Arrays) -> peers.Task:
    package = peers.PEERS[peer].package
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, when it is imported
        pytest.importorskip(package)
        prepare = peers.load(peer)
    made = prepare(order, arrays, peer)
    return made._replace(outputs={name: np.array(array) for name, array in made.outputs.items()})


def _assert_right(got: data.Arrays, wanted: data.Arrays) -> None:
    verdict = proof.judge(got, proof.Truth(wanted))
    assert not verdict.refused
    assert verdict.value_error is not None
    assert verdict.value_error < 1e-5


LARGE = [pytest.param(name, marks=[pytest.mark.slow] * (name != "lenet")) for name in NETWORKS]


@pytest.fixture(scope="module", params=LARGE)
def agreed(request: pytest.FixtureRequest) -> tuple[str, data.Arrays, data.Arrays, list[float]]:
    """A network, its data, what the plain one computes in float64, and the losses of three more of
    its steps."""
    arrays = data.draw_network(NETWORKS[request.param], BATCH, seed=1)
    with jax.enable_x64(True):
        reference = _prepare("autodiff", Order("step", request.param), arrays)
        losses = [float(reference.call()) for _ in range(3)]
    assert reference.outputs["loss"].dtype == np.float64
    return request.param, arrays, reference.outputs, losses


@pytest.mark.parametrize("peer", ["jaxcnn", "autodiff", *EAGER])
def test_peers_train_alike(
    agreed: tuple[str, data.Arrays, data.Arrays, list[float]], peer: str
) -> None:
    network, arrays, wanted, losses = agreed
    task = _prepare(peer, Order("step", network), arrays)
    _assert_right(task.outputs, wanted)
    # of updated parameters
    np.testing.assert_allclose([float(task.call()) for _ in losses], losses, rtol=5e-3)
    if peer in ("jaxcnn", "autodiff"):
        assert {"compile_seconds", "temp_bytes", "kept_bytes"} <= set(task.facts)


@pytest.mark.parametrize("network", NETWORKS)
def test_canonical_names_are_those_of_the_models(network: str) -> None:
    plan = NETWORKS[network]
    params, state = jax.eval_shape(
        lambda key: build(network).init(key, plan.input_shape), jax.random.key(0)
    )
    for tree, expected in ((params, networks.parameters(plan)), (state, networks.statistics(plan))):
        assert {path: leaf.shape for path, leaf in networks.flat(tree).items()} == expected
    assert networks.flat(networks.nested(networks.parameters(plan))) == networks.parameters(plan)


SMALL = (
    OpCase("conv", "conv", (6, 6, 3), ((3, 3, 3, 4),), {"stride": 1, "padding": 1, "groups": 1}),
    OpCase("strided", "conv", (7, 6, 2), ((5, 5, 2, 3),), {"stride": 2, "padding": 2, "groups": 1}),
    OpCase(
        "depthwise", "conv", (5, 5, 4), ((3, 3, 1, 4),), {"stride": 1, "padding": 1, "groups": 4}
    ),
    OpCase("tiles", "max_pool", (6, 6, 2), (), {"window": 2, "stride": 2, "padding": 0}),
    OpCase("overlapping", "max_pool", (7, 7, 2), (), {"window": 3, "stride": 2, "padding": 1}),
    OpCase("norm", "batch_norm", (4, 4, 3), ((3,), (3,))),
    OpCase("matmul", "matmul", (4, 4), ((4, 4),)),
)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_peers_compute_the_same_ops(case: OpCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(importlib.import_module("experiments.bench.cases").BY_NAME, case.name, case)
    arrays = data.draw_op(case, 2, seed=1)
    with jax.enable_x64(True):
        wanted = _prepare("autodiff", Order("backward", case.name), arrays).outputs
    assert wanted["y"].shape == case.output_shape(2)
    assert set(wanted) == {"y", *(f"gradient/{number}" for number in range(1 + len(case.weights)))}
    for peer in ("jaxcnn", "autodiff", "torch", "torch.channels_last"):
        _assert_right(
            _prepare(peer, Order("forward", case.name), arrays).outputs, {"y": wanted["y"]}
        )
        task = _prepare(peer, Order("backward", case.name), arrays)
        _assert_right(task.outputs, wanted)
        assert task.call() is None


def test_shapes_of_outputs_are_known() -> None:
    assert [case.output_shape(2) for case in CASES[-6:]] == [
        (2, 16, 16, 128),
        (2, 16, 16, 32),
        (2, 32, 32, 64),
        (2, 16, 16, 32),
        (2, 16, 16, 32),
        (2, 32, 32, 16),
    ]


def test_flops_are_those_counted_by_hand() -> None:
    conv1, conv2, dense = 28 * 28 * 25 * 32, 14 * 14 * 25 * 32 * 64, 3136 * 512 + 512 * 10
    assert networks.step_flops(NETWORKS["lenet"], 1) == 2 * (2 * conv1 + 3 * (conv2 + dense))
    first, stage1 = 32 * 32 * 27 * 16, 6 * 32 * 32 * 9 * 16 * 16
    stage2 = 16 * 16 * (9 * 16 * 32 + 16 * 32 + 5 * 9 * 32 * 32)
    stage3 = 8 * 8 * (9 * 32 * 64 + 32 * 64 + 5 * 9 * 64 * 64)
    assert networks.step_flops(NETWORKS["resnet20"], 3) == 6 * (
        2 * first + 3 * (stage1 + stage2 + stage3 + 640)
    )


def test_kept_bytes_are_counted_once_and_without_constants() -> None:
    from experiments.bench.peers.xla import kept_bytes

    def forward(x: jax.Array) -> Any:
        y = x * 2
        return y.sum(), (x, y, y, jax.numpy.zeros(1000), y > 0)

    assert kept_bytes(forward, jax.ShapeDtypeStruct((3,), np.float32)) == 3 * 4 + 3


@pytest.mark.slow
def test_epochs_and_ensembles_are_compared_with_plain_loops() -> None:
    arrays = data.draw_network(NETWORKS["lenet"], BATCH, seed=1, batches=2, models=2)
    with jax.enable_x64(True):
        steps = _prepare("autodiff", Order("steps_in_turn", "lenet"), arrays).outputs
        models = _prepare("autodiff", Order("models_in_turn", "lenet"), arrays).outputs
        whole = _prepare("autodiff", Order("gradient", "lenet"), arrays).outputs
    assert steps["loss"].shape == models["loss"].shape == (2,)
    _assert_right({name: array[0] for name, array in models.items()}, whole)
    _assert_right(_prepare("jaxcnn", Order("epoch", "lenet"), arrays).outputs, steps)
    _assert_right(_prepare("jaxcnn", Order("ensemble", "lenet"), arrays).outputs, models)
    _assert_right(_prepare("jaxcnn", Order("examples", "lenet"), arrays).outputs, whole)
