"""A progress bar for work in steps."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


@contextlib.contextmanager
def bar(total: int) -> Iterator[Callable[[str, int], None]]:
    """``advance(what, count)``: ``count`` more of ``total`` are done, and ``what`` is being done.
    It moves on a terminal; elsewhere it says nothing."""
    columns = [
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    ]
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("", total=total)

        def advance(what: str, count: int = 1) -> None:
            progress.update(task, advance=count, description=what)

        yield advance


def track(items: Iterable[T], name: Callable[[T], str] = str) -> Iterator[T]:
    """The items, with a bar that counts them and names the one that is being worked on."""
    items = items if isinstance(items, Sized) else list(items)
    with bar(len(items)) as advance:
        for item in items:
            advance(name(item), 0)
            yield item
            advance(name(item), 1)
