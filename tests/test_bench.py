"""The comparison with peers: that they compute the same, that its numbers are counted right, and that a run leaves its results. No time is asserted."""

import importlib
import io
import json
import math
import os
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import matplotlib.image
import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from experiments.bench import chart, data, machine, networks, peers, proof, results, tables, worker
from experiments.bench.__main__ import main
from experiments.bench.cases import CASES, OpCase
from experiments.bench.config import Config, parse
from experiments.bench.networks import NETWORKS
from experiments.bench.peers import Order
from experiments.bench.peers.explicit import build
from experiments.bench.results import Outcome, Row
from experiments.bench.sections import contests
from experiments.mnist.pictures import save

BATCH = 4
EAGER = ("flax", "torch", "torch.channels_last")  # torch.compile takes half a minute, and a C++ compiler


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


LARGE = [pytest.param(name, marks=[pytest.mark.slow] * (name == "resnet20")) for name in NETWORKS]


@pytest.fixture(scope="module", params=LARGE)
def agreed(request: pytest.FixtureRequest) -> tuple[str, data.Arrays, data.Arrays, list[float]]:
    """A network, its data, what the plain one computes in float64, and the losses of three more of its steps."""
    arrays = data.draw_network(NETWORKS[request.param], BATCH, seed=1)
    with jax.enable_x64(True):
        reference = _prepare("autodiff", Order("step", request.param), arrays)
        losses = [float(reference.call()) for _ in range(3)]
    assert reference.outputs["loss"].dtype == np.float64
    return request.param, arrays, reference.outputs, losses


@pytest.mark.parametrize("peer", ["jaxcnn", "autodiff", *EAGER])
def test_peers_train_alike(agreed: tuple[str, data.Arrays, data.Arrays, list[float]], peer: str) -> None:
    network, arrays, wanted, losses = agreed
    task = _prepare(peer, Order("step", network), arrays)
    _assert_right(task.outputs, wanted)
    np.testing.assert_allclose([float(task.call()) for _ in losses], losses, rtol=5e-3)  # of updated parameters
    if peer in ("jaxcnn", "autodiff"):
        assert {"compile_seconds", "temp_bytes", "kept_bytes"} <= set(task.facts)


@pytest.mark.parametrize("network", NETWORKS)
def test_canonical_names_are_those_of_the_models(network: str) -> None:
    plan = NETWORKS[network]
    params, state = jax.eval_shape(lambda key: build(network).init(key, plan.input_shape), jax.random.key(0))
    for tree, expected in ((params, networks.parameters(plan)), (state, networks.statistics(plan))):
        assert {path: leaf.shape for path, leaf in networks.flat(tree).items()} == expected
    assert networks.flat(networks.nested(networks.parameters(plan))) == networks.parameters(plan)


