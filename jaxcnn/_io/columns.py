"""Tables of text: columns under each other.

>>> print("\\n".join(columns([("layer", "parameters"), ("dense", "12"), ("out", "8")], right={1})))
layer  parameters
dense          12
out             8
"""

from collections.abc import Collection, Sequence


def columns(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """A line a row, each column as wide as its longest cell; those of ``right`` end together."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
