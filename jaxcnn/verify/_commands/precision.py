"""``python -m jaxcnn precision``: the table of :mod:`jaxcnn.verify._precision`, for every op; exit
status 0 only if all are within their bounds.

>>> parser = argparse.ArgumentParser()
>>> add_options(parser)
>>> parser.parse_args(["--op", "relu"]).policy
'bfloat16'
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxcnn._io import command
from jaxcnn._io.command import FAILED
from jaxcnn._io.files import write_json
from jaxcnn.verify._commands.arguments import UsageError
from jaxcnn.verify._commands.asked import pick
from jaxcnn.verify._commands.verify import HOLDS, check_files

HEADER = ("op", "array", "error", "eps", "bound", "", "worst case")
LINE = "{:<22} {:<9} {:>9} {:>8} {:>6}  {:<3}{}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add(
        "--policy",
        choices=["bfloat16", "float16", "float32"],
        default="bfloat16",
        help="compute in this dtype (default: %(default)s)",
    )
    add("--op", action="append", metavar="NAME", help="measure this op alone (may be repeated)")
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="draw inputs and cotangents from this seed (default: 0)",
    )
    out = parser.add_mutually_exclusive_group()
    out.add_argument("--markdown", action="store_true", help="as a Markdown table")
    out.add_argument(
        "--json", type=Path, metavar="FILE", help="write every array of every case there too"
    )


def run(chosen: argparse.Namespace, ops: Sequence[Any]) -> int:
    """Do what the options say, op after op; returns the exit status."""
    return command.run(lambda: _measure(chosen, ops))


def _measure(chosen: argparse.Namespace, ops: Sequence[Any]) -> int:
    some = pick(chosen.op, ops)
    check_files(json=chosen.json)
    if not 0 <= chosen.seed <= command.LARGEST_SEED:
        raise UsageError(
            f"--seed {chosen.seed}: expected an integer in [0, {command.LARGEST_SEED}]"
        )
    from jaxcnn.precision import Policy
    from jaxcnn.verify._precision import errors, worst

    show = _markdown if chosen.markdown else LINE.format
    print(show(*HEADER))
    if chosen.markdown:
        print("|---" * len(HEADER) + "|")
    rows = []
    for op in some:
        found = errors(op, Policy(chosen.policy), seed=chosen.seed)
        for row in worst(found):
            print(show(*_cells(row)), flush=True)
        rows += found
    failed = list(dict.fromkeys(row.op for row in rows if not row.ok))
    if chosen.json:
        listed = [{**row._asdict(), "ok": row.ok} for row in rows]
        found = {"ok": not failed, "policy": chosen.policy, "seed": chosen.seed, "rows": listed}
        write_json(chosen.json, found)
    if failed:
        print(f"beyond their bounds in {chosen.policy}: {', '.join(failed)}", file=sys.stderr)
    return FAILED if failed else HOLDS


def _cells(row: Any) -> tuple[str, ...]:
    if row.lost:
        size, eps = "not finite", f"{row.lost} lost"
    else:
        size, eps = f"{row.error:.1e}", f"{row.eps:.2f}"
    return row.op, row.array, size, eps, f"{row.bound:.0f}", "✓" if row.ok else "✗", row.case


def _markdown(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
