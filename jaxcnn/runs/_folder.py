"""The folder of a run: one run at a time in it, and a list of what was written there, as nothing
else is ever deleted.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as name, claimed(Path(name)):
...     folder = RunFolder(Path(name))
...     folder.will_write("result.json")
...     _ = (folder.path / "result.json").write_text("{}")
...     _ = (folder.path / "mine.txt").write_text("weeks of work")
...     folder.clear()
...     sorted(path.name for path in folder.path.iterdir())
['.jaxcnn.lock', 'manifest.json', 'mine.txt']
"""

import contextlib
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from jaxcnn._io.command import InputError
from jaxcnn._io.outside import OutsideError, printable, reading
from jaxcnn._io.sealed import read_sealed, write_sealed

LOCK, MANIFEST = ".jaxcnn.lock", "manifest.json"
KIND = "jaxcnn's list of what a run wrote"


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[None]:
    """The folder ``path``, which no other run has meanwhile. InputError that names the one that has
    it.

    The claim is a lock on a file, which the system takes back from a process that ends, however it
    ends."""
    try:
        import fcntl
    except ImportError:  # a system without such locks
        yield
        return
    while True:
        handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = printable(os.read(handle, 200).decode(errors="replace")) or "it has just begun"
            os.close(handle)
            raise InputError(
                f"--out {path} holds a run that goes on just now ({owner}); wait for its end, or"
                " give another --out"
            ) from None
        except OSError as error:
            print(
                f"--out {path} cannot be locked ({error.strerror}); see that no other run uses it",
                file=sys.stderr,
            )
        with contextlib.suppress(FileNotFoundError):
            if os.path.sameopenfile(handle, own := os.open(path / LOCK, os.O_RDONLY)):
                break
            os.close(own)
        os.close(handle)  # of a file that another run has deleted when it ended
    os.close(own)
    try:
        os.truncate(handle, 0)
        os.write(
            handle,
            f"process {os.getpid()} on {platform.node()}, since"
            f" {time.strftime('%Y-%m-%d %H:%M:%S')}".encode(),
        )
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path / LOCK)
        os.close(handle)


def listed(path: Path) -> set[str]:
    """What is on the list in the folder ``path``. OutsideError where it cannot be read, or has a
    name of something outside of that folder."""
    with reading(path / MANIFEST, "a list of the names of files in that folder"):
        return _names_below(read_sealed(path / MANIFEST, KIND)["written"])


class RunFolder:
    """The files of a run below ``path``, by their names there ("tensorboard/events…").

    Args:
        folders: those that keep lists of their own, by name, each with what deletes all that is on
            it.

    Raises InputError where the list is damaged.
    """

    def __init__(
        self, path: Path, folders: Mapping[str, Callable[[Path], None]] | None = None
    ) -> None:
        self.path, self._folders, self.written = path, folders or {}, set[str]()
        if os.path.lexists(path / MANIFEST):
            try:
                self.written = listed(path)
            except OutsideError as error:
                raise InputError(
                    f"{error}; it lists what may be deleted here: give another --out"
                ) from None

    def will_write(self, *names: str) -> None:
        """Put names on the list, before the files are there, so that a killed run leaves none that
        is not on it.

        InputError where there is something of that name that no run wrote.
        """
        self.check_free(*names)
        self.wrote(*names)

    def check_free(self, *names: str) -> None:
        """InputError where there is something of one of the names that no run wrote."""
        for name in sorted(set(names) - self.written):
            if os.path.lexists(self.path / name):
                raise InputError(
                    f"--out {self.path} has something called {name} that is on no list of what a"
                    " run wrote there; move it away, or give another --out"
                )

    def wrote(self, *names: str) -> None:
        """Put names on the list, of files whose names are known only when they are there."""
        if new := set(names) - self.written:
            self._save(self.written | new)

    def there(self) -> list[str]:
        """What runs have written and what is still there, in order."""
        return sorted(
            name
            for name in self.written
            if os.path.lexists(self.path / name) and self._is_own(name)
        )

    def _is_own(self, name: str) -> bool:
        """Whether no link leads to somewhere else on the way there."""
        return (self.path / name).parent.resolve() == self.path.resolve() / PurePosixPath(
            name
        ).parent

    def clear(self) -> None:
        """Delete all that runs have written; what else is in one of their folders stays, and with
        it that folder."""
        for name in reversed(self.there()):  # what is in a folder comes before the folder
            path = self.path / name
            if name in self._folders:
                self._folders[name](path)
            elif path.is_dir() and not path.is_symlink():
                with contextlib.suppress(OSError):  # where there is something else in it
                    path.rmdir()
            else:
                path.unlink()
        self._save(set(self.there()))

    def _save(self, written: set[str]) -> None:
        self.written = written
        write_sealed(self.path / MANIFEST, KIND, {"written": sorted(written)})


def _names_below(names: list[str]) -> set[str]:
    """ValueError unless it is a list in which each names something below a folder, and in one
    way."""
    for name in names if isinstance(names, list) else [None]:
        parts = (
            PurePosixPath(name).parts if name and isinstance(name, str) and "\0" not in name else ()
        )
        if not parts or "/".join(parts) != name or {"/", ".."} & set(parts):
            raise ValueError(f"{name!r:.60} is no name of a file in that folder")
    return set(names)
