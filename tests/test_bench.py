"""The comparison with peers: that its numbers are counted right, and that a run leaves its results.
No time is asserted."""

import io
import json
import math
import os
import re
import time
from pathlib import Path
from typing import Any

import jax
import matplotlib.image
import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from experiments.bench import chart, data, machine, overhead, peers, proof, results, tables, worker
from experiments.bench.__main__ import main
from experiments.bench.results import Outcome, Row
from jaxcnn._io.drawing import save


def test_what_is_wrong_is_not_timed() -> None:
    wanted = {"loss": np.array(2.0), "gradient/w": np.array([1.0, -4.0])}
    truth = proof.Truth(wanted)
    assert proof.judge(wanted, truth) == (0.0, 0.0, "")
    off = {**wanted, "gradient/w": np.array([1.0, -4.1])}
    assert "its gradient is off by 2.5e-02, more than 1e-03" in proof.judge(off, truth).refused
    assert not proof.judge(
        off, proof.make_truth(wanted, {**wanted, "gradient/w": np.array([1.0, -4.04])})
    ).refused
    assert "its value is off by" in proof.judge({**wanted, "loss": np.array(2.1)}, truth).refused
    assert "it lacks gradient/w" in proof.judge({"loss": np.array(2.0)}, truth).refused
    nan = proof.judge({**wanted, "loss": np.array(math.nan)}, truth)
    assert (nan.value_error, bool(nan.refused)) == (None, True)
    assert proof.error(np.zeros(3), np.zeros(2)) == math.inf


def _outcome() -> Outcome:
    rows = [
        Row(
            "jaxcnn",
            "jaxcnn",
            seconds=[0.010, 0.020, 0.030],
            value_error=1e-7,
            gradient_error=2e-6,
            gradient_allowed=1e-3,
            facts={"kept_bytes": 5e6},
        ),
        Row("autodiff", "autodiff", seconds=[0.050]),
        Row("torch", "torch", seconds=[0.080]),
        Row("torch.compile", "torch.compile", note="InvalidCxxCompiler: none"),
    ]
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
    assert tables.notes([_outcome(), _outcome()]) == [
        "torch.compile (lenet, batch 4): InvalidCxxCompiler: none"
    ]
    disturbed = Outcome("steps", "lenet", [Row("torch", "torch", others=[0.1, 0.3])])
    assert (
        "other processes had up to 20% of the CPUs in 1 of 1 contests"
        in tables.notes([disturbed])[0]
    )
    assert [tables.milliseconds(s) for s in (1.2345, 0.012345, 1.2345e-6, math.nan)] == [
        "1234",
        "12.3",
        "0.0012",
        "–",
    ]


def test_results_are_json_and_a_picture(tmp_path: Path) -> None:
    results.write_result(tmp_path, [_outcome()], {"machine": machine.describe()}, interrupted=False)
    found = json.loads((tmp_path / results.RESULT).read_text())
    row, *_, skipped = found["results"][0]["rows"]
    assert (row["lower_quartile"], row["median"], row["upper_quartile"]) == (0.015, 0.020, 0.025)
    assert (skipped["median"], skipped["note"]) == (None, "InvalidCxxCompiler: none")
    assert found["machine"]["cpu"]
    ours, *_, skipped = results.steps_by_peer(_outcome())
    known = {
        "name": "jaxcnn",
        "images_per_second": 200,
        "temp_bytes": None,
        "kept_bytes": 5e6,
        "loss_error": 1e-7,
        "gradient_error": 2e-6,
        "note": "",
    }
    assert {name: ours[name] for name in known} == known
    assert [ours[f"step_ms{which}"] for which in ("_lower_quartile", "", "_upper_quartile")] == [
        15,
        20,
        25,
    ]
    assert {name for name, value in skipped.items() if value is not None} == {"name", "note"}
    figure = chart.draw(
        [_outcome(), Outcome("ops", "relu", [Row("jaxcnn", "jaxcnn", seconds=[0.001])])], "here"
    )
    assert figure is not None
    save(figure, tmp_path / results.PICTURE)
    assert matplotlib.image.imread(tmp_path / results.PICTURE).std() > 0
    assert chart.draw([Outcome("steps", "nothing", [])], "here") is None


