"""``python -m jaxcnn verify``: prove every op, or a function of one's own, in several processes."""

import argparse
import ast
import contextlib
import difflib
import importlib.metadata
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxcnn._io import command
from jaxcnn._io.command import FAILED, INTERRUPTED, claim_file
from jaxcnn._io.files import to_json, write_file
from jaxcnn._io.outside import printable_lines
from jaxcnn.verify import _show as show
from jaxcnn.verify._commands import arguments, pool, report_json
from jaxcnn.verify._commands.arguments import UsageError
from jaxcnn.verify._commands.board import Board, shown
from jaxcnn.verify._commands.tasks import Task, compiler_tasks, plan

HOLDS = 0
DEVICES = 8  # simulated ones, for what must hold on several
MOST_JOBS = 4
HIGH = 10
PRINTED = 3  # failing reports that are printed in full
ME = "python -m jaxcnn verify"
Done = tuple[Task, report_json.Row]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("--op", action="append", metavar="NAME", help="prove this op alone (may be repeated)")
    add(
        "--full",
        action="store_true",
        help="every check on every case; else the first two of each op get all of them",
    )
    add("--json", type=Path, metavar="FILE", help="write the reports there")
    add(
        "--html",
        type=Path,
        metavar="FILE",
        help="write a page there, with pictures of what is wrong",
    )
    add(
        "--dtype",
        action="append",
        choices=["float32", "float64", "bfloat16"],
        help=(
            "look for rounding errors in this dtype (may be repeated; default: float32 and"
            " bfloat16)"
        ),
    )
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="draw inputs and cotangents from this seed (default: 0)",
    )
    add(
        "--jobs",
        type=int,
        default=min(os.cpu_count() or 1, MOST_JOBS),
        metavar="N",
        help="how many processes (default: %(default)s)",
    )
    add(
        "--platform",
        choices=["cpu", "default"],
        default="cpu",
        help=f"cpu: {DEVICES} simulated devices (the default); default: what JAX would choose",
    )
    add(
        "--compiler",
        action="store_true",
        help=(
            "ask the compiler instead of the rules: every op and small programs, compiled against"
            " themselves op by op, up to 65,536 rows"
        ),
    )
    add(
        "--guard",
        action="store_true",
        help="with --compiler: compile as the library compiles its own programs, faults cured",
    )
    own = parser.add_argument_group("a function of your own")
    own.add_argument(
        "--module", metavar="PACKAGE.MODULE:FUNCTION", help="prove this function instead of the ops"
    )
    own.add_argument(
        "--shapes",
        metavar="SHAPES",
        help="its arguments: '8,28,28,3;5,5,3,16', '()' for a scalar, 'int32:8', 'key'",
    )
    own.add_argument(
        "--high",
        type=int,
        default=HIGH,
        metavar="N",
        help="integers are drawn below N (default: %(default)s)",
    )
    own.add_argument(
        "--reference", metavar="PACKAGE.MODULE:FUNCTION", help="the same function, written plainly"
    )
    own.add_argument(
        "--setting",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a keyword for both, such as stride=2 or \"padding='SAME'\" (may be repeated)",
    )


def run(chosen: argparse.Namespace, ops: Sequence[Any], where: str) -> int:
    """Do what the options say; ``where`` names ``ops`` for the workers:
    ``package.module:attribute``. Returns the exit status."""
    return command.run(lambda: _prove(chosen, ops, where))


def _prove(chosen: argparse.Namespace, ops: Sequence[Any], where: str) -> int:
    start = time.perf_counter()
    tasks = _tasks(chosen, ops)
    check_files(json=chosen.json, html=chosen.html)
    if chosen.jobs < 1:
        raise UsageError(f"--jobs {chosen.jobs}: expected 1 or more")
    if not 0 <= chosen.seed <= command.LARGEST_SEED:
        raise UsageError(
            f"--seed {chosen.seed}: expected an integer in [0, {command.LARGEST_SEED}]"
        )
    setup = {
        "ops": "" if chosen.module else where,
        "platform": chosen.platform,
        "devices": 1 if chosen.compiler else DEVICES,
        "hurried": not chosen.compiler,
    }
    done, stopped = _work(tasks, setup, min(chosen.jobs, len(tasks)))
    rows = [row for _, row in done]
    reports = [report_json.unpack(row) for row in rows]
    seconds = time.perf_counter() - start
    ok = stopped is None and all(reports)
    if chosen.json:
        found = {
            "ok": ok,
            "complete": len(rows) == len(tasks),
            "seconds": round(seconds, 3),
            "jax": importlib.metadata.version("jax"),
            "reports": [report_json.without_arrays(row) for row in rows],
        }
        write_file(chosen.json, to_json(found, indent=1) + "\n")
    if chosen.html:
        write_file(chosen.html, show.html_page(reports))
    if isinstance(stopped, OSError):
        raise stopped
    for report in [r for r in reports if not r][:PRINTED]:
        print()
        show.print_report(report)
    print(printable_lines("\n" + "\n".join(_summary(chosen, tasks, done, seconds))))
    return INTERRUPTED if stopped else HOLDS if ok else FAILED


def _work(
    tasks: list[Task], setup: dict[str, Any], jobs: int
) -> tuple[list[Done], BaseException | None]:
    """The tasks that were done, in their order, with their packed reports, and what put an end to
    it before its time."""
    board, rows, stopped = Board(tasks), {}, None
    try:
        with shown(board) as tell, contextlib.closing(pool.answers(tasks, setup, jobs)) as stream:
            for task, answer in stream:
                if "usage" in answer:
                    raise UsageError(answer["usage"])
                rows[id(task)] = answer["report"]
                board.rows[task.row].add(
                    report_json.unpack(answer["report"]),
                    column="declared kinks" * (task.order["do"] == "kinks"),
                )
                tell(task.row)
    except (KeyboardInterrupt, OSError) as reason:  # Ctrl-C, or an output that takes no more
        stopped = reason
    return [(task, rows[id(task)]) for task in tasks if id(task) in rows], stopped


