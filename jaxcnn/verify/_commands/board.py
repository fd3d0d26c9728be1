"""How far the checks have come, op by op: a live table in a terminal, one line an op elsewhere."""

import contextlib
import dataclasses
import importlib.util
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaxcnn._io.outside import printable, printable_lines
from jaxcnn.verify._commands.tasks import Task
from jaxcnn.verify._report import Report, Verdict

# the worst first: it stands for all
MARKS = {"FAILED": "✗", "undecided": "?", "holds": "✓", "skipped": "–"}
COLOURS = {"✗": "bold red", "?": "yellow", "✓": "green", "–": "dim"}
GROUP = 5  # signs without a gap
MARGIN = 9  # lines of a terminal that are not for rows


@dataclasses.dataclass
class Row:
    """What is known of one op: how many of its tasks are done, what each check said, and the worst
    error as a part of what was allowed."""

    name: str
    total: int
    done: int = 0
    seconds: float = 0.0
    worst: float = math.nan
    statuses: dict[str, set[str]] = dataclasses.field(default_factory=dict)

    def add(self, report: Report, column: str = "") -> None:
        """Count a report; ``column`` stands for all its checks, where they are not worth a column
        each."""
        self.done += 1
        self.seconds += report.seconds
        for v in report.verdicts:
            self.statuses.setdefault(column or v.name, set()).add(v.status)
            self.worst = _larger(self.worst, v)

    def mark(self, check: str) -> str:
        """One sign for all that the check said; nothing where it was not made yet."""
        said = self.statuses.get(check, set())
        return next((mark for status, mark in MARKS.items() if status in said), "")

    @property
    def failed(self) -> list[str]:
        """The checks that failed."""
        return [check for check, said in self.statuses.items() if "FAILED" in said]

    @property
    def error(self) -> str:
        return "" if math.isnan(self.worst) else f"{self.worst:.1e}"

    def __str__(self) -> str:
        counts = Counter(self.mark(check) for check in self.statuses)
        said = ", ".join(
            f"{counts[MARKS[s]]} {s}" for s in MARKS if s != "FAILED" and counts[MARKS[s]]
        )
        verdict = f"FAILED: {', '.join(self.failed)}" if self.failed else ""
        error = f"worst {self.error} of allowed" if self.error else ""
        parts = filter(None, (verdict, said, error, f"{self.seconds:.1f} s"))
        return f"{self.name:<22} {self.done}/{self.total}  {'; '.join(parts)}"


class Board:
    """The rows, in the order of the tasks."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.rows = {
            name: Row(name, total) for name, total in Counter(task.row for task in tasks).items()
        }

    @property
    def checks(self) -> list[str]:
        """The names of the checks, in the order in which they were made."""
        return list(dict.fromkeys(check for row in self.rows.values() for check in row.statuses))

    def table(self, most: int | None = None) -> Any:
        """For rich: ops × checks, of the started rows the last ``most``."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        checks, started = self.checks, [row for row in self.rows.values() if row.done]
        starts = range(1, len(checks) + 1, GROUP)
        grid = Table(box=None, pad_edge=False, header_style="dim")
        for column in (
            "op",
            "done",
            "".join(f"{start:<{GROUP + 1}}" for start in starts).rstrip(),
            "of allowed",
            "s",
        ):
            grid.add_column(
                column, justify="right" if column in ("of allowed", "s") else "left", no_wrap=True
            )
        for row in started if most is None else started[-max(most, 1) :]:
            marks = Text()
            for number, mark in enumerate(row.mark(check) or " " for check in checks):
                marks.append(" " * (number > 0 and number % GROUP == 0)).append(
                    mark, COLOURS.get(mark)
                )
            name = Text(printable(row.name), "bold red" if row.failed else "")
            grid.add_row(name, f"{row.done}/{row.total}", marks, row.error, f"{row.seconds:.1f}")
        legend = "  ".join(f"{number} {check}" for number, check in enumerate(checks, 1))
        return Group(grid, Text(legend, "dim"))


@contextlib.contextmanager
def shown(board: Board) -> Iterator[Callable[[str], None]]:
    """A function to call with each row that has changed, while the board is shown."""
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        with _live(board) as tell_table:
            yield tell_table
        return

    def tell(name: str) -> None:
        if board.rows[name].done == board.rows[name].total:
            print(printable_lines(board.rows[name]), flush=True)

    yield tell


@contextlib.contextmanager
def _live(board: Board) -> Iterator[Callable[[str], None]]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console()
    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    number = bar.add_task(
        "starting the workers", total=sum(row.total for row in board.rows.values())
    )
    with Live(bar, console=console, transient=True) as live:

        def tell(name: str) -> None:
            bar.update(number, advance=1, description=printable(name))
            live.update(Group(board.table(console.height - MARGIN), bar))

        yield tell
    console.print(board.table())


def _larger(worst: float, verdict: Verdict) -> float:
    """fmax, over verdicts that measured an error and had one to allow."""
    if not verdict.allowed > 0 or math.isnan(verdict.worst):
        return worst
    ratio = verdict.worst / verdict.allowed
    return ratio if math.isnan(worst) else max(worst, ratio)