def test_a_worker_answers_and_survives_a_failure(tmp_path: Path) -> None:
    data.save(tmp_path / "in.npz", {"a": np.ones(2)})
    made = peers.Task(lambda: np.float32(0.5), {"loss": np.ones(())}, {"compile_seconds": 1.0})
    order = {
        "do": "prepare",
        "id": "x",
        "kind": "step",
        "of": "lenet",
        "data": str(tmp_path / "in.npz"),
        "out": str(tmp_path / "out.npz"),
    }
    turn = {"do": "turn", "id": "x", "seconds": 0.0}
    lines = io.StringIO(
        "".join(json.dumps(line) + "\n" for line in (order, turn, {"do": "drop"}, turn))
    )
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


def _smoke(out: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    status = main(["--smoke", "--out", str(out), *flags])
    return status, json.loads((out / results.RESULT).read_text())


@pytest.mark.slow
def test_a_smoke_run_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A package that cannot be imported stands in the way of flax, which is left out with a
    note."""
    (tmp_path / "flax").mkdir()
    (tmp_path / "flax" / "__init__.py").write_text("raise ImportError('no flax here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    out = tmp_path / "out"
    rows_file = tmp_path / "deep" / "rows.json"
    status, found = _smoke(
        out,
        "--model",
        "lenet",
        "--peers",
        "autodiff,flax",
        "--threads",
        "1",
        "--json",
        str(rows_file),
    )
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
    summary = json.loads(rows_file.read_text())
    assert [summary[name] for name in ("model", "batch", "threads", "interrupted")] == [
        "lenet",
        4,
        1,
        False,
    ]
    assert [row["name"] for row in summary["rows"]] == ["jaxcnn", "autodiff", "flax"]
    assert [row["step_ms"] for row in summary["rows"]] == [
        1e3 * ours["median"],
        1e3 * plain["median"],
        None,
    ]
    assert summary["rows"][0]["temp_bytes"] > 0
    assert (summary["machine"], summary["versions"]) == (found["machine"], found["versions"])
    turns = [json.loads(line) for line in (out / results.TURNS).read_text().splitlines()]
    assert [(turn["round"], turn["label"]) for turn in turns] == [
        (number, label)
        for number in (1, 2)
        for label in ("jaxcnn", "autodiff", "matmul 2048² by jaxcnn")
    ]
    assert matplotlib.image.imread(out / results.PICTURE).std() > 0
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [results.RESULT, results.TURNS, results.PICTURE]
    )
    printed = capsys.readouterr()
    assert (
        "flax (lenet, batch 4): not installed (no flax here); `pip install -e '.[bench]'` brings"
        " flax" in printed.out
    )
    assert f"Results and picture are in {out}: bench.json, bench.jsonl, bench.png" in printed.out
    assert f"The steps of lenet, peer by peer, are in {rows_file}" in printed.out
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
    status, found = _smoke(tmp_path, "--peers", "jaxcnn", "--json", str(tmp_path / "rows.json"))
    assert (status, found["interrupted"]) == (130, True)
    assert len(found["results"][0]["rows"][0]["seconds"]) == 1
    summary = json.loads((tmp_path / "rows.json").read_text())
    assert (summary["interrupted"], [row["name"] for row in summary["rows"]]) == (True, ["jaxcnn"])
    assert (tmp_path / results.PICTURE).exists()
    assert "Interrupted: the tables show the turns until then" in capsys.readouterr().out
    assert len(started) == 2
    for one in started:
        with pytest.raises(ProcessLookupError):
            os.kill(one._process.pid, 0)


@pytest.mark.slow
def test_the_overhead_of_a_run_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert overhead.main(["--smoke"]) == 0
    assert re.search(
        r"bare loop [\d.]+ ms a step, fit with checkpoints, log and bar [\d.]+: [+-][\d.]+%",
        capsys.readouterr().out,
    )
