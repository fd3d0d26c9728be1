"""What the options of ``python -m jaxcnn verify`` ask for: the tasks, and the words that ask for
some of them again."""

import argparse
import ast
import difflib
import importlib.util
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxcnn.verify._commands import arguments
from jaxcnn.verify._commands.arguments import UsageError
from jaxcnn.verify._commands.tasks import Task, compiler_tasks, fuzz_tasks, plan

DEVICES = 8  # simulated ones, for what must hold on several
MOST_JOBS = 4
HIGH = 10


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
    add(
        "--fuzz",
        type=float,
        metavar="MINUTES",
        help="search instead: draw shapes, settings and inputs for so long, and shrink what fails",
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
        "--strategy",
        metavar="PACKAGE.MODULE:NAME",
        help="with --fuzz: what hypothesis draws its arguments from",
    )
    own.add_argument(
        "--setting",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a keyword for both, such as stride=2 or \"padding='SAME'\" (may be repeated)",
    )


def tasks_of(chosen: argparse.Namespace, ops: Sequence[Any]) -> list[Task]:
    """The tasks that the options ask for."""
    if chosen.guard and not chosen.compiler:
        raise UsageError("--guard goes with --compiler")
    if chosen.strategy and not chosen.fuzz:
        raise UsageError("--strategy goes with --fuzz")
    if chosen.fuzz is not None:
        return _fuzz(chosen, ops)
    if not chosen.compiler:
        return _function(chosen) if chosen.module is not None else _ops(chosen, ops)
    for option in ("module", "shapes", "reference", "setting", "full", "dtype", "seed"):
        if getattr(chosen, option):
            raise UsageError(f"--{option} and --compiler exclude each other")
    return compiler_tasks(pick(chosen.op, ops), guard=chosen.guard, alone=bool(chosen.op))


def _fuzz(chosen: argparse.Namespace, ops: Sequence[Any]) -> list[Task]:
    if not 0 < chosen.fuzz < math.inf:
        raise UsageError(f"--fuzz {chosen.fuzz}: expected minutes, more than 0")
    for option in ("compiler", "shapes", "setting", "full", "dtype"):
        if getattr(chosen, option):
            raise UsageError(f"--{option} and --fuzz exclude each other")
    if importlib.util.find_spec("hypothesis") is None:
        raise UsageError("--fuzz draws with hypothesis: pip install 'jaxcnn[fuzz]'")
    if chosen.module is None:
        if chosen.strategy or chosen.reference:
            raise UsageError("--strategy and --reference go with --module; ops bring their own")
        picked = pick(chosen.op, ops)
        seconds = 60 * chosen.fuzz * min(chosen.jobs, len(picked)) / len(picked)
        return fuzz_tasks(picked, seconds=seconds, seed=chosen.seed)
    if chosen.op:
        raise UsageError("--op and --module exclude each other")
    order = {"do": "fuzz", "function": chosen.module, "reference": chosen.reference}
    order |= {"strategy": chosen.strategy, "seconds": 60 * chosen.fuzz, "seed": chosen.seed}
    return [Task(chosen.module, "search", order, f"--module {chosen.module}")]


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


def again(chosen: argparse.Namespace, failed: list[str]) -> list[str]:
    """The options that repeat what failed."""
    if chosen.module:
        words = ["--module", chosen.module]
        words += ["--shapes", chosen.shapes] if chosen.shapes else []
        words += ["--strategy", chosen.strategy] if chosen.strategy else []
        words += ["--high", str(chosen.high)] if chosen.high != HIGH else []
        words += ["--reference", chosen.reference] if chosen.reference else []
        words += [word for setting in chosen.setting for word in ("--setting", setting)]
    else:
        words = [word for name in failed for word in ("--op", name)] + ["--full"] * chosen.full
    if chosen.compiler:  # the small programs have no option of their own
        words = [] if "programs" in failed else words
        words = ["--compiler", *["--guard"] * chosen.guard, *words]
    words = [*(["--fuzz", f"{chosen.fuzz:g}"] if chosen.fuzz else []), *words]
    words += [word for dtype in chosen.dtype or () for word in ("--dtype", dtype)]
    return words + (["--seed", str(chosen.seed)] if chosen.seed else [])
