"""The folder of a run: one run at a time in it, and a list of what was written there, as nothing else is ever deleted.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as name, claimed(Path(name)) as folder:
...     folder.will_write("result.json")
...     _ = (folder.path / "result.json").write_text("{}"), (folder.path / "mine.txt").write_text("weeks of work")
...     folder.clear()
...     [path.name for path in folder.path.iterdir() if not path.name.startswith(".")]
['mine.txt']
"""

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from jaxcnn.command import InputError
from jaxcnn.outside import printable, reading
from jaxcnn.sealed import read_sealed, write_sealed

LOCK, MANIFEST = ".lock", "manifest.json"
KIND = "jaxcnn's list of what a run wrote"
STEPS, SHARED = "checkpoints", ("post_mortem", "tensorboard")


class RunFolder:
    """The files of a run below ``path``, by their names there ("checkpoints/30").

    Raises InputError where the list of them is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.written = path, set[str]()
        if (path / MANIFEST).exists():
            with reading(path / MANIFEST, KIND, InputError):
                self.written = {str(name) for name in read_sealed(path / MANIFEST, KIND)["written"]}

    def will_write(self, *names: str) -> None:
        """Put names on the list, before the files are there, so that a killed run leaves none that is not on it."""
        if not self.written.issuperset(names):
            self.written |= set(names)
            self._save()

    def foreign(self, *names: str) -> list[str]:
        """Those of the names that stand for something which no run wrote."""
        return [name for name in names if name not in self.written and os.path.lexists(self.path / name)]

    def there(self) -> list[str]:
        """What runs have written and what is still there, in order."""
        return sorted(name for name in self.written if os.path.lexists(self.path / name))

    def clear(self) -> None:
        """Delete all that runs have written; what else is in one of their folders stays, and with it that folder."""
        folders = []
        for name in self.there():
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                folders.append(path)
            else:
                path.unlink()
        for path in sorted(folders, reverse=True):  # the inner ones first
            with contextlib.suppress(OSError):
                path.rmdir()
        self.written = {name for name in self.written if os.path.lexists(self.path / name)}
        self._save()

    def _save(self) -> None:
        write_sealed(self.path / MANIFEST, KIND, {"written": sorted(self.written)})
