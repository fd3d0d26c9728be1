"""Real processes that train together, over loopback: the same gradients, parameters and accuracy as one alone."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from process_worker import train_together
from run_files import SHORT, train, write_npz
from safetensors.numpy import load_file
from test_layout import batch, distance, small_net

WORKER = Path(__file__).with_name("process_worker.py")


def free_port() -> int:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return own.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["data"]])
@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_are_one_alone(tmp_path, count, more):
    out, address = tmp_path / "found.npz", f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=1"}  # fmt: skip
    commands = [[sys.executable, "-W", "error", str(WORKER), address, str(count), str(index), str(out), *more] for index in range(count)]  # fmt: skip
    workers = [subprocess.Popen(c, env=environment, stderr=subprocess.PIPE, text=True) for c in commands]
    ends = [(worker.communicate(timeout=240)[1], worker.returncode) for worker in workers]
    assert [status for _, status in ends] == [0] * count, ends
    with np.load(out) as found:
        alone = train_together(None, 0, 1, small_net(), batch(48))
        assert found.files == list(alone)
        for name, value in alone.items():
            assert distance(value, found[name]) < (2e-6 if name.startswith("first") else 1e-4), name
        assert found["accuracy"].tolist() == alone["accuracy"].tolist()


@pytest.mark.slow
def test_the_command_in_two_processes_leaves_what_one_does(tmp_path: Path) -> None:
    """Parameters cut up among them, their average, and the norms of layers are whole again in the files."""
    data, alone, together = write_npz(tmp_path / "stripes.npz"), tmp_path / "alone", tmp_path / "together"
    more = ["--average", "0.9", "--watch-every", "10"]
    assert train(data, alone, *more) == 0
    address = f"127.0.0.1:{free_port()}"
    settings = ["--data", str(data), "--out", str(together), *SHORT, *more, "--devices", "0", "--cut", "--coordinator", address, "--processes", "2"]  # fmt: skip
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    commands = [[sys.executable, "-m", "jaxcnn", "train", *settings, "--process", str(index)] for index in range(2)]
    workers = [subprocess.Popen(c, env=environment, stderr=subprocess.PIPE, text=True) for c in commands]
    ends = [(worker.communicate(timeout=240)[1], worker.returncode) for worker in workers]
    assert [status for _, status in ends] == [0, 0], ends
    assert {path.name for path in together.iterdir()} == {path.name for path in alone.iterdir()}
    found, expected = (load_file(out / "model.safetensors") for out in (together, alone))
    assert list(found) == list(expected)
    assert all(distance(value, found[name]) < 1e-4 for name, value in expected.items())
