"""Real processes that should train together and cannot, and runs that meet in one folder: one line
each, nothing trained, nobody hangs."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from run_files import SHORT, arrays, free_port, write_npz

from jaxcnn._io.lines import read_lines

pytestmark = pytest.mark.slow
WAIT = 5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "stripes.npz")


def begin(settings: dict[str, str], *python: str) -> subprocess.Popen[str]:
    """``python -m jaxcnn train`` on one device."""
    every = dict(zip(SHORT[::2], SHORT[1::2], strict=True)) | settings
    command = [
        sys.executable,
        *python,
        "-m",
        "jaxcnn",
        "train",
        *(word for pair in every.items() for word in pair),
    ]
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def ends(workers: list[subprocess.Popen[str]], within: float = 60) -> list[tuple[int, list[str]]]:
    """The status of each and the lines that it said, of processes that all end in time."""
    told = [worker.communicate(timeout=within)[1].splitlines() for worker in workers]
    return [
        (worker.returncode, [line for line in each if line])
        for worker, each in zip(workers, told, strict=True)
    ]


def together(
    count: int,
    settings: dict[str, object],
    *,
    odd: dict[str, str] | None = None,
    missing: int | None = None,
) -> list[subprocess.Popen[str]]:
    """The processes of a run; the last of them has what is ``odd``, one does not come."""
    meeting = {
        "--coordinator": f"127.0.0.1:{free_port()}",
        "--processes": str(count),
        "--devices": "0",
        "--wait": str(WAIT),
    }
    same = meeting | {f"--{name}": str(value) for name, value in settings.items()}
    return [
        begin(same | {"--process": str(number)} | (odd or {} if number == count - 1 else {}))
        for number in range(count)
        if number != missing
    ]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    "odd", [{"--seed": "1"}, {"--model": "lenet"}, {"--batch-size": "40"}, {"--augment": "flip"}]
)
def test_with_different_settings(
    count: int, odd: dict[str, str], data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    name, value = next(iter(odd.items()))
    for status, said in ends(together(count, {"data": data, "out": out}, odd=odd)):
        assert status == 2
        assert len(said) == 1
        assert f"process {count - 1} has {name} {value}, process 0 has" in said[0]
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.parametrize("count", [2, 3])
def test_with_other_data(count: int, data: Path, tmp_path: Path) -> None:
    """Of one name and shape, with one pixel that differs."""
    images = arrays()["train_images"].copy()
    images[7, 0, 0] ^= 1
    (tmp_path / "elsewhere").mkdir()
    other = write_npz(tmp_path / "elsewhere/stripes.npz", train_images=images)
    out = tmp_path / "out"
    for status, said in ends(
        together(count, {"data": data, "out": out}, odd={"--data": str(other)})
    ):
        assert status == 2
        assert len(said) == 1
        assert f"process {count - 1} has the data " in said[0] or f"has --data {other}" in said[0]
    assert not (out / "config.json").exists()


@pytest.mark.parametrize(("count", "missing"), [(2, 0), (2, 1), (3, 0), (3, 2)])
def test_with_one_missing(count: int, missing: int, data: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    for status, said in ends(
        together(count, {"data": data, "out": tmp_path / "out"}, missing=missing)
    ):
        assert status == 1
        assert said[-1].startswith("error: ")
        assert (
            f"process {missing}" in said[-1] or "process 0 ended before the run began" in said[-1]
        )
        assert len(said) == 1
    assert time.monotonic() - began < WAIT + 30
    assert not (tmp_path / "out/config.json").exists()


@pytest.mark.parametrize("count", [2, 3])
def test_with_a_folder_that_is_not_shared(count: int, data: Path, tmp_path: Path) -> None:
    for status, said in ends(
        together(
            count, {"data": data, "out": tmp_path / "out"}, odd={"--out": str(tmp_path / "other")}
        )
    ):
        assert status == 2, said
        assert len(said) == 1
        assert "--out" in said[0]
    assert not (tmp_path / "out/config.json").exists()


@pytest.mark.parametrize(("count", "killed"), [(2, 0), (2, 1), (3, 0), (3, 1)])
@pytest.mark.parametrize("when", ["before the first step", "while it trains"])
def test_with_one_killed(count: int, killed: int, when: str, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    workers = together(count, {"data": data, "out": out, "epochs": 400, "batch-size": 24})
    began = time.monotonic()
    sign = out / ("config.json" if when == "before the first step" else "metrics.jsonl")
    while not sign.exists():
        assert all(worker.poll() is None for worker in workers), ends(workers)
        assert time.monotonic() - began < 120
        time.sleep(0.01)
    workers[killed].kill()
    workers[killed].communicate()
    left = [worker for number, worker in enumerate(workers) if number != killed]
    for status, said in ends(left):
        assert status == 1
        assert [line.startswith("error: ") for line in said].count(True) == 1
        assert f"process {killed}" in said[-1] or "process 0" in said[-1]
        assert not any("Traceback" in line for line in said)


def test_20_runs_begun_at_once_in_4_folders(data: Path, tmp_path: Path) -> None:
    """One trains in each; the others say who, before JAX is loaded."""
    folders = [tmp_path / f"run{number % 4}" for number in range(20)]
    workers = [
        begin({"--out": str(out), "--data": str(data), "--epochs": "40"}, "-X", "importtime")
        for out in folders
    ]
    found = ends(workers, within=240)
    for folder in dict.fromkeys(folders):
        own = [end for end, out in zip(found, folders, strict=True) if out == folder]
        others = [said for status, said in own if status != 0]
        assert len(others) == 4, own
        for said in others:
            assert not any("jax._src" in line for line in said)
            (line,) = [line for line in said if not line.startswith("import time:")]
            assert f"{folder}" in line
        losses = np.concatenate([each["losses"] for each in read_lines(folder / "metrics.jsonl")])
        assert len(losses) == 400
