"""Real processes that train together, over loopback: the same gradients, parameters and accuracy as
one alone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from process_worker import train_together
from run_files import SHORT, free_port, others, train, write_npz
from safetensors.numpy import load_file
from test_layout import batch, distance, small_net

from jaxcnn._io.lines import read_lines

WORKER = Path(__file__).with_name("process_worker.py")


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["data"]])
@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_are_one_alone(tmp_path, count, more):
    out, address = tmp_path / "found.npz", f"127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=1",
    }
    commands = [
        [
            sys.executable,
            "-W",
            "error",
            str(WORKER),
            address,
            str(count),
            str(index),
            str(out),
            *more,
        ]
        for index in range(count)
    ]
    workers = [
        subprocess.Popen(c, env=environment, stderr=subprocess.PIPE, text=True) for c in commands
    ]
    ends = [(worker.communicate(timeout=240)[1], worker.returncode) for worker in workers]
    assert [status for _, status in ends] == [0] * count, ends
    with np.load(out) as found:
        alone = train_together(None, 0, 1, small_net(), batch(48))
        assert found.files == list(alone)
        for name, value in alone.items():
            assert distance(value, found[name]) < (2e-6 if name.startswith("first") else 1e-4), name
        assert found["accuracy"].tolist() == alone["accuracy"].tolist()


def commands(out: Path, *more: str) -> list[subprocess.Popen[str]]:
    """``python -m jaxcnn train`` in two processes of two devices each."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    settings = ["--out", str(out), "--cut", "--processes", "2"]
    settings += [
        "--coordinator",
        f"127.0.0.1:{free_port()}",
        *others(("--devices", "0"), more),
        *more,
    ]
    each = [
        [sys.executable, "-m", "jaxcnn", "train", *settings, "--process", str(index)]
        for index in range(2)
    ]
    return [subprocess.Popen(c, env=environment, stderr=subprocess.PIPE, text=True) for c in each]


def ends(workers: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Status and messages."""
    told = [worker.communicate(timeout=240)[1] for worker in workers]
    return [(worker.returncode, each) for worker, each in zip(workers, told, strict=True)]


@pytest.mark.slow
def test_the_command_in_two_processes_leaves_what_one_does(tmp_path: Path) -> None:
    """Parameters cut up among them, their average, and the norms of layers are whole again in the
    files; also where a signal to one of them interrupts both."""
    data, alone, out = (
        write_npz(tmp_path / "stripes.npz"),
        tmp_path / "alone",
        tmp_path / "together",
    )
    more = ["--average", "0.9", "--watch-every", "10", "--epochs", "40"]
    assert train(data, alone, *more) == 0
    workers = commands(out, "--data", str(data), *others(SHORT, more), *more)
    began = time.monotonic()
    while not (out / "metrics.jsonl").exists() or len(read_lines(out / "metrics.jsonl")) < 3:
        assert all(worker.poll() is None for worker in workers), ends(workers)
        assert time.monotonic() - began < 240
        time.sleep(0.05)
    workers[1].terminate()
    found = ends(workers)
    assert [status for status, _ in found] == [130, 130], found
    assert "in each process with its --coordinator" in found[0][1]
    found = ends(commands(out, "--resume"))
    assert [status for status, _ in found] == [0, 0], found
    assert {path.name for path in out.iterdir()} == {path.name for path in alone.iterdir()}
    steps, expected_steps = (
        [line["step"] for line in read_lines(each / "metrics.jsonl") if "norms" in line]
        for each in (out, alone)
    )
    assert steps == expected_steps
    weights, expected = (load_file(each / "model.safetensors") for each in (out, alone))
    assert list(weights) == list(expected)
    assert all(distance(value, weights[name]) < 1e-3 for name, value in expected.items())


@pytest.mark.slow
def test_a_process_that_cannot_begin_is_told_of(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "stripes.npz")
    found = ends(commands(tmp_path / "out", "--data", str(data), *SHORT, "--devices", "1"))
    assert [status for status, _ in found] == [2, 2], found
    assert all(
        "--devices 1: leaves some of the 2 processes without one; give 0 for all 4" in told
        for _, told in found
    )
    assert not any("Traceback" in told for _, told in found)
