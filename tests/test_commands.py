"""Every command as a process: its streams closed, full, or read by nobody; a terminal of five
columns that has no alphabet but ASCII."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from idx_files import write_folder
from run_files import SHORT, others, write_npz

from jaxcnn._io.command import BAD_INPUT, CLOSED, FAILED, STATUSES

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and devices")
ROOT = Path(__file__).parent.parent
EXPERIMENTS = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/__main__.py"))
COMMANDS = ["jaxcnn", *(f"jaxcnn {name}" for name in ("ops", "verify", "precision", "plan", "train", "eval", "predict")), *(f"experiments.{name}" for name in (*EXPERIMENTS, "bench.overhead", "bench.tpu"))]  # fmt: skip
# others share their ways, and have their turn in the slow tier
QUICK = "jaxcnn", "experiments.delta"
EVERY = [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in COMMANDS]
SECONDS = 300  # a bound for what hangs


@contextlib.contextmanager
def nobody() -> Iterator[int]:
    """A pipe whose reader has left."""
    ear, mouth = os.pipe()
    os.close(ear)
    yield mouth
    os.close(mouth)


@contextlib.contextmanager
def full() -> Iterator[int]:
    number = os.open("/dev/full", os.O_WRONLY)
    yield number
    os.close(number)


def ended(
    words: list[str],
    cwd: Path,
    *,
    out: Any = subprocess.PIPE,
    err: Any = subprocess.PIPE,
    closed: str = "",
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """The command, once it has ended. ``closed``: what a shell writes to close its streams."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **variables}
    command = [sys.executable, "-m", *words]
    with contextlib.ExitStack() as stack:
        out, err = (to if isinstance(to, int) else stack.enter_context(to()) for to in (out, err))
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", *command] if closed else command
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdout=out,
            stderr=err,
            text=True,
            errors="surrogateescape",
            timeout=SECONDS,
        )
    assert "Traceback" not in (done.stderr or ""), done.stderr
    assert "Exception ignored" not in (done.stderr or ""), done.stderr
    return done


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", EVERY)
def test_help_to_a_stdout_that_takes_nothing(command: str, unbuffered: str, tmp_path: Path) -> None:
    words = [*command.split(), "--help"]
    gone = ended(words, tmp_path, out=nobody, PYTHONUNBUFFERED=unbuffered)
    assert (gone.returncode, gone.stderr) == (CLOSED, "")
    disk = ended(words, tmp_path, out=full, PYTHONUNBUFFERED=unbuffered)
    assert (disk.returncode, disk.stderr.count("\n")) == (FAILED, 1)
    assert "No space left on device" in disk.stderr
    none = ended(words, tmp_path, closed=">&-", PYTHONUNBUFFERED=unbuffered)
    assert (none.returncode, none.stderr) == (0, "")


@pytest.mark.parametrize("command", EVERY)
def test_help_on_a_narrow_terminal_without_letters(command: str, tmp_path: Path) -> None:
    for columns in ("5", "x"):
        done = ended(
            [*command.split(), "--help"],
            tmp_path,
            LC_ALL="C",
            PYTHONUTF8="0",
            PYTHONCOERCECLOCALE="0",
            COLUMNS=columns,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.isascii()
        assert "".join(STATUSES.split()) in re.sub(r"[\s|│]|\\u2502", "", done.stdout)


@pytest.mark.parametrize("command", EVERY)
def test_what_cannot_be_read_without_streams(command: str, tmp_path: Path) -> None:
    words = [*command.split(), "--no-such-flag"]
    for closed in (">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"):
        assert ended(words, tmp_path, closed=closed).returncode == BAD_INPUT, closed
    assert ended(words, tmp_path, err=nobody).returncode == BAD_INPUT


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "stripes.npz")


def trains(data: Path, out: Path, *more: str) -> list[str]:
    return ["jaxcnn", "train", "--data", str(data), "--out", str(out), *others(SHORT, more), *more]


UNHEARD = [{"out": nobody, "err": nobody}, {"out": full, "err": full}, {"closed": ">&- 2>&-"}, {"closed": "<&- >&- 2>&-"}]  # fmt: skip


