"""One run from start to end: hold the contests, keep the results as they come, show them."""

import dataclasses
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.bench import chart, contest, machine, results, sections, tables
from experiments.bench.config import Config
from experiments.bench.contest import Contest
from experiments.bench.crew import crew
from experiments.bench.results import Outcome
from experiments.files import clear_folder
from jaxcnn._io.drawing import save
from jaxcnn._io.files import write_json
from jaxcnn._io.lines import Log


class Show:
    """The progress bar and the log. The bar is drawn between turns only: a thread that draws it
    would take the CPU from who is being timed."""

    def __init__(self, progress: Progress, total: int, log: Log) -> None:
        self._progress, self._log = progress, log
        self._task = progress.add_task("", total=total)

    def doing(self, what: str) -> None:
        self._progress.update(self._task, description=what, refresh=True)

    def advance(self) -> None:
        self._progress.update(self._task, advance=1, refresh=True)

    def turn(self, **fields: Any) -> None:
        self._log.write(**fields)


def run(config: Config) -> bool:
    """Leave everything in ``config.out``, and the steps in ``config.json``; whether it was
    interrupted by Ctrl-C."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    settings = {
        name: str(v) if isinstance(v, Path) else v for name, v in dataclasses.asdict(config).items()
    }
    about: dict[str, Any] = {"machine": machine.describe(), "settings": settings, "versions": {}}
    _print(
        console,
        [
            f"{about['machine']['cpu']}, {config.threads} threads, float32;"
            f" {', '.join(config.contestants)}"
        ],
    )
    clear_folder(config.out, results.FILES)
    outcomes: list[Outcome] = []
    interrupted = False
    try:
        _hold(config, sections.contests(config), outcomes, about, console)
    except KeyboardInterrupt:
        interrupted = True
    about["machine"]["load_after"] = machine.load()
    results.write_result(config.out, outcomes, about, interrupted=interrupted)
    steps = next((outcome for outcome in outcomes if outcome.section == "steps"), None)
    if config.json is not None and steps is not None:
        ran = {
            "model": config.model[0],
            "batch": config.batch,
            "threads": config.threads,
            "interrupted": interrupted,
        }
        found = {
            "rows": results.steps_by_peer(steps),
            "machine": about["machine"],
            "versions": about["versions"],
        }
        write_json(config.json, ran | found)
    figure = chart.draw(outcomes, f"{about['machine']['cpu']}, {config.threads} threads")
    if figure is not None:
        save(figure, config.out / results.PICTURE)
    _tell(config, outcomes, console, interrupted, config.json if steps else None)
    return interrupted


def _hold(
    config: Config,
    every: Sequence[Contest],
    outcomes: list[Outcome],
    about: dict[str, Any],
    console: Console,
) -> None:
    total = sum(len(one.entries) * (1 + config.rounds) for one in every)
    columns = (
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with (
        tempfile.TemporaryDirectory(prefix="jaxcnn-bench-") as folder,
        Log(config.out / results.TURNS) as log,
        Progress(*columns, console=console, auto_refresh=False) as progress,
    ):
        show = Show(progress, total, log)
        for _, together in itertools.groupby(every, key=lambda one: one.crew):
            group = list(together)
            peers = list(dict.fromkeys(entry.peer for one in group for entry in one.entries))
            show.doing(f"{group[0].title}: starting {', '.join(peers)}")
            with crew(peers, config.threads, Path(folder)) as people:
                about["versions"] |= people.versions
                for one in group:
                    outcomes.append(contest.begin(one))
                    contest.run(one, outcomes[-1], people, Path(folder), config.rounds, show)
                    results.write_result(config.out, outcomes, about, interrupted=True)  # so far


def _tell(
    config: Config,
    outcomes: Sequence[Outcome],
    console: Console,
    interrupted: bool,
    rows: Path | None,
) -> None:
    """Tables, and what was written."""
    for table in tables.tables(outcomes):
        console.print(table)
    lines = tables.notes(outcomes)
    if interrupted:
        lines.append("Interrupted: the tables show the turns until then")
    written = [name for name in results.FILES if (config.out / name).exists()]
    lines.append(f"Results and picture are in {config.out}: {', '.join(written)}")
    if rows is not None:
        lines.append(f"The steps of {config.model[0]}, peer by peer, are in {rows}")
    other = next((what for what in sections.SECTIONS if what not in config.what), "steps")
    lines.append(f"Next: python -m experiments.bench --what {other} --out {config.out}_{other}")
    _print(console, lines)


def _print(console: Console, lines: Sequence[str]) -> None:
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
