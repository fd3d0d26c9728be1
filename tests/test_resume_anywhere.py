"""A run that goes on with other devices, or other processes, is the same run: the same examples in
the same order, so that losses differ by rounding alone.

On the same number the bits are the same: `test_kill.py`. Here too every way to end a run: SIGKILL,
SIGTERM, a full disk, a reader who leaves."""

import itertools
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from run_files import free_port, interrupted, train, write_npz

from jaxcnn.__main__ import main
from jaxcnn._io.lines import read_lines

ROUNDING = 1e-6  # relative, in float32
LAYOUTS = {"1": (), "2": ("--devices", "2"), "4 cut": ("--devices", "4", "--cut"), "8": ("--devices", "8"), "8 cut": ("--devices", "8", "--cut")}  # fmt: skip


def losses(out: Path) -> np.ndarray:
    return np.array([loss for line in read_lines(out / "metrics.jsonl") for loss in line["losses"]])


def check_same(out: Path, whole: Path) -> None:
    got, expected = losses(out), losses(whole)
    assert len(got) == len(expected)
    print(f"losses of {len(got)} steps differ by at most {np.abs(got / expected - 1).max():.1e}")
    np.testing.assert_allclose(got, expected, rtol=ROUNDING)


MORE = (
    "--batch-size",
    "16",
    "--checkpoint-every",
    "5",
    "--watch-every",
    "5",
    "--augment",
    "crop",
    "flip",
    "--average",
    "0.9",
)
ONE = ("--epochs", "4", *MORE)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On one device, undisturbed."""
    out = tmp_path_factory.mktemp("one")
    assert train(write_npz(out.with_suffix(".npz")), out, *ONE) == 0
    return out


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param(*pair, marks=pytest.mark.slow)
        for pair in [("8 cut", "2"), ("1", "4 cut"), ("8", "1")]
    ],
)
def test_from_the_middle_of_an_epoch_on_other_devices(
    first: str, then: str, one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with interrupted(monkeypatch):
        assert train(one.with_suffix(".npz"), tmp_path, *ONE, *LAYOUTS[first]) == 130
    assert len(losses(tmp_path)) % 12, "the middle of an epoch"
    more = LAYOUTS[then] or ("--devices", "1")
    assert (
        main(
            [
                "train",
                "--resume",
                "--out",
                str(tmp_path),
                *more,
                *(() if "--cut" in more else ("--no-cut",)),
            ]
        )
        == 0
    )
    check_same(tmp_path, one)


SMOOTH = Path(__file__).with_name("smooth_worker.py")
LONG = ("--model", "vgg6", "--epochs", "20", *MORE)
CHAIN = ("1", "8", "2", "4 cut")


def start(out: Path, *more: str, devices: int = 8, pipe: bool = False) -> subprocess.Popen[bytes]:
    """``python -m jaxcnn train`` of a network without kinks, with so many devices to choose
    from."""
    environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    where = subprocess.PIPE if pipe else subprocess.DEVNULL
    command = [sys.executable, str(SMOOTH), "train", "--out", str(out), *more]
    return subprocess.Popen(
        command, env=environment, stdout=where, stderr=subprocess.STDOUT if pipe else where
    )


def written(out: Path) -> int:
    log = out / "metrics.jsonl"
    return len(read_lines(log)) if log.exists() else 0


def wait_for(lines: int, out: Path, *workers: subprocess.Popen[bytes]) -> None:
    """Until the log has so many lines."""
    began = time.monotonic()
    while written(out) < lines:
        assert all(worker.poll() is None for worker in workers), [
            worker.returncode for worker in workers
        ]
        assert time.monotonic() - began < 120
        time.sleep(0.01)


def end(way: str, out: Path, process: subprocess.Popen[bytes]) -> None:
    """End a run in the middle."""
    if way == "full disk":  # no file may become longer than this, from now on
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, 1000))
    elif way == "lost reader":
        assert process.stdout is not None
        process.stdout.close()
        wait_for(written(out) + 2, out, process)  # it goes on
        process.kill()
    elif way == "SIGTERM":
        process.terminate()
    else:
        process.kill()
    expected = {"full disk": 1, "SIGTERM": 130}.get(way, -9)
    assert process.wait(60) == expected


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On one device, undisturbed, in a process of its own."""
    out = tmp_path_factory.mktemp("whole")
    data = write_npz(out.with_suffix(".npz"))
    assert start(out, "--data", str(data), *LONG).wait(240) == 0
    return out


WAYS = list(
    itertools.islice(itertools.cycle(["SIGKILL", "SIGTERM", "full disk", "lost reader"]), 21)
)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(7))
def test_killed_on_1_8_and_2_devices_and_ended_on_4(
    number: int, whole: Path, tmp_path: Path
) -> None:
    """Three ends each."""
    chance, out = random.Random(number), tmp_path / "run"
    more: tuple[str, ...] = ("--data", str(whole.with_suffix(".npz")), *LONG)
    for layout, way in zip(CHAIN, WAYS[3 * number : 3 * number + 3], strict=False):
        process = start(out, *more, *LAYOUTS[layout], pipe=way == "lost reader")
        wait_for(written(out) + chance.randrange(1, 6), out, process)
        time.sleep(chance.uniform(0, 0.1))
        end(way, out, process)
        print(f"{way} on {layout} after {len(losses(out))} steps")
        more = ("--resume",)
    assert start(out, "--resume", *LAYOUTS[CHAIN[-1]]).wait(240) == 0
    check_same(out, whole)


@pytest.mark.slow
def test_killed_in_two_processes_and_ended_in_one_and_in_four(whole: Path, tmp_path: Path) -> None:
    out, more = tmp_path / "run", ("--data", str(whole.with_suffix(".npz")), *LONG)
    for processes, lines in (2, 4), (1, 4), (4, 0):
        at = f"127.0.0.1:{free_port()}"
        together = (
            ("--coordinator", at, "--processes", str(processes), "--process")
            if processes > 1
            else ()
        )
        cut = "--cut" if processes == 2 else "--no-cut"
        workers = [
            start(
                out,
                *more,
                "--devices",
                "0",
                cut,
                *together,
                *([str(index)] if together else []),
                devices=2 if processes == 2 else 1,
            )
            for index in range(processes)
        ]
        if lines:
            wait_for(written(out) + lines, out, *workers)
            workers[-1].kill()
            assert [worker.wait(60) for worker in workers][:-1] == [1] * (processes - 1)
            print(f"killed in {processes} processes after {len(losses(out))} steps")
        else:
            assert [worker.wait(240) for worker in workers] == [0] * processes
        more = ("--resume",)
    check_same(out, whole)
