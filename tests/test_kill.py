"""Runs that are killed with SIGKILL, at any moment, and resumed: the same bits as one that never
was. Real processes; minutes, so in the slow tier."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxcnn._io.lines import read_lines

STEPS_BETWEEN = 50


def command(data: Path, out: Path, *more: str) -> list[str]:
    settings = [
        "--model",
        "lenet",
        "--epochs",
        "20",
        "--batch-size",
        "4",
        "--checkpoint-every",
        str(STEPS_BETWEEN),
        "--average",
        "0.9",
    ]
    return [
        sys.executable,
        "-m",
        "jaxcnn",
        "train",
        "--data",
        str(data),
        "--out",
        str(out),
        *settings,
        *more,
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, rng = tmp_path_factory.mktemp("data") / "noise.npz", np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    images = (rng.integers(0, 120, (300, 8, 8)) + 60 * labels[:, None, None]).astype(np.uint8)
    np.savez(
        path,
        train_images=images[:240],
        train_labels=labels[:240],
        test_images=images[240:],
        test_labels=labels[240:],
    )
    return path


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbs."""
    out = tmp_path_factory.mktemp("whole")
    subprocess.run(command(data, out), check=True, capture_output=True)
    return out


def losses(out: Path) -> list[float]:
    return [loss for line in read_lines(out / "metrics.jsonl") for loss in line["losses"]]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_a_killed_run_ends_as_one_that_was_not(
    number: int, data: Path, whole: Path, tmp_path: Path
) -> None:
    out, chance = tmp_path / "run", random.Random(number)
    # Three before the first step; the others after so many lines of the log, and a moment more, as
    # a machine's pace changes
    lines = -1 if number < 3 else chance.randrange(len(read_lines(whole / "metrics.jsonl")))
    process = subprocess.Popen(
        command(data, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while lines >= 0 and process.poll() is None and len(written(out)) <= lines:
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 8 if lines < 0 else 0.3))
    process.kill()
    process.wait()
    states = out / "checkpoints"
    kept = (
        sorted(int(path.name) for path in states.iterdir() if path.name.isdigit())
        if states.exists()
        else []
    )
    begun = (out / "config.json").exists()
    again = subprocess.run(
        command(data, out, *(["--resume"] if begun else [])),
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    if kept:
        assert f"goes on from step {kept[-1]:,} of 1,200\n" in again.stderr
    print(f"killed after {lines} lines of the log; went on from step {kept[-1] if kept else 0}")
    assert weights(out) == weights(whole)
    assert losses(out) == losses(whole)


def written(out: Path) -> list[object]:
    log = out / "metrics.jsonl"
    return list(read_lines(log)) if log.exists() else []


def weights(out: Path) -> dict[str, bytes]:
    """Every array to the bit (the file also tells in which folder the run was)."""
    from safetensors.numpy import load_file

    return {name: array.tobytes() for name, array in load_file(out / "model.safetensors").items()}