def _tasks(chosen: argparse.Namespace, ops: Sequence[Any]) -> list[Task]:
    if chosen.guard and not chosen.compiler:
        raise UsageError("--guard goes with --compiler")
    if not chosen.compiler:
        return _function(chosen) if chosen.module is not None else _ops(chosen, ops)
    for option in ("module", "shapes", "reference", "setting", "full", "dtype", "seed"):
        if getattr(chosen, option):
            raise UsageError(f"--{option} and --compiler exclude each other")
    return compiler_tasks(pick(chosen.op, ops), guard=chosen.guard, alone=bool(chosen.op))


def _ops(chosen: argparse.Namespace, ops: Sequence[Any]) -> list[Task]:
    for option in ("shapes", "reference", "setting"):
        if getattr(chosen, option):
            raise UsageError(f"--{option} goes with --module; ops bring their own")
    return plan(pick(chosen.op, ops), seed=chosen.seed, dtypes=_dtypes(chosen), full=chosen.full)


def pick(names: Sequence[str] | None, ops: Sequence[Any]) -> list[Any]:
    """The ops of these names, in their order; all of them where no name is given."""
    known = [op.name for op in ops]
    for name in names or ():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"ops: {', '.join(known)}"
            raise UsageError(f"--op {name}: there is no such op; {hint}")
    return [op for op in ops if not names or op.name in names]


def _function(chosen: argparse.Namespace) -> list[Task]:
    if chosen.op:
        raise UsageError("--op and --module exclude each other")
    if chosen.shapes is None:
        raise UsageError("--module needs --shapes, such as --shapes '8,28,28,3;5,5,3,16'")
    if chosen.high < 1:
        raise UsageError(f"--high {chosen.high}: expected 1 or more")
    arguments.parse(chosen.shapes)
    settings = dict(_setting(text) for text in chosen.setting)
    order = {
        "do": "function",
        "function": chosen.module,
        "reference": chosen.reference,
        "shapes": chosen.shapes,
        "high": chosen.high,
        "settings": settings,
        "seed": chosen.seed,
        "dtypes": _dtypes(chosen),
    }
    return [
        Task(
            chosen.module,
            chosen.shapes,
            order,
            f"--module {chosen.module} --shapes '{chosen.shapes}'",
        )
    ]


def _setting(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        hint = f"expected a Python literal; a string is written \"{name}='{value}'\""
        raise UsageError(
            f"--setting {text}: {hint if name.isidentifier() and value else 'expected NAME=VALUE'}"
        ) from None
    return name, value


def _dtypes(chosen: argparse.Namespace) -> list[str]:
    return chosen.dtype or ["float32", "bfloat16"]


def check_files(**paths: Path | None) -> None:
    """Before minutes of work, rather than after."""
    for flag, path in paths.items():
        if path is not None:
            claim_file(f"--{flag}", path, make_folder=False)


def _summary(
    chosen: argparse.Namespace, tasks: list[Task], done: list[Done], seconds: float
) -> list[str]:
    """What came out, and what to do next."""
    failed = list(dict.fromkeys(task.row for task, row in done if not row["ok"]))
    count = len({task.row for task in tasks})
    lines = []
    if len(done) < len(tasks):
        lines.append(f"interrupted: {len(done)} of {len(tasks)} reports were made")
    if failed:
        lines.append(f"FAILED: {', '.join(failed)} ({len(failed)} of {count}; {seconds:.0f} s)")
        pictures = [] if chosen.html else ["--html", "failures.html"]
        lines.append(
            f"again{', with pictures' if pictures else ''}: {ME}"
            f" {shlex.join(_again(chosen, failed) + pictures)}"
        )
    elif len(done) == len(tasks) and chosen.compiler:
        lines.append(
            f"the compiler is right on all {len(tasks)} programs and sizes, {seconds:.0f} s"
        )
    elif len(done) == len(tasks):
        what = chosen.module or f"{count} op{'s' * (count != 1)}, {len(done)} reports"
        lines.append(f"all checks hold: {what}, {seconds:.0f} s")
        if not chosen.full and not chosen.module:
            lines.append(f"every check on every case: {ME} --full")
    if written := [str(path) for path in (chosen.json, chosen.html) if path]:
        lines.append(f"written: {', '.join(written)}")
    return lines


def _again(chosen: argparse.Namespace, failed: list[str]) -> list[str]:
    """The options that repeat what failed."""
    if chosen.module:
        words = ["--module", chosen.module, "--shapes", chosen.shapes]
        words += ["--high", str(chosen.high)] if chosen.high != HIGH else []
        words += ["--reference", chosen.reference] if chosen.reference else []
        words += [word for setting in chosen.setting for word in ("--setting", setting)]
    else:
        words = [word for name in failed for word in ("--op", name)] + ["--full"] * chosen.full
    if chosen.compiler:  # the small programs have no option of their own
        words = [] if "programs" in failed else words
        words = ["--compiler", *["--guard"] * chosen.guard, *words]
    words += [word for dtype in chosen.dtype or () for word in ("--dtype", dtype)]
    return words + (["--seed", str(chosen.seed)] if chosen.seed else [])