SMALL = (
    OpCase("conv", "conv", (6, 6, 3), ((3, 3, 3, 4),), {"stride": 1, "padding": 1, "groups": 1}),
    OpCase("strided", "conv", (7, 6, 2), ((5, 5, 2, 3),), {"stride": 2, "padding": 2, "groups": 1}),
    OpCase("depthwise", "conv", (5, 5, 4), ((3, 3, 1, 4),), {"stride": 1, "padding": 1, "groups": 4}),
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
        _assert_right(_prepare(peer, Order("forward", case.name), arrays).outputs, {"y": wanted["y"]})
        task = _prepare(peer, Order("backward", case.name), arrays)
        _assert_right(task.outputs, wanted)
        assert task.call() is None


def test_shapes_of_outputs_are_known() -> None:
    assert [case.output_shape(2) for case in CASES[-6:]] == [
        (2, 16, 16, 128), (2, 16, 16, 32), (2, 32, 32, 64), (2, 16, 16, 32), (2, 16, 16, 32), (2, 32, 32, 16),
    ]  # fmt: skip


def test_flops_are_those_counted_by_hand() -> None:
    conv1, conv2, dense = 28 * 28 * 25 * 32, 14 * 14 * 25 * 32 * 64, 3136 * 512 + 512 * 10
    assert networks.step_flops(NETWORKS["lenet"], 1) == 2 * (2 * conv1 + 3 * (conv2 + dense))
    first, stage1 = 32 * 32 * 27 * 16, 6 * 32 * 32 * 9 * 16 * 16
    stage2 = 16 * 16 * (9 * 16 * 32 + 16 * 32 + 5 * 9 * 32 * 32)
    stage3 = 8 * 8 * (9 * 32 * 64 + 32 * 64 + 5 * 9 * 64 * 64)
    assert networks.step_flops(NETWORKS["resnet20"], 3) == 6 * (2 * first + 3 * (stage1 + stage2 + stage3 + 640))


def test_kept_bytes_are_counted_once_and_without_constants() -> None:
    from experiments.bench.peers.xla import kept_bytes

    def forward(x: jax.Array) -> Any:
        y = x * 2
        return y.sum(), (x, y, y, jax.numpy.zeros(1000), y > 0)

    assert kept_bytes(forward, jax.ShapeDtypeStruct((3,), np.float32)) == 3 * 4 + 3


def test_what_is_wrong_is_not_timed() -> None:
    wanted = {"loss": np.array(2.0), "gradient/w": np.array([1.0, -4.0])}
    truth = proof.Truth(wanted)
    assert proof.judge(wanted, truth) == (0.0, 0.0, "")
    off = {**wanted, "gradient/w": np.array([1.0, -4.1])}
    assert "its gradient is off by 2.5e-02, more than 1e-03" in proof.judge(off, truth).refused
    assert not proof.judge(off, proof.make_truth(wanted, {**wanted, "gradient/w": np.array([1.0, -4.04])})).refused
    assert "its value is off by" in proof.judge({**wanted, "loss": np.array(2.1)}, truth).refused
    assert "it lacks gradient/w" in proof.judge({"loss": np.array(2.0)}, truth).refused
    nan = proof.judge({**wanted, "loss": np.array(math.nan)}, truth)
    assert (nan.value_error, bool(nan.refused)) == (None, True)
    assert proof.error(np.zeros(3), np.zeros(2)) == math.inf


def _outcome() -> Outcome:
    rows = [
        Row("jaxcnn", "jaxcnn", seconds=[0.010, 0.020, 0.030], value_error=1e-7, gradient_error=2e-6, gradient_allowed=1e-3, facts={"kept_bytes": 5e6}),
        Row("autodiff", "autodiff", seconds=[0.050]),
        Row("torch", "torch", seconds=[0.080]),
        Row("torch.compile", "torch.compile", note="InvalidCxxCompiler: none"),
    ]  # fmt: skip
    return Outcome("steps", "lenet, batch 4", rows, flops=10**9, images=4, peak=1e11)


def _cells(table: Table) -> dict[str, list[str]]:
    """What stands in the rows, by their first words."""
    text = io.StringIO()
    Console(file=text, width=100).print(table)
    return {words[0]: words[1:] for line in text.getvalue().splitlines() if (words := line.split())}


def test_tables_have_the_ratios() -> None:
    times, costs = map(_cells, tables.tables([_outcome()]))
    assert times["jaxcnn"] == ["20.0", "15.0–25.0", "200", "50%", "0.25", "–", "2.50"]
    assert times["torch.compile"] == ["–"] * 7
    assert times["peak:"][:2] == ["100", "GFLOP/s"]
    assert costs["jaxcnn"] == ["–", "–", "5.0", "1e-07", "2e-06", "1e-03"]
    (ops,) = tables.tables([Outcome("ops", "relu", _outcome().rows)])
    assert _cells(ops)["relu"] == ["20.0", "50.0", "80.0", "–", "2.50", "4.00"]
    one, eight = Row("jaxcnn", "one", seconds=[0.2]), Row("jaxcnn", "eight", "one", seconds=[0.1])
    (pairs,) = tables.tables([Outcome("epochs", "lenet", [one, eight])])
    assert _cells(pairs)["eight"] == ["100", "100–100", "0.50", "–", "–"]
    assert tables.notes([_outcome(), _outcome()]) == ["torch.compile (lenet, batch 4): InvalidCxxCompiler: none"]
    disturbed = Outcome("steps", "lenet", [Row("torch", "torch", others=[0.1, 0.3])])
    assert "other processes had up to 20% of the CPUs in 1 of 1 contests" in tables.notes([disturbed])[0]
    assert [tables.milliseconds(s) for s in (1.2345, 0.012345, 1.2345e-6, math.nan)] == ["1234", "12.3", "0.0012", "–"]


def test_results_are_json_and_a_picture(tmp_path: Path) -> None:
    results.write_result(tmp_path, [_outcome()], {"machine": machine.describe()}, interrupted=False)
    found = json.loads((tmp_path / results.RESULT).read_text())
    row, *_, skipped = found["results"][0]["rows"]
    assert (row["lower_quartile"], row["median"], row["upper_quartile"]) == (0.015, 0.020, 0.025)
    assert (skipped["median"], skipped["note"]) == (None, "InvalidCxxCompiler: none")
    assert found["machine"]["cpu"]
    figure = chart.draw([_outcome(), Outcome("ops", "relu", [Row("jaxcnn", "jaxcnn", seconds=[0.001])])], "here")
    assert figure is not None
    save(figure, tmp_path / results.PICTURE)
    assert matplotlib.image.imread(tmp_path / results.PICTURE).std() > 0
    assert chart.draw([Outcome("steps", "nothing", [])], "here") is None


def test_a_worker_answers_and_survives_a_failure(tmp_path: Path) -> None:
    data.save(tmp_path / "in.npz", {"a": np.ones(2)})
    made = peers.Task(lambda: np.float32(0.5), {"loss": np.ones(())}, {"compile_seconds": 1.0})
    order = {"do": "prepare", "id": "x", "kind": "step", "of": "lenet", "data": str(tmp_path / "in.npz"), "out": str(tmp_path / "out.npz")}  # fmt: skip
    turn = {"do": "turn", "id": "x", "seconds": 0.0}
    lines = io.StringIO("".join(json.dumps(line) + "\n" for line in (order, turn, {"do": "drop"}, turn)))
    answers: list[dict[str, Any]] = []
    worker.serve("jaxcnn", lambda order, arrays, peer: made, lines, answers.append)
    assert answers[0] == {"facts": {"compile_seconds": 1.0}}
    assert len(answers[1]["seconds"]) == 3
    assert answers[1]["loss"] == 0.5
    assert answers[1]["others"] is None or 0 <= answers[1]["others"] <= 1
    assert answers[2:] == [{}, {"error": "KeyError: 'x'"}]
    assert data.load(tmp_path / "out.npz")["loss"] == 1


def test_a_turn_is_filled() -> None:
    assert len(worker.turn(lambda: None, 0.01)["seconds"]) > 3
    assert len(worker.turn(lambda: time.sleep(0.001), 0.0)["seconds"]) == 3


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


REFUSED = {
    "--batch 0": "--batch must be an integer ≥ 1, got 0",
    "--rounds 0": "--rounds must be an integer ≥ 1, got 0",
    "--threads 0": "--threads must be an integer in [1, ",
    "--seed -1": "--seed must be an integer ≥ 0, got -1",
    "--peers": "--peers must be one name or more, got none",
    "--network lenet lenet": "--network must be different names, got lenet lenet",
    "--smoke --batch 8": "--smoke sets --batch itself; leave --batch out",
    "--what ops --peers flax": "--what ops needs one of --peers jaxcnn autodiff torch torch.channels_last, got flax",
    "--what ensembles --network vgg6": "--what ensembles needs --network lenet, got vgg6",
    "--out {file}": "is a file; give a folder",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: str
) -> None:
    (tmp_path / "file").touch()
    assert main(["--out", str(tmp_path / "out"), *flags.format(file=tmp_path / "file").split()]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert REFUSED[flags] in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("flags", ["--batch many", "--peers tensorflow", "stray"])
def test_what_is_no_flag_is_refused_with_status_2(tmp_path: Path, flags: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--out", str(tmp_path), *flags.split()])
    assert caught.value.code == 2


def test_every_section_has_its_contests() -> None:
    every = contests(Config(what=("steps", "ops", "epochs", "ensembles")))
    titles = [one.title for one in every]
    assert len(set(titles)) == len(titles) == 3 + 2 * len(CASES) + 3 + 2
    for one in every:
        assert {entry.data for entry in one.entries} <= set(one.draw)
        assert len({(entry.peer, entry.order.id) for entry in one.entries}) == len(one.entries)
    assert [entry.peer for entry in every[0].entries if entry.peak] == ["jaxcnn", "torch"]
    assert parse(["--smoke"]).network == ("lenet",)


def _smoke(out: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    status = main(["--smoke", "--out", str(out), *flags])
    return status, json.loads((out / results.RESULT).read_text())


def test_a_smoke_run_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A package that cannot be imported stands in the way of flax, which is left out with a note."""
    (tmp_path / "flax").mkdir()
    (tmp_path / "flax" / "__init__.py").write_text("raise ImportError('no flax here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    out = tmp_path / "out"
    status, found = _smoke(out, "--peers", "jaxcnn", "autodiff", "flax", "--threads", "1")
    assert status == 0
    assert found["interrupted"] is False
    assert found["versions"]["jax"] == jax.__version__
    (only,) = found["results"]
    ours, plain, flax = only["rows"]
    assert (only["title"], only["images"]) == ("lenet, batch 4", 4)
    assert only["peak"] > 0
    for row in ours, plain:
        assert row["note"] == ""
        assert len(row["seconds"]) == 2
        assert row["value_error"] < 1e-5
        assert row["gradient_error"] < 1e-3
        assert {"compile_seconds", "temp_bytes", "kept_bytes"} <= set(row["facts"])
    assert ours["facts"]["kept_bytes"] < plain["facts"]["kept_bytes"]
    assert "no flax here" in flax["note"]
    turns = [json.loads(line) for line in (out / results.TURNS).read_text().splitlines()]
    assert [(turn["round"], turn["label"]) for turn in turns] == [
        (number, label) for number in (1, 2) for label in ("jaxcnn", "autodiff", "matmul 2048² by jaxcnn")
    ]
    assert matplotlib.image.imread(out / results.PICTURE).std() > 0
    assert sorted(path.name for path in out.iterdir()) == sorted([results.RESULT, results.TURNS, results.PICTURE])
    printed = capsys.readouterr()
    assert "flax (lenet, batch 4): not installed (no flax here); `pip install -e '.[bench]'` brings flax" in printed.out
    assert f"Results and picture are in {out}: bench.json, bench.jsonl, bench.png" in printed.out
    assert printed.out.splitlines()[-1].startswith("Next: python -m experiments.bench --what ops")
    assert printed.err == ""


@pytest.mark.slow
def test_an_interrupted_run_keeps_its_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments.bench import crew

    ask, started = crew.Crew.ask, []

    def interrupted_later(self: crew.Crew, peer: str, **order: Any) -> dict[str, Any]:
        started[:] = self._workers.values()
        if order["do"] == "turn" and len((tmp_path / results.TURNS).read_text().splitlines()) == 2:
            raise KeyboardInterrupt
        return ask(self, peer, **order)

    monkeypatch.setattr(crew.Crew, "ask", interrupted_later)
    status, found = _smoke(tmp_path, "--peers", "autodiff")
    assert (status, found["interrupted"]) == (130, True)
    assert len(found["results"][0]["rows"][0]["seconds"]) == 1
    assert (tmp_path / results.PICTURE).exists()
    assert "Interrupted: the tables show the turns until then" in capsys.readouterr().out
    assert len(started) == 2
    for one in started:
        with pytest.raises(ProcessLookupError):
            os.kill(one._process.pid, 0)
