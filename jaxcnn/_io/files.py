"""Files that are never seen half written, and JSON without surprises.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     write_json(Path(folder) / "result.json", {"loss": 0.5})
...     from_json((Path(folder) / "result.json").read_text())
{'loss': 0.5}
"""

import contextlib
import errno
import json
import math
import os
import secrets
import stat
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATIENCE = 5.0  # seconds in which somebody may begin to read a named pipe
LARGEST_INTEGER = 2**63
MOST_LINKS = 40  # as Linux has it
KEPT_ASIDE = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
)


def write_file(path: Path, content: bytes | str) -> None:
    """``content`` as the whole of ``path``, all at once: written aside, then renamed, so that a
    reader, another writer or a crash finds the old file or the new one.

    A file keeps its mode and, where that is allowed, its owner; a link stays, and what it names is
    written. A device or a pipe is written into; a named pipe that nobody reads within
    :data:`PATIENCE` seconds gets nothing, with a warning. Text is written as UTF-8; what no UTF-8
    can hold (bytes of a file's name) as ``\\udcff``, which JSON reads back."""
    whole = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    try:
        _write(path, whole)
    except OSError as error:  # which has no name, or that of the file aside
        if error.errno is not None:
            error.filename = str(path)
        raise


def _write(path: Path, whole: bytes) -> None:
    place = destination(path)
    if isinstance(place, int):  # a stream of one's own, such as /dev/stdout: as if it were printed
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        with os.fdopen(os.dup(place), "wb") as into:
            into.write(whole)
        return
    try:
        before = os.stat(place)
    except FileNotFoundError:
        before = None
    if before is None or stat.S_ISREG(before.st_mode):
        _replace(place, whole, before)
    elif stat.S_ISFIFO(before.st_mode):
        _write_into_pipe(place, whole)
    else:  # a device; of a folder the system says what it is
        with place.open("wb") as into:
            into.write(whole)


def destination(path: Path) -> Path | int:
    """Where what is written to ``path`` ends: the file that it names through all links, or the
    number of one of this process's own streams. OSError for links that go in circles."""
    for _ in range(MOST_LINKS):
        folder = os.path.realpath(path.parent)
        if folder == f"/proc/{os.getpid()}/fd" and path.name.isdecimal():
            return int(path.name)
        path = Path(folder, path.name)
        if folder.startswith("/proc/") or not path.is_symlink():
            return path
        path = path.parent / os.readlink(path)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _replace(place: Path, whole: bytes, before: os.stat_result | None) -> None:
    """The name is drawn, so that no two writers share it and nobody can have put a link there; it
    is short, as the place's own may be as long as a name can be."""
    aside = place.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with os.fdopen(
            os.open(aside, KEPT_ASIDE, 0o666 if before is None else 0o600), "wb"
        ) as file:
            file.write(whole)
            file.flush()
            if before is not None and hasattr(os, "fchown"):
                _keep(file.fileno(), before)
            _to_disk(file.fileno())
        os.replace(aside, place)
    finally:
        aside.unlink(missing_ok=True)


def _keep(number: int, before: os.stat_result) -> None:
    """The owner and mode that the file had; where it cannot have its group, another group gets no
    right that only that one had."""
    mode = stat.S_IMODE(before.st_mode)
    now = os.fstat(number)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        for owner in (before.st_uid, -1):
            with contextlib.suppress(OSError):
                os.fchown(number, owner, before.st_gid)
                break
        if os.fstat(number).st_gid != before.st_gid:
            mode &= ~0o070
        if os.fstat(number).st_uid != before.st_uid:
            mode &= ~(stat.S_ISUID | stat.S_ISGID)
    os.fchmod(number, mode)


def _to_disk(number: int) -> None:
    """Before the rename, as else a crash of the machine may leave the new name with nothing in
    it."""
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that has no such call
            raise


def _write_into_pipe(place: Path, whole: bytes) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            number = os.open(place, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        if time.monotonic() > end:
            warnings.warn(
                f"{place} is a pipe that nobody reads: nothing was written there", RuntimeWarning, 4
            )
            return
        time.sleep(0.05)
    os.set_blocking(number, True)
    with os.fdopen(number, "wb") as into:
        into.write(whole)


def write_json(path: Path, value: Any) -> None:
    """``value`` as readable JSON, all at once; NaN and infinity as null."""
    write_file(path, to_json(value, indent=2) + "\n")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """``value`` as JSON that is UTF-8; NaN and infinity, which JSON does not have, as null.

    >>> to_json({"loss": [0.5, float("nan")], "name": "a\\udcff"})
    '{"loss": [0.5, null], "name": "a\\\\udcff"}'
    """
    text = json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace").decode()


def from_json(text: str | bytes) -> Any:
    """What ``text`` holds. ValueError where it is no JSON, or would be read in one way here and in
    another there.

    >>> from_json('{"epochs": 30, "epochs": 3}')
    Traceback (most recent call last):
    ValueError: `epochs` is there twice
    >>> from_json("[1e999]")
    Traceback (most recent call last):
    ValueError: 1e999 is beyond what a float64 can hold
    """
    return json.loads(
        text,
        object_pairs_hook=_once,
        parse_int=integer,
        parse_float=_finite,
        parse_constant=_constant,
    )


def integer(text: str) -> int:
    """An integer below 2**63, as what is larger can be neither counted to nor always printed."""
    found = int(text) if len(text) < 25 else LARGEST_INTEGER
    if abs(found) >= LARGEST_INTEGER:
        raise ValueError(f"{text[:25]} is beyond what 64 bits can hold")
    return found


def _finite(text: str) -> float:
    if not math.isfinite(found := float(text)):
        raise ValueError(f"{text[:25]} is beyond what a float64 can hold")
    return found


def _constant(text: str) -> float:
    raise ValueError(f"JSON has no {text}")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"`{next(name for name in names if names.count(name) > 1):.60}` is there twice"
        )
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
