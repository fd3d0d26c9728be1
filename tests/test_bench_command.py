"""The command line of the comparison with peers: who takes part, what is refused before any work.
And what all experiments' command lines share."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from run_files import others

from experiments import command
from experiments.bench.__main__ import main
from experiments.bench.cases import CASES
from experiments.bench.config import Config, parse
from experiments.bench.sections import contests
from jaxcnn._io.command import InputError, RunError

TORCHES = "torch", "torch.channels_last", "torch.compile"
REFUSED = {
    "--batch 0": "--batch must be an integer ≥ 1, got 0",
    "--rounds 0": "--rounds must be an integer ≥ 1, got 0",
    "--threads 0": "--threads must be an integer in [1, ",
    "--seed -1": "--seed must be an integer ≥ 0, got -1",
    "--model foo": (
        "--model must be one or more of lenet,vgg6,resnet20, each once, with commas between,"
        " got foo"
    ),
    "--model lenet,lenet": "with commas between, got lenet,lenet",
    "--model ,": "with commas between, got none",
    "--what steps,naps": "--what must be one or more of steps,ops,epochs,ensembles, each once",
    "--peers tensorflow": (
        "--peers must be one or more of"
        " jaxcnn,autodiff,flax,torch,torch.channels_last,torch.compile,"
    ),
    "--smoke --batch 8": "--smoke sets --batch itself; leave --batch out",
    "--what ensembles --model vgg6": "--what ensembles needs --model lenet, got vgg6",
    "--json {tmp}/rows.json": "--json needs one --model, got lenet,vgg6,resnet20",
    "--smoke --what ops --json {tmp}/rows.json": "--json needs steps in --what, got ops",
    "--smoke --json {tmp}": " is a folder; give a file",
    "--smoke --json {tmp}/file/rows.json": "/file is a file; give a folder",
    "--smoke --json {tmp}/file/deep/rows.json": (
        "cannot be written to (Not a directory); give another folder"
    ),
    "--smoke --json {tmp}/out/bench.json": "/out/bench.json is a file that --out gets anyway",
    "--out {tmp}/file": "is a file; give a folder",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: str
) -> None:
    (tmp_path / "file").touch()
    more = flags.format(tmp=tmp_path).split()
    assert main([*others(["--out", str(tmp_path / "out")], more), *more]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert REFUSED[flags] in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("flags", ["--batch many", "--model lenet vgg6", "stray"])
def test_what_is_no_flag_is_refused_with_status_2(tmp_path: Path, flags: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--out", str(tmp_path), *flags.split()])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("peers", "beside"),
    [
        ("autodiff,flax,torch", ("autodiff", "flax", *TORCHES)),
        ("torch, jaxcnn", TORCHES),
        ("torch,torch.compile", TORCHES),
        ("torch.compile,autodiff", ("autodiff", "torch.compile")),
        ("jaxcnn", ()),
        ("", ()),
    ],
)
def test_jaxcnn_always_takes_part(peers: str, beside: tuple[str, ...]) -> None:
    assert parse(["--peers", peers]).contestants == ("jaxcnn", *beside)


def test_every_section_has_its_contests() -> None:
    every = contests(parse(["--what", "steps,ops,epochs,ensembles"]))
    titles = [one.title for one in every]
    assert len(set(titles)) == len(titles) == 3 + 2 * len(CASES) + 3 + 2
    for one in every:
        assert {entry.data for entry in one.entries} <= set(one.draw)
        assert len({(entry.peer, entry.order.id) for entry in one.entries}) == len(one.entries)
    assert [entry.peer for entry in every[0].entries if entry.peak] == ["jaxcnn", "torch"]
    assert parse(["--smoke"]).model == parse(["--smoke", "--model", "lenet"]).model == ("lenet",)
    assert Config().contestants == parse([]).contestants


def _raise(error: BaseException) -> bool:
    raise error


def _terminate() -> bool:
    signal.raise_signal(signal.SIGTERM)
    return False


@pytest.mark.parametrize(
    ("work", "status", "said"),
    [
        (lambda: False, 0, ""),
        (lambda: True, 130, ""),
        (lambda: _raise(InputError("--x must be 1, got 2")), 2, "error: --x must be 1, got 2\n"),
        (lambda: _raise(RunError("no more")), 1, "error: no more\n"),
        (lambda: _raise(OSError("disk full")), 1, "error: disk full\n"),
        (
            lambda: _raise(KeyboardInterrupt()),
            130,
            "error: interrupted before the run was complete\n",
        ),
        (_terminate, 130, "error: interrupted before the run was complete\n"),
    ],
)
def test_the_exit_status_says_how_it_ended(
    capsys: pytest.CaptureFixture[str], work: Callable[[], bool], status: int, said: str
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert command.run(work) == status
    assert capsys.readouterr().err == said
    assert signal.getsignal(signal.SIGTERM) is before


def test_help_waits_for_no_heavy_package() -> None:
    code = """
import sys, experiments.bench.__main__, experiments.mnist.__main__
print([m for m in ("jax", "matplotlib", "optax", "rich", "torch") if m in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
