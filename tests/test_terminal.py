"""What commands say, on any terminal: of any width, of any alphabet, closed, full, or read by
nobody; and what names may hold that is not to be obeyed."""

import argparse
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxcnn.__main__ import main
from jaxcnn._io import terminal
from jaxcnn._io.command import BAD_INPUT, CLOSED, FAILED, STATUSES, Parser, program
from jaxcnn._io.terminal import NARROWEST, WIDEST, harmless, unheard, wide_enough
from jaxcnn.runs import _command as runs
from jaxcnn.runs._flags import read_flags

UNSEEN = "\x00\x07\x08\x1b\x7f\x9b\r\u200b\u202e\u2028\ud800\ue000"


@pytest.mark.parametrize("columns", [*range(1, 201, 7), 5, 10**9])
def test_help_is_drawn_in_any_width(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as end:
        main(["verify", "--help"])
    assert end.value.code == 0
    assert os.environ["COLUMNS"] == str(columns)
    assert "".join(STATUSES.split()) in "".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "columns", ["0", "-1", "x", "", "5", "1", " 7 ", "1e3", "٣", "9" * 30, "200"]
)
def test_a_width_that_is_none_gives_way_meanwhile(
    columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", columns)
    with wide_enough():
        assert NARROWEST <= int(os.environ["COLUMNS"]) <= WIDEST
        assert 1 <= int(os.environ["LINES"]) <= WIDEST
    assert os.environ["COLUMNS"] == os.environ["LINES"] == columns


@pytest.mark.parametrize("columns", ["5", "x", "79"])
def test_the_help_of_a_run_is_drawn_in_any_width(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as end:
        read_flags(runs.Eval, ["--help"], "eval")
    assert end.value.code == 0
    assert "".join(STATUSES.split()) in "".join(capsys.readouterr().out.split())


def test_of_what_a_terminal_would_obey_only_lines_and_colours_are_left() -> None:
    shown = "\\x00\\x07\\x08\\x1b\\x7f\\x9b\\r\\u200b\\u202e\\u2028\\ud800\\ue000"
    start = "a\n\tb\x1b[1;31mc\x1b[0m"
    assert harmless(start + UNSEEN) == start + shown
    assert harmless("\x1b]0;title\x07\x1b[2J\x1b[31") == "\\x1b]0;title\\x07\\x1b[2J\\x1b[31"


@pytest.mark.parametrize("bad", [f"--epochs={UNSEEN[1:]}x", f"--{UNSEEN[1:]}", UNSEEN[1:], "--seed=" + "x" * 4000])  # fmt: skip
def test_what_cannot_be_read_is_shown_and_not_obeyed(
    bad: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for read in (
        lambda: read_flags(runs.Train, [bad], "train"),
        lambda: main(["ops", bad]),
        lambda: main([bad]),
    ):
        with pytest.raises(SystemExit) as end:
            read()
        assert end.value.code == BAD_INPUT
        said = capsys.readouterr().err
        assert said
        assert len(said.splitlines()) <= 40
        assert not set(UNSEEN) & set(said)


def test_a_name_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_flags(runs.Train, ["--model", "[red]:cat:[/x]"], "train")
    assert "[red]:cat:[/x]" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
def test_every_character_has_a_form_in_every_encoding(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    monkeypatch.setattr(terminal, "_size", dict)
    terminal.prepare()
    print("∂y ü 模型 \udcff")
    sys.stdout.flush()
    assert raw.getvalue().decode(encoding).encode("ascii", "backslashreplace") in (
        b"\\u2202y \\xfc \\u6a21\\u578b \\udcff\n",
        b"\\u2202y \\xfc \\u6a21\\u578b \\\\udcff\n",
    )


STREAMS = """
import sys
from jaxcnn._io.terminal import {0}
with {0}():
    for number in range(20_000):
        print("step", number)
    print("to the end", file=sys.stderr)
open(sys.argv[1], "w").write("done")
"""


@pytest.mark.parametrize("to", ["/dev/full", "pipe"])
def test_a_run_goes_on_where_nobody_hears_it(to: str, tmp_path: Path) -> None:
    ear, mouth = os.pipe()
    os.close(ear)
    full = os.open("/dev/full", os.O_WRONLY)
    where = full if to == "/dev/full" else mouth
    command = [sys.executable, "-c", STREAMS.format("unheard"), str(tmp_path / "end")]
    assert subprocess.run(command, stdout=where, stderr=where, timeout=60).returncode == 0
    os.close(mouth)
    os.close(full)
    assert (tmp_path / "end").read_text() == "done"


def test_streams_of_a_test_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with unheard():
        assert sys.stdout is before
        print("heard")
    assert capsys.readouterr().out == "heard\n"


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("to", "status"), [("/dev/full", FAILED), ("pipe", CLOSED)])
def test_help_that_cannot_be_written_ends_with_its_status(
    to: str,
    status: int,
    at_once: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ear, mouth = os.pipe()
    os.close(ear)
    number = os.open(to, os.O_WRONLY) if to == "/dev/full" else os.dup(mouth)
    os.close(mouth)
    raw = io.FileIO(number, "w")
    stream = io.TextIOWrapper(raw if at_once else io.BufferedWriter(raw), write_through=at_once)  # type: ignore[arg-type]  # as python -u has it
    with stream, monkeypatch.context() as patched:
        patched.setattr(terminal, "prepare", lambda: None)
        patched.setattr(sys, "stdout", stream)
        assert program(lambda: main(["--help"])) == status
    said = capsys.readouterr().err.splitlines()
    assert [
        line.endswith(("No space left on device", "(No space left on device)")) for line in said
    ] == [True] * (status == FAILED)


def test_an_option_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="x")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--op", action="append")
    assert parser.parse_args(["--op", "a", "--op=b", "--seed=1"]) == argparse.Namespace(
        op=["a", "b"], seed=1, full=False, given={"seed"}
    )
    for words in (["--seed=1", "--seed", "1"], ["--full", "--full"], ["--see=1", "--seed=2"]):
        with pytest.raises(SystemExit) as end:
            parser.parse_args(words)
        assert end.value.code == BAD_INPUT
        assert "is given twice" in capsys.readouterr().err
