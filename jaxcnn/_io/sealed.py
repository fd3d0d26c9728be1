"""JSON files that carry a SHA-256 of what they say, so that a changed bit, or a hand that edited
them, is noticed.

    {"sha256": "…", "format": "…", …}

The sum is over all but itself, written with sorted names and without spaces.

>>> import pathlib, tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     path = pathlib.Path(folder, "list.json")
...     write_sealed(path, "a list", {"names": ["a", "b"]})
...     assert read_sealed(path, "a list") == {"names": ["a", "b"]}
...     _ = path.write_text(path.read_text().replace("b", "c", 1))
...     read_sealed(path, "a list")
Traceback (most recent call last):
jaxcnn._io.outside.OutsideError: …list.json: is damaged, or was edited: …
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxcnn._io.files import from_json, write_file
from jaxcnn._io.outside import OutsideError, opened

MOST = 256 << 20  # bytes of such a file


def write_sealed(path: Path, kind: str, value: Mapping[str, Any]) -> None:
    """``value``, which JSON can hold, as a file of that ``kind``, all at once."""
    write_file(path, seal(kind, value))


def seal(kind: str, value: Mapping[str, Any]) -> str:
    """The text of such a file."""
    said = {"format": kind, **value}
    return json.dumps({"sha256": _sum(said), **said}, indent=1) + "\n"


def read_sealed(path: Path, kind: str) -> dict[str, Any]:
    """What :func:`write_sealed` was given. OutsideError where the file is missing, of another kind,
    or not as it was written."""
    with opened(path, f"{kind}, as JSON") as file:
        text = file.read(MOST + 1)
        if len(text) > MOST:
            raise OutsideError(f"{path}: has more than {MOST:,} bytes; expected {kind}")
        said = from_json(text)
        found = said.pop("sha256", None) if isinstance(said, dict) else None
        if found != _sum(said):
            raise OutsideError(
                f"{path}: is damaged, or was edited: it is not what its checksum is of"
            )
        if said.pop("format") != kind:
            raise OutsideError(f"{path}: is not {kind} of this version of jaxcnn")
        return said


def _sum(said: Any) -> str:
    return hashlib.sha256(
        json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()
