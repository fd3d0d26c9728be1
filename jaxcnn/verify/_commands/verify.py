"""``python -m jaxcnn verify``: prove every op, or a function of one's own, in several processes."""

import argparse
import contextlib
import importlib.metadata
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
from jaxcnn.verify._commands import pool, report_json
from jaxcnn.verify._commands.arguments import UsageError
from jaxcnn.verify._commands.asked import DEVICES, again, tasks_of
from jaxcnn.verify._commands.board import Board, shown
from jaxcnn.verify._commands.tasks import Task

HOLDS = 0
PRINTED = 3  # failing reports that are printed in full
ME = "python -m jaxcnn verify"
Done = tuple[Task, report_json.Row]


def run(chosen: argparse.Namespace, ops: Sequence[Any], where: str) -> int:
    """Do what the options say; ``where`` names ``ops`` for the workers:
    ``package.module:attribute``. Returns the exit status."""
    return command.run(lambda: _prove(chosen, ops, where))


def _prove(chosen: argparse.Namespace, ops: Sequence[Any], where: str) -> int:
    start = time.perf_counter()
    tasks = tasks_of(chosen, ops)
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
        "devices": 1 if chosen.compiler or chosen.fuzz else DEVICES,
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
            f" {shlex.join(again(chosen, failed) + pictures)}"
        )
    elif len(done) == len(tasks) and chosen.fuzz:
        lines.append(
            f"no fault found: {chosen.module or f'{count} ops'}, {seconds:.0f} s; another seed"
            " draws other calls: --seed N"
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
