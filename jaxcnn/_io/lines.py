"""A log of JSON objects, one a line: it can be followed while it grows, and a crash costs no more
than the last line.

>>> import tempfile, pathlib
>>> with tempfile.TemporaryDirectory() as folder:
...     path = pathlib.Path(folder) / "log.jsonl"
...     with Log(path) as log:
...         log.write(step=1, loss=0.5)
...         log.write(step=2, loss=float("nan"))
...     with Log(path, resume_at=1) as log:
...         log.write(step=2, loss=0.25)
...     read_lines(path)
[{'step': 1, 'loss': 0.5}, {'step': 2, 'loss': 0.25}]
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from jaxcnn._core.errors import check_integer
from jaxcnn._io.files import from_json, to_json, write_file
from jaxcnn._io.outside import OutsideError, at_once, opened, reading


class Log:
    """The log in ``path``, from empty; with ``resume_at`` what is there stays, but for lines that
    have a "step" beyond it.

    Every line is flushed as it is written. NaN and infinity, which JSON does not have, are written
    as null.

    Raises ValueError for a ``resume_at`` that is no integer ≥ 0, or a file that is not such a log;
    OSError where it cannot be written."""

    form: Callable[[dict[str, Any]], None] = staticmethod(lambda line: None)
    """Raises for a line that is not of such a log."""

    def __init__(self, path: str | Path, *, resume_at: int | None = None) -> None:
        if resume_at is not None:
            check_integer("Log", "resume_at", resume_at)
        self.path = Path(path)
        lines = (
            read_lines(self.path, self.form) if resume_at is not None and self.path.exists() else []
        )
        self.kept = [
            line for line in lines if resume_at is None or line.get("step", 0) <= resume_at
        ]
        if lines:
            write_file(self.path, "".join(to_json(line) + "\n" for line in self.kept))
        self._stream = open(self.path, "a" if lines else "w", encoding="utf-8", opener=at_once)  # noqa: SIM115 (closed by close)
        os.set_blocking(self._stream.fileno(), True)

    def write(self, **fields: Any) -> None:
        """Add a line. OSError, with the file's name, where it cannot be written."""
        try:
            self._stream.write(to_json(fields) + "\n")
            self._stream.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def close(self) -> None:
        """Let go of the file; what could not be written then is in no file, and :meth:`write` has
        said so."""
        with contextlib.suppress(OSError):
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_lines(
    path: str | Path, form: Callable[[dict[str, Any]], None] = Log.form
) -> list[dict[str, Any]]:
    """The objects in a log, without a last line that is only half there. OutsideError for a file
    that is not such a log, or cannot be read, or a line that is not of that ``form``."""
    with opened(path, "a JSON object in each line", grows=True) as file:
        *texts, last = file.read().split(b"\n")
        found = [
            _read(text, f"{path}: line {number}", form)
            for number, text in enumerate(texts, start=1)
        ]
        with contextlib.suppress(OutsideError):  # it was being written
            found.append(_read(last, f"{path}: the last line", form))
    return [line for line in found if line]


def _read(text: bytes, where: str, form: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    with reading(where, "a JSON object; give another file, or remove that line"):
        line = from_json(text.decode() or "{}")
        if not isinstance(line, dict):
            raise ValueError("is no JSON object")
        if type(line.get("step", 0)) is not int or line.get("step", 0) < 0:
            raise ValueError("`step` is no integer ≥ 0")
        form(line)
    return line
