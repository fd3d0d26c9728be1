"""Reports for the eye: a web page with pictures of what is wrong, and a table for the terminal.

>>> from jaxcnn.verify._report import Report, Verdict
>>> verdict = Verdict("jit", "compiled = eager", "holds")
>>> page = html_page([Report("square", {"args[0]": "float32[3]"}, "float32", (verdict,))])
>>> "1 of 1 holds" in page, "<summary" in page
(True, True)
"""

import importlib.util
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxcnn._io.html import Html, element, heat, page, table, together
from jaxcnn._io.outside import printable, printable_lines
from jaxcnn.verify._report import Failure, Mismatch, Report, Verdict

PICTURED = (
    # failures of a report that are shown with pictures; the others follow from the same cause more
    # often than not
    12
)
SLOWEST = 3
STYLES = {"holds": "green", "FAILED": "bold red", "skipped": "dim", "undecided": "yellow"}


def html_page(reports: Sequence[Report], *, title: str = "Proof of gradients") -> str:
    """A page that needs no other file: the sum of it, then each report, the failed ones first and
    open."""
    failed, held = [r for r in reports if not r.ok], [r for r in reports if r.ok]
    verb = "holds" if len(held) == 1 else "hold"
    lines = [
        element(
            "p",
            f"{len(held)} of {len(reports)} {verb}",
            f", {len(failed)} failed" if failed else "",
            f"; {sum(r.seconds for r in reports):.1f} s in all.",
            class_="FAILED" if failed else "holds",
        )
    ]
    if len(reports) > 1:
        slow = sorted(reports, key=lambda r: r.seconds, reverse=True)[:SLOWEST]
        lines.append(
            element("p", "Slowest: ", ", ".join(f"{r.name} ({r.seconds:.1f} s)" for r in slow))
        )
    if failed:
        lines.append(
            element("ul", *(element("li", element("b", r.name), f": {r.reason}") for r in failed))
        )
    return page(
        title, together([element("h1", title), *lines, *(_section(r) for r in (*failed, *held))])
    )


def rich_report(report: Report) -> Any:
    """The report as something that rich can print: a table of verdicts, then the failures."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    grid = Table(
        title=Text(printable(_headline(report))), title_justify="left", box=None, pad_edge=False
    )
    for column in ("check", "", "error", "note", "s"):
        grid.add_column(column, justify="right" if column == "s" else "left", overflow="fold")
    for v in report.verdicts:
        cells = (v.name, v.status, error(v), v.note, f"{v.seconds:.1f}")
        grid.add_row(
            *(
                Text(printable_lines(cell), style=STYLES[v.status] if i == 1 else "")
                for i, cell in enumerate(cells)
            )
        )
    at = Text(printable(f"at {_inputs(report)}"), style="dim")
    return Group(
        grid,
        at,
        *(Text(printable_lines(f"\n{failure}"), style="red") for failure in report.failures),
    )


def print_report(report: Report) -> None:
    """Print the report: in colour in a terminal where rich is installed, elsewhere plainly, each
    line whole."""
    if not sys.stdout.isatty() or importlib.util.find_spec("rich") is None:
        print(printable_lines(report))
        return
    from rich.console import Console

    Console().print(rich_report(report))


def error(verdict: Verdict) -> str:
    """The worst error and what was allowed, where they were measured."""
    if math.isnan(verdict.worst):
        return ""
    return f"{verdict.worst:.1e}" + (f" of {verdict.allowed:.0e}" if verdict.allowed > 0 else "")


def _headline(report: Report) -> str:
    return f"{report.name}: {'all checks hold' if report.ok else 'FAILED'} ({report.seconds:.1f} s)"


def _inputs(report: Report) -> str:
    return ", ".join(f"{path}: {shape}" for path, shape in report.inputs.items())


def _section(report: Report) -> Html:
    rows = [
        (
            element("span", v.name, title=v.why),
            element("span", v.status, class_=v.status),
            error(v),
            v.note,
            f"{v.seconds:.2f}",
        )
        for v in report.verdicts
    ]
    at = element("p", f"at {_inputs(report)}; {report.dtype}, seed {report.seed}", class_="aside")
    failures = [_failure(f, number <= PICTURED) for number, f in enumerate(report.failures, 1)]
    verdicts = table(("check", "", "worst error of allowed", "note", "seconds"), rows)
    return element(
        "details",
        element("summary", _headline(report)),
        at,
        verdicts,
        *failures,
        open=not report.ok,
    )


def _failure(failure: Failure, pictured: bool) -> Html:
    parts = [element("h3", f"{failure.check}: {failure.where}"), element("p", failure.message)]
    if failure.mismatch is not None and failure.mismatch.pattern:
        parts.append(element("p", element("b", "Pattern: "), failure.mismatch.pattern))
    if failure.cause:
        parts.append(element("p", element("b", "Likely cause: "), failure.cause))
    if failure.code:
        parts.append(element("pre", failure.code))
    if failure.mismatch is not None and pictured:
        parts.append(_pictures(failure.mismatch))
    return together(parts)


def _pictures(mismatch: Mismatch) -> Html:
    """Got and expected in the same colours, and their difference in its own."""
    got, expected = mismatch.got, mismatch.expected
    both = np.abs(np.concatenate([got.ravel(), expected.ravel()]))
    limit = float(both[np.isfinite(both)].max(initial=0.0)) or 1.0
    pictures = [
        heat(got, limit=limit, caption="got"),
        heat(expected, limit=limit, caption="expected"),
    ]
    if got.shape == expected.shape:
        with np.errstate(invalid="ignore", over="ignore"):
            pictures.append(heat(got - expected, caption="difference"))
    row = element("div", *pictures, class_="row")
    if got.size == mismatch.total:
        return row
    return together(
        [
            row,
            element("p", f"{got.size:,} of {mismatch.total:,} elements are shown.", class_="aside"),
        ]
    )
