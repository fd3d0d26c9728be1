"""``python -m jaxcnn verify``: what is planned, what the workers do, what is printed and written,
and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
import types
from argparse import ArgumentParser
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxcnn.__main__ import main
from jaxcnn.verify._commands import arguments, asked, board, tasks, worker
from jaxcnn.verify._commands import verify as command
from jaxcnn.verify._report import Report, Verdict

PROVER = '''
"""Ops that prove themselves quickly, in the place of the true ones."""
import os, sys, time, types
from pathlib import Path
import jax, numpy as np
from jaxcnn.verify._report import Failure, Mismatch, Report, Verdict

def prove_case(op, case, *, seed, dtypes, only):
    print("noise on stdout", flush=True)
    os.write(1, b"and below it")
    assert sys.stdin.read() == "" and jax.device_count() == 8
    failures = ()
    if op.name == "raises":
        raise ZeroDivisionError("on purpose")
    if op.name == "dies":
        print("last words", file=sys.stderr)
        os._exit(3)
    if op.name == "sleeps":
        Path("pid").write_text(str(os.getpid()))
        time.sleep(60)
    if op.name == "wrong":
        expected = np.eye(3)
        m = Mismatch(2 * expected, expected, (0, 0), 1.0, 1e16, 3, 9, 1e-10, pattern="scaled by 2")
        failures = (Failure("gradient", "args[0]", str(m), "a factor", m, "check(f)"),)
    verdict = Verdict("gradient", "why", "FAILED" if failures else "holds", failures, f"{dtypes} {only}", 0.5, 1.0)
    return Report(f"{op.name}: {case}", {}, "float64", (verdict,), seed)

def prove_kinks(op, *, seed):
    return Report(f"{op.name}: kinks", {}, "float64", (Verdict("at 0", "", "holds"),), seed)

sys.modules["jaxcnn.verify._prove"] = sys.modules[__name__]
OPS = [types.SimpleNamespace(name=name, cases="abc"[: 3 if name == "good" else 1])
       for name in ("good", "wrong", "raises", "dies", "sleeps")]
'''
RUN = """
import sys, types
from argparse import ArgumentParser
from jaxcnn.verify._commands import asked
from jaxcnn.verify._commands import verify as command
ops = [types.SimpleNamespace(name=n, cases=[types.SimpleNamespace(label="a")], kinks=()) for n in ("good", "sleeps")]
parser = ArgumentParser()
asked.add_options(parser)
sys.exit(command.run(parser.parse_args(), ops, "provers:OPS"))
"""


def op(name, cases=1, kinks=()):
    return types.SimpleNamespace(
        name=name, cases=[types.SimpleNamespace(label=c) for c in "abc"[:cases]], kinks=kinks
    )


OPS = [op("good", 3, ("at 0",)), op("wrong"), op("raises"), op("dies")]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """The command on the ops above, in a folder of its own; gives the exit status and what was
    printed."""
    (tmp_path / "provers.py").write_text(PROVER)
    monkeypatch.chdir(tmp_path)

    def run(*options):
        parser = ArgumentParser()
        asked.add_options(parser)
        status = command.run(parser.parse_args(options), OPS, "provers:OPS")
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def test_good_and_bad_ends(run):
    status, out = run("--json", "a.json", "--html", "a.html", "--jobs", "1", "--seed", "5")
    assert status == 1
    found = json.loads(Path("a.json").read_text())
    assert (found["ok"], found["complete"], found["jax"]) == (False, True, jax.__version__)
    names = [report["name"] for report in found["reports"]]
    assert names == [
        "good: a",
        "good: b",
        "good: c",
        "good: kinks",
        "wrong: a",
        "raises",
        "dies, a",
    ]
    assert [report["ok"] for report in found["reports"]] == [True] * 4 + [False] * 3
    notes = [report["verdicts"][0]["note"] for report in found["reports"]]
    assert notes[1:3] == [
        "('float32', 'bfloat16') ()",
        "('float32', 'bfloat16') ('value', 'gradient')",
    ]
    assert found["reports"][0]["seed"] == 5
    assert "arrays" not in Path("a.json").read_text()
    died = found["reports"][6]["verdicts"][0]["failures"][0]
    assert "exit status 3" in died["message"]
    assert died["message"].endswith("last words")
    assert died["code"] == "python -m jaxcnn verify --op dies"
    assert "ZeroDivisionError: on purpose" in found["reports"][5]["reason"]
    page = Path("a.html").read_text()
    assert page.count("data:image/png") == 3
    assert "scaled by 2" in page
    assert "FAILED: wrong, raises, dies (3 of 4; " in out
    assert "again: python -m jaxcnn verify --op wrong --op raises --op dies --seed 5" in out
    assert "good                   4/4  2 holds; worst 5.0e-01 of allowed" in out
    assert sorted(path.name for path in Path().iterdir() if path.is_file()) == [
        "a.html",
        "a.json",
        "provers.py",
    ]


def test_all_is_well(run):
    status, out = run("--op", "good", "--full", "--dtype", "float64")
    assert status == 0
    assert "all checks hold: 1 op, 4 reports" in out
    assert "noise" not in out


def test_a_worker_that_cannot_start(run):
    Path("provers.py").write_text("raise RuntimeError('no ops today')")
    status, out = run()
    assert status == 1
    assert "no ops today" in out


# A shell that starts the suite in the background has told its children to ignore Ctrl-C
LISTEN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_stops_the_workers_and_keeps_what_there_is(run):
    process = subprocess.Popen(
        [sys.executable, "-c", f"{LISTEN}\n{RUN}", "--jobs", "1", "--json", "a.json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not Path("pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.1)  # for what stands in the file
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130, out
    assert "interrupted: 1 of 2 reports were made" in out
    assert "Traceback" not in out
    found = json.loads(Path("a.json").read_text())
    assert (found["ok"], found["complete"], [r["name"] for r in found["reports"]]) == (
        False,
        False,
        ["good: a"],
    )
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("pid").read_text()), 0)


@pytest.mark.parametrize(("options", "words"), [
    (["--op", "rleu"], "--op rleu: there is no such op; did you mean relu?"),
    (["--op", "zzzz"], "ops: dense, conv"),
    (["--module", "m:f"], "--module needs --shapes"),
    (["--module", "m:f", "--op", "relu"], "exclude each other"),
    (["--module", "m:f", "--shapes", "3,x"], "shape '3,x'"),
    (["--module", "m:f", "--shapes", "float33:3"], "dtype 'float33'"),
    (["--module", "m:f", "--shapes", "3", "--setting", "padding=SAME"], "a string is written \"padding='SAME'\""),
    (["--module", "m:f", "--shapes", "3", "--setting", "stride"], "expected NAME=VALUE"),
    (["--module", "m:f", "--shapes", "3", "--high", "0"], "--high 0"),
    (["--shapes", "3"], "--shapes goes with --module"),
    (["--json", "no/such/folder.json"], "its folder does not exist"),
    (["--html", "."], "is a folder"),
    (["--jobs", "0"], "--jobs 0"),
])  # fmt: skip
def test_bad_usage(options, words, capsys):
    assert main(["verify", *options]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert words in said.err
    assert not said.out


def test_a_function_of_one_s_own(run):
    Path("mine.py").write_text(
        "import jax\nf = jax.custom_vjp(lambda x, k: x ** 2 * k, nondiff_argnums=())\n"
        "f.defvjp(lambda x, k: (x ** 2 * k, (x, k)), lambda r, dy: (3 * r[0] * r[1] * dy, None))\n"
        "def wrong(x, k, *, times=1): return f(x, k.sum()) * times\n"
        "def right(x, k, *, times=1): return x * x * k.sum() * times\n"
    )
    options = (
        "--shapes",
        "2,3;int32:4",
        "--reference",
        "mine:right",
        "--setting",
        "times=2",
        "--dtype",
        "float32",
    )
    status, out = run("--module", "mine:wrong", *options)
    assert (status, "gradient" in out, "2,3" in out) == (1, True, True), out
    assert (
        "again, with pictures: python -m jaxcnn verify --module mine:wrong --shapes '2,3;int32:4'"
        " --reference mine:right --setting times=2" in out
    )


@pytest.mark.parametrize(("name", "words"), [
    ("mine", "expected package.module:function"), ("no_such_module:f", "cannot be imported"), ("json:no.such", "json has no 'no'"),
])  # fmt: skip
def test_a_function_that_is_not_there(name, words):
    order = {"do": "function", "function": name, "reference": None}
    ready, answer = worker.serve((), iter([json.dumps(order)]))
    assert ready == {"ready": True}
    assert words in answer["usage"]


def test_what_is_drawn():
    parsed = arguments.parse("2,3;;int32:50;(4,);bfloat16:2;key;bool:3;complex64:2; float16:()")
    drawn = arguments.draw(parsed, seed=0, high=3)
    wanted = [
        ("float32", (2, 3)),
        ("float32", ()),
        ("int32", (50,)),
        ("float32", (4,)),
        ("bfloat16", (2,)),
        (str(jax.random.key(0).dtype), ()),
        ("bool", (3,)),
        ("complex64", (2,)),
        ("float16", ()),
    ]
    assert [(str(a.dtype), a.shape) for a in drawn] == wanted
    assert {int(i) for i in drawn[2]} == {0, 1, 2}
    again = arguments.draw(parsed, seed=0, high=3)
    assert all(np.array_equal(a, b) for a, b in zip(drawn[:5], again[:5], strict=True))


def test_the_plan():
    quick = tasks.plan(OPS, seed=0, dtypes=["float32"], full=False)
    full = tasks.plan(OPS, seed=0, dtypes=["float32"], full=True)
    only = [task.order.get("only") for task in quick if task.row == "good"]
    assert only == [[], [], ["value", "gradient"], None]  # the last are the kinks
    assert [task.label for task in quick] == ["a", "b", "c", "kinks", "a", "a", "a"]
    assert not any(task.order.get("only") for task in full)


def test_the_live_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    work = tasks.plan(OPS[:2], seed=0, dtypes=[], full=False)
    shown = board.Board(work)
    verdicts = (
        Verdict("value", "", "holds", worst=1e-12, allowed=1e-10),
        Verdict("vmap", "", "skipped"),
    )
    with board._live(shown) as tell:
        for task in work:
            failed = (Verdict("vmap", "", "FAILED"),) if task.row == "wrong" else ()
            shown.rows[task.row].add(
                Report("r", {}, "", verdicts + failed), "kinks" * (task.label == "kinks")
            )
            tell(task.row)
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert [line.split() for line in lines[1:3]] == [
        ["good", "4/4", "✓–✓", "1.0e-02", "0.0"],
        ["wrong", "1/1", "✓✗", "1.0e-02", "0.0"],
    ]
    assert lines[3].strip() == "1 value  2 vmap  3 kinks"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes")
def test_a_closed_pipe_is_no_error():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "jaxcnn", "ops"], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
