"""Reports as JSON and back, so that a check made in one process is shown by another.

:func:`pack` gives what ``report.json()`` gives, and with each mismatch its two arrays, thinned
where they are large. :func:`unpack` makes a report of that which reads like the one that was
packed; only its thinned arrays are smaller, and ``index`` counts in them."""

from typing import Any

import numpy as np

from jaxcnn._io.thin import thin
from jaxcnn.verify._report import Failure, Mismatch, Report, Verdict

ELEMENTS = 20_000  # of larger arrays only this many are sent
Row = dict[str, Any]


def pack(report: Report) -> Row:
    """The report as plain data, with the arrays of its mismatches under ``arrays``."""
    row = report.json()
    for verdict, verdict_row in zip(report.verdicts, row["verdicts"], strict=True):
        for failure, failure_row in zip(verdict.failures, verdict_row["failures"], strict=True):
            if (m := failure.mismatch) is not None:
                got, steps = thin(m.got, ELEMENTS, keep=m.index)
                expected, _ = thin(m.expected, ELEMENTS, keep=m.index)
                at = [i // step for i, step in zip(m.index, steps, strict=True)]
                failure_row["arrays"] = {"got": _lists(got), "expected": _lists(expected), "at": at}
    return row


def without_arrays(row: Row) -> Row:
    """A packed report as ``report.json()`` gave it."""
    verdicts = [
        {**v, "failures": [{k: x for k, x in f.items() if k != "arrays"} for f in v["failures"]]}
        for v in row["verdicts"]
    ]
    return {**row, "verdicts": verdicts}


def unpack(row: Row) -> Report:
    """The report that was packed."""
    verdicts = tuple(_verdict(verdict) for verdict in row["verdicts"])
    return Report(row["name"], row["inputs"], row["dtype"], verdicts, row["seed"])


def _verdict(row: Row) -> Verdict:
    failures = tuple(_failure(failure) for failure in row["failures"])
    return Verdict(
        row["name"],
        row["why"],
        row["status"],
        failures,
        row["note"],
        float(row["worst"]),
        float(row["allowed"]),
        row["seconds"],
    )


def _failure(row: Row) -> Failure:
    return Failure(
        row["check"], row["where"], row["message"], row["cause"], _mismatch(row), row["code"]
    )


def _mismatch(row: Row) -> Mismatch | None:
    if "arrays" not in row:
        return None
    arrays, difference = row["arrays"], row["finite_difference"]
    return Mismatch(
        _array(arrays["got"]),
        _array(arrays["expected"]),
        tuple(arrays["at"]),
        float(row["relative"]),
        float(row["ulps"]),
        row["off"],
        row["total"],
        float(row["allowed"]),
        None if difference is None else float(difference),
        row["pattern"],
    )


def _lists(array: np.ndarray) -> Any:
    """Nested lists of numbers; of a complex array its real and its imaginary part, by name."""
    return (
        {"real": np.real(array).tolist(), "imag": np.imag(array).tolist()}
        if array.dtype.kind == "c"
        else array.tolist()
    )


def _array(lists: Any) -> np.ndarray:
    if isinstance(lists, dict):
        return np.asarray(lists["real"], np.float64) + 1j * np.asarray(lists["imag"], np.float64)
    return np.asarray(lists, np.float64)
