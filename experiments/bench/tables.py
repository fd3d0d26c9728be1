"""What was measured, as tables on the terminal."""

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table

from experiments.bench.results import Outcome, Row

TORCHES = "torch", "torch.channels_last", "torch.compile"
NOTHING = "–"
BUSY = 0.05  # share of the CPUs


def tables(outcomes: Sequence[Outcome]) -> list[Table]:
    """In the order in which they came."""
    made = []
    for outcome in outcomes:
        if outcome.section == "steps":
            made += [_steps(outcome), _costs(outcome)]
        elif outcome.section != "ops":
            made.append(_pairs(outcome))
    ops = [outcome for outcome in outcomes if outcome.section == "ops"]
    return [*made, _ops(ops)] if ops else made


def _steps(outcome: Outcome) -> Table:
    """How fast."""
    table = _table(
        outcome.title,
        "ms\na step",
        "quartiles",
        "images/s",
        "of\npeak",
        "÷ best\ntorch",
        "flax\n÷",
        "autodiff\n÷",
    )
    torch, flax, autodiff = outcome.best(*TORCHES), outcome.best("flax"), outcome.best("autodiff")
    for row in outcome.rows:
        time = row.median
        peak = outcome.flops / time / outcome.peak if outcome.peak else math.nan
        table.add_row(
            row.label,
            *_timing(row),
            number(outcome.images / time, ",.0f"),
            number(peak, ".0%"),
            number(time / torch, ".2f"),
            number(flax / time, ".2f"),
            number(autodiff / time, ".2f"),
        )
    if outcome.peak:
        table.caption = (
            f"peak: {outcome.peak / 1e9:.0f} GFLOP/s in a product of 2048² float32 matrices; a"
            f" step: {outcome.flops / 1e9:.1f} GFLOP"
        )
    return table


def _costs(outcome: Outcome) -> Table:
    """What else it costs, and how right it is."""
    table = _table(
        "",
        "compile,\ns",
        "temporary,\nMB",
        "kept,\nMB",
        "error of\nthe loss",
        "of the\ngradients",
        "allowed",
        title=False,
    )
    for row in outcome.rows:
        mega = {name: row.facts.get(name, math.nan) / 1e6 for name in ("temp_bytes", "kept_bytes")}
        table.add_row(
            row.label,
            number(row.facts.get("compile_seconds", math.nan), ".1f"),
            number(mega["temp_bytes"], ",.1f"),
            number(mega["kept_bytes"], ",.1f"),
            _error(row.value_error),
            _error(row.gradient_error),
            _error(row.gradient_allowed),
        )
    return table


def _pairs(outcome: Outcome) -> Table:
    """One way beside another, peer by peer."""
    table = _table(
        outcome.title, "ms", "quartiles", "÷ the row\nabove", "compile,\ns", "autodiff\n÷"
    )
    for index, row in enumerate(outcome.rows):
        ratio = row.median / outcome.beside(row)
        theirs = [r.median for r in outcome.rows if r.peer == "autodiff"][index % 2 : index % 2 + 1]
        table.add_row(
            row.label,
            *_timing(row),
            number(ratio, ".2f"),
            number(row.facts.get("compile_seconds", math.nan), ".1f"),
            number((theirs or [math.nan])[0] / row.median, ".2f"),
        )
    return table


def _ops(outcomes: Sequence[Outcome]) -> Table:
    """A row a case, a column a peer."""
    peers = list(dict.fromkeys(row.label for outcome in outcomes for row in outcome.rows))
    table = _table(
        "ops, ms",
        *(peer.replace(".", ".\n") for peer in peers),
        "autodiff\n÷ jaxcnn",
        "best torch\n÷ jaxcnn",
    )
    for outcome in outcomes:
        times = {row.label: milliseconds(row.median) for row in outcome.rows}
        ours = outcome.best("jaxcnn")
        ratios = outcome.best("autodiff") / ours, outcome.best(*TORCHES) / ours
        table.add_row(
            outcome.title,
            *(times.get(peer, NOTHING) for peer in peers),
            *(number(r, ".2f") for r in ratios),
        )
    return table


def notes(outcomes: Sequence[Outcome]) -> list[str]:
    """Who was left out, and why, once where it is the same everywhere; and where others were in the
    way."""
    lines: dict[tuple[str, str], str] = {}
    for outcome in outcomes:
        for row in outcome.rows:
            if row.note:
                lines.setdefault((row.label, row.note), outcome.title)
    told = [f"{label} ({title}): {note}" for (label, note), title in lines.items()]
    shares = [outcome.disturbance for outcome in outcomes if outcome.disturbance > BUSY]
    if shares:
        told.append(
            f"Rough figures: other processes had up to {max(shares):.0%} of the CPUs in"
            f" {len(shares)} of {len(outcomes)} contests; PyTorch suffers most, whose threads wait"
            " for one another"
        )
    return told


def number(value: float, form: str) -> str:
    """Formatted; a dash for what there is not."""
    return format(value, form) if math.isfinite(value) else NOTHING


def milliseconds(seconds: float) -> str:
    """With three digits, or all that stand before the point."""
    if not 0 < seconds < math.inf:
        return NOTHING
    decimals = min(max(0, 2 - math.floor(math.log10(1e3 * seconds))), 4)
    return f"{1e3 * seconds:.{decimals}f}"


def _timing(row: Row) -> tuple[str, str]:
    low, median, high = map(milliseconds, row.quartiles)
    return median, f"{low}–{high}" if row.seconds else NOTHING


def _error(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0e}"


def _table(heading: str, *columns: str, title: bool = True) -> Table:
    table = Table(
        title=heading if title else None,
        title_justify="left",
        caption_justify="left",
        header_style="",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
