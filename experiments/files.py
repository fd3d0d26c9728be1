"""The files of a run. No JSON file or picture is ever seen half written; a log grows line by line."""

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from jaxcnn.files import write_file


def write_json(path: Path, value: dict[str, Any]) -> None:
    """``value`` as readable JSON; NaN and infinity, which JSON does not have, as null."""
    write_file(path, json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def clear_folder(folder: Path, names: Sequence[str]) -> None:
    """Remove what an earlier run wrote there, so that no old result stands beside a new log."""
    for name in names:
        (folder / name).unlink(missing_ok=True)


class Log:
    """One JSON object a line, each flushed as soon as it is known: a run can be followed, and a crash loses nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, **fields: Any) -> None:
        self._stream.write(json.dumps(_plain(fields), ensure_ascii=False, allow_nan=False) + "\n")
        self._stream.flush()


@contextlib.contextmanager
def open_log(path: Path) -> Iterator[Log]:
    """The log of a run, from empty."""
    with path.open("w", encoding="utf-8") as stream:
        yield Log(stream)
