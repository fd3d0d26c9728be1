"""The SHA-256 of every file in a folder, kept in it: what is read there is what was written, and
nothing else is deleted.

>>> import pathlib, tempfile
>>> with tempfile.TemporaryDirectory() as name:
...     folder = pathlib.Path(name)
...     _ = (folder / "numbers").write_bytes(b"1234")
...     write_digests(folder)
...     check_digests(folder)
...     _ = (folder / "numbers").write_bytes(b"1235"), (folder / "notes.txt").write_text("mine")
...     print(foreign(folder))
...     check_digests(folder)
Traceback (most recent call last):
jaxcnn._io.outside.OutsideError: …numbers: has other bytes than were written
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from jaxcnn._io.outside import OutsideError, opened, printable, reading
from jaxcnn._io.sealed import read_sealed, write_sealed

LIST = "digests.json"
KIND = "jaxcnn's sums of a checkpoint's files"
CHUNK = 1 << 20  # bytes


def write_digests(folder: Path, *, later: tuple[str, ...] = ()) -> None:
    """Write the sums of all files in ``folder``, of which those called ``later`` are still to
    come."""
    files = {name: _sum(folder / name) for name in _files(folder) if name not in later}
    write_sealed(folder / LIST, KIND, {"files": files, "later": list(later)})


def check_digests(folder: Path, *, below: str = "", part: int = 0, of: int = 1) -> None:
    """Read the files of ``folder``, or those ``below`` a part of it, and compare; ``part`` of
    ``of`` where processes share the work. OutsideError that names the first that differs."""
    sums = {name: sum_ for name, sum_ in _listed(folder)[0].items() if name.startswith(below)}
    for name in sorted(sums)[part::of]:
        if _sum(folder / name) != sums[name]:
            raise OutsideError(printable(f"{folder / name}: has other bytes than were written"))


def foreign(folder: Path) -> list[str]:
    """The files in ``folder`` that were not written with its sums; all of them, where it has
    none."""
    try:
        files, later = _listed(folder)
    except OutsideError:
        return list(_files(folder))
    return sorted({*_files(folder)} - {*files, *later, LIST})


def remove(folder: Path) -> None:
    """Delete what was written with the sums of ``folder``; it stays where something else is in
    it."""
    others = {*foreign(folder)}
    for name in list(_files(folder)):
        if name not in others:
            (folder / name).unlink()
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):  # where there is something in it
            os.rmdir(path)


def _listed(folder: Path) -> tuple[dict[str, str], list[str]]:
    """The sums by name, and the names of files that were still to come."""
    with reading(folder / LIST, KIND):
        said = read_sealed(folder / LIST, KIND)
        files, later = dict(said["files"]), list(said["later"])
        if not all(isinstance(text, str) for text in (*files, *files.values(), *later)):
            raise ValueError("has something else than text among its names and sums")
        return files, later


def _files(folder: Path) -> Iterator[str]:
    for path, _, names in os.walk(folder):
        for name in names:
            found = Path(path, name).relative_to(folder).as_posix()
            if found != LIST:
                yield found
    if (folder / LIST).exists():
        yield LIST


def _sum(path: Path) -> str:
    found = hashlib.sha256()
    with opened(path, "what was written there") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()
