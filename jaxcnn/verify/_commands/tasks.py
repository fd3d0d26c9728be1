"""The work of ``python -m jaxcnn verify``, cut into tasks that any worker can do: plain data, one a
case of an op, or its kinks."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

# how many cases of each op get every check, since most checks hold or fail for all cases alike
THOROUGH = 2
QUICK = ("value", "gradient")


@dataclasses.dataclass(frozen=True)
class Task:
    """One call of a prover.

    Attributes:
        row: the row of the table that it counts in: the name of the op.
        label: which part of the row it is.
        order: what the worker is asked to do, as JSON.
        again: the options that ask for it alone.
    """

    row: str
    label: str
    order: dict[str, Any]
    again: str


def plan(ops: Iterable[Any], *, seed: int, dtypes: Sequence[str], full: bool) -> list[Task]:
    """One task for each case of each op, and one for its kinks. ``full`` gives every case every
    check."""
    tasks = []
    for op in ops:
        for number, case in enumerate(op.cases):
            only = () if full or number < THOROUGH else QUICK  # nothing named: all of them
            order = {
                "do": "case",
                "op": op.name,
                "case": number,
                "only": list(only),
                "seed": seed,
                "dtypes": list(dtypes),
            }
            tasks.append(Task(op.name, case.label, order, f"--op {op.name}"))
        if op.kinks:
            tasks.append(
                Task(
                    op.name,
                    "kinks",
                    {"do": "kinks", "op": op.name, "seed": seed},
                    f"--op {op.name}",
                )
            )
    return tasks


def fuzz_tasks(ops: Sequence[Any], *, seconds: float, seed: int) -> list[Task]:
    """One search an op, each of so many seconds."""
    return [
        Task(
            op.name,
            "search",
            {"do": "fuzz", "op": op.name, "seconds": seconds, "seed": seed},
            f"--fuzz {seconds / 60:g} --op {op.name}",
        )
        for op in ops
        if op.space is not None
    ]


def compiler_tasks(ops: Sequence[Any], *, guard: bool, alone: bool) -> list[Task]:
    """One task for each size of each small program and each op: does XLA compute them rightly?"""
    from jaxcnn.verify._commands.compiler import SIZES, programs

    orders = [
        *(("programs", {"program": name}) for name in (() if alone else programs())),
        *((op.name, {"op": op.name}) for op in ops if op.cases),
    ]
    return [
        Task(
            row,
            f"{order.get('program', 'first case')}, {rows} rows",
            {"do": "compiler", **order, "rows": rows, "guard": guard},
            f"--compiler{' --guard' * guard}{f' --op {row}' if 'op' in order else ''}",
        )
        for row, order in orders
        for rows in SIZES
    ]
