"""A contest: every contestant is proven right, then they take turns, round after round.

Turns are interleaved (A B C A B C …), so that what else the machine does falls on all alike; only
one process works at a time."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from experiments.bench import data
from experiments.bench.crew import REFERENCE, Crew, PeerError
from experiments.bench.data import GRADIENT, PARAMS, Arrays
from experiments.bench.peers import Order
from experiments.bench.proof import Truth, judge, make_truth
from experiments.bench.results import Outcome, Row

Draw = dict[str, Callable[[], Arrays]]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A contestant: who, what, on which data, and what must come out.

    ``steps`` is how many steps a call is, by which its time is divided. The ``peak`` is no
    contestant: its time tells what the machine can do."""

    peer: str
    label: str
    order: Order
    data: str
    reference: Order
    beside: str = ""
    steps: int = 1
    peak: bool = False


@dataclasses.dataclass(frozen=True)
class Contest:
    """``draw`` makes the arrays that entries name as their data. Contests in a row of the same
    ``crew`` are held by the same processes."""

    section: str
    title: str
    crew: str
    entries: tuple[Entry, ...]
    draw: Draw
    turn_seconds: float
    flops: int = 0
    images: int = 0
    peak_flops: int = 0


class Watch(Protocol):
    """Where progress is reported."""

    def doing(self, what: str) -> None: ...
    def advance(self) -> None: ...
    def turn(self, **fields: Any) -> None: ...


def begin(contest: Contest) -> Outcome:
    """Nothing measured yet. ``run`` fills it, and leaves what it has if it is interrupted."""
    rows = [
        Row(entry.peer, entry.label, entry.beside) for entry in contest.entries if not entry.peak
    ]
    return Outcome(contest.section, contest.title, rows, contest.flops, contest.images)


def run(
    contest: Contest, outcome: Outcome, crew: Crew, folder: Path, rounds: int, watch: Watch
) -> None:
    """Hold the contest, filling ``outcome``."""
    rows = iter(outcome.rows)
    row_of = {e: Row(e.peer, e.label) if e.peak else next(rows) for e in contest.entries}
    _prepare(contest, row_of, crew, folder, watch)
    for number in range(1, rounds + 1):
        for entry, row in row_of.items():
            if not row.note:
                watch.doing(f"{contest.title}: round {number}/{rounds}, {entry.label}")
                _turn(entry, row, crew, contest, number, watch)
                outcome.peak = _peak(contest, row_of)
            watch.advance()
    crew.drop()


def _prepare(
    contest: Contest, row_of: dict[Entry, Row], crew: Crew, folder: Path, watch: Watch
) -> None:
    """Have everything compiled and compared. The row of one that is out has a note."""
    files = {name: folder / f"inputs-{number}.npz" for number, name in enumerate(contest.draw)}
    for name, draw in contest.draw.items():
        data.save(files[name], draw())
    truths: dict[tuple[Order, str], Truth] = {}
    for entry in contest.entries:
        row, file = row_of[entry], files[entry.data]
        try:
            if (entry.reference, entry.data) not in truths:
                watch.doing(f"{contest.title}: in float64")
                truths[entry.reference, entry.data] = _truth(crew, entry.reference, file)
            watch.doing(f"{contest.title}: compiling {entry.label}")
            row.facts, outputs = _compile(crew, entry.peer, entry.order, file)
            truth = _asked(entry, truths[entry.reference, entry.data])
            row.gradient_allowed = truth.gradient_allowed
            row.value_error, row.gradient_error, row.note = judge(outputs, truth)
        except PeerError as problem:
            row.note = str(problem)
        watch.advance()


def _compile(crew: Crew, peer: str, order: Order, file: Path) -> tuple[dict[str, float], Arrays]:
    """Facts and outputs."""
    out = file.with_name("outputs.npz")
    asked = {"id": order.id, "kind": order.kind, "of": order.of, "data": str(file), "out": str(out)}
    facts = crew.ask(peer, do="prepare", **asked)["facts"]
    return facts, data.load(out)


def _truth(crew: Crew, order: Order, file: Path) -> Truth:
    """In float64; a second time from a little beside, where there are parameters."""
    arrays, nudged = data.load(file), file.with_name("nudged.npz")
    _, wanted = _compile(crew, REFERENCE, order, file)
    beside = wanted
    if any(name.startswith(PARAMS) for name in arrays):
        data.save(nudged, data.nudge(arrays))
        _, beside = _compile(crew, REFERENCE, order, nudged)
    crew.ask(REFERENCE, do="drop")
    return make_truth(wanted, beside)


def _asked(entry: Entry, truth: Truth) -> Truth:
    """A forward has no gradients to compare."""
    values = {name: array for name, array in truth.arrays.items() if not name.startswith(GRADIENT)}
    return truth._replace(arrays=values) if entry.order.kind == "forward" else truth


def _turn(entry: Entry, row: Row, crew: Crew, contest: Contest, number: int, watch: Watch) -> None:
    try:
        answer = crew.ask(entry.peer, do="turn", id=entry.order.id, seconds=contest.turn_seconds)
    except PeerError as problem:
        row.note = str(problem)
        return
    seconds = float(np.median(answer["seconds"])) / entry.steps
    loss = answer["loss"]
    if loss is not None and not math.isfinite(loss):
        row.note, loss = f"its loss was no longer finite in round {number}", None
    row.seconds.append(seconds)
    row.others += [] if answer["others"] is None else [answer["others"]]
    watch.turn(
        section=contest.section,
        title=contest.title,
        peer=entry.peer,
        label=entry.label,
        round=number,
        calls=len(answer["seconds"]),
        seconds=seconds,
        fastest=min(answer["seconds"]) / entry.steps,
        slowest=max(answer["seconds"]) / entry.steps,
        loss=loss,
        others=answer["others"],
    )


def _peak(contest: Contest, row_of: dict[Entry, Row]) -> float | None:
    """Flops a second of the fastest peer's matrix product."""
    medians = [row_of[e].median for e in contest.entries if e.peak and row_of[e].seconds]
    return contest.peak_flops / min(medians) if medians else None