@pytest.mark.parametrize("streams", [UNHEARD[0], *(pytest.param(streams, marks=pytest.mark.slow) for streams in UNHEARD[1:])])  # fmt: skip
def test_a_run_trains_to_its_end_where_nobody_hears_it(
    streams: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "[0.1] *\udcff"
    assert ended(trains(data, out), tmp_path, **streams).returncode == 0
    assert '"steps": 30,' in (out / "result.json").read_text(encoding="utf-8")
    assert (out / "model.safetensors").exists()
    assert ended(["jaxcnn", "eval", str(out)], tmp_path).stdout.startswith("stripes: ")


@pytest.mark.slow
def test_a_run_trains_on_when_its_reader_leaves(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", *trains(data, tmp_path / "out", "--epochs", "40")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert next(line for line in process.stderr if line.startswith("step"))
        process.stderr.close()
        process.stdout.close()
        assert process.wait(SECONDS) == 0
    assert '"steps": 400,' in (tmp_path / "out" / "result.json").read_text(encoding="utf-8")


PRODUCTS = ["jaxcnn ops", "jaxcnn ops --markdown", "jaxcnn verify --op relu --jobs 1", "jaxcnn precision --op relu", "jaxcnn plan --model lenet --topology cpu:2 --batch 8"]  # fmt: skip


@pytest.mark.parametrize("command", [pytest.param(words, marks=pytest.mark.slow) for words in PRODUCTS])  # fmt: skip
def test_a_product_that_goes_nowhere_ends_its_command(command: str, tmp_path: Path) -> None:
    for unbuffered in ("", "1"):
        gone = ended(command.split(), tmp_path, out=nobody, PYTHONUNBUFFERED=unbuffered)
        assert (gone.returncode, gone.stderr) == (CLOSED, "")
        disk = ended(command.split(), tmp_path, out=full, PYTHONUNBUFFERED=unbuffered)
        assert (disk.returncode, disk.stderr.count("\n")) == (FAILED, 1)
        assert "No space left on device" in disk.stderr
    assert ended(command.split(), tmp_path, closed=">&-").returncode == 0


@pytest.mark.slow
def test_an_answer_that_goes_nowhere(data: Path, tmp_path: Path) -> None:
    assert ended(trains(data, tmp_path / "out"), tmp_path).returncode == 0
    for words in (["eval", "out"], ["eval", "out", "--json", "/dev/stdout"]):
        assert ended(["jaxcnn", *words], tmp_path, out=nobody).returncode == CLOSED
        disk = ended(["jaxcnn", *words], tmp_path, out=full)
        assert (disk.returncode, disk.stderr.count("\n")) == (FAILED, 1)
        assert ended(["jaxcnn", *words], tmp_path, closed="2>&-").returncode == 0
    disk = ended(["jaxcnn", "eval", "out", "--json", "/dev/full"], tmp_path)
    assert (disk.returncode, disk.stderr.count("\n")) == (FAILED, 1)
    assert "error: /dev/full: No space left on device" in disk.stderr


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in EXPERIMENTS])  # fmt: skip
def test_an_experiment_comes_to_its_end_where_nobody_hears_it(name: str, tmp_path: Path) -> None:
    short = ["--epochs", "1", "--model", "mlp"] if name == "mnist" else ["--smoke"]
    words = [f"experiments.{name}", *short, "--out", str(tmp_path / "[0.1] *\udcff")]
    if name in ("vanishing", "recurrent", "features", "feedback", "digits", "mnist"):
        words += [
            "--data-dir",
            str(write_folder(tmp_path / "images", train=300, test=120, size=28)),
        ]
    assert ended(words, tmp_path, out=nobody, err=nobody).returncode == 0
    written = {path.name for path in (tmp_path / "[0.1] *\udcff").iterdir()}
    assert any(name.endswith(".json") and name != "manifest.json" for name in written)
    assert not any(name.endswith(".part") for name in written)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_experiment_that_is_interrupted_says_so(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments.seesaw", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        while not (tmp_path / "out" / "manifest.json").exists():
            assert process.poll() is None
        process.send_signal(number)
        _, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, said) == (130, "error: interrupted before the run was complete\n")
