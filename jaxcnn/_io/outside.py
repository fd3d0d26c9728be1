"""What comes from outside (files, names, settings, the environment) is data, and whatever a parser
raises about it becomes one line.

Every reader of the library goes through :func:`reading`, those of files through :func:`opened`, and
every name that is shown through :func:`printable`.

>>> with reading("labels.csv", "one integer a line"):
...     int("3x")
Traceback (most recent call last):
jaxcnn._io.outside.OutsideError: labels.csv: invalid literal for int() with base 10: '3x'; …
>>> printable("a\\x1b[2Jb")
'a\\\\x1b[2Jb'
"""

import contextlib
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from io import BufferedReader
from typing import Any

UNPACKED = "JAXCNN_UNPACKED"
"""The variable of the environment that raises :func:`room`, in bytes."""
MOST = 1200  # characters of a message
LONGEST = 160  # characters of what somebody else's parser says
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode's categories of characters that move the cursor, turn the direction of writing, break
lines, or are none (the surrogates that stand for bytes of no UTF-8)."""


class OutsideError(ValueError):
    """Something from outside cannot be used; the message is one line that says what, which place in
    it, what was expected, and how to mend it."""

    def __init__(self, message: object = "") -> None:
        told = printable(message)  # as it has names from outside, which may be of any length
        super().__init__(told if len(told) <= MOST else f"{told[: MOST // 2]}…{told[-MOST // 2 :]}")


@contextlib.contextmanager
def reading(
    where: object,
    wanted: str,
    kind: type[OutsideError] = OutsideError,
    missing: type[OutsideError] | None = None,
) -> Iterator[None]:
    """Whatever is raised inside becomes ``kind``: one line that names ``where``, and what was
    ``wanted`` there.

    An :class:`OutsideError` from deeper down keeps its words, and its type where that is a
    ``kind``. ImportError passes, which names the extra that is lacking. ``missing`` is raised where
    there is no such file."""
    try:
        yield
    except ImportError:
        raise
    except OutsideError as error:
        named = printable(where) in str(error)
        if named and isinstance(error, kind):
            raise
        raise (type(error) if isinstance(error, kind) else kind)(
            error if named else f"{where}: {error}"
        ) from None
    except Exception as error:  # parsers raise anything
        found = missing if missing is not None and isinstance(error, FileNotFoundError) else kind
        hint = "" if isinstance(error, FileNotFoundError) else f"; expected {wanted}"
        raise found(f"{where}: {reason(error)}{hint}") from None


@contextlib.contextmanager
def opened(
    path: str | os.PathLike[str],
    wanted: str,
    kind: type[OutsideError] = OutsideError,
    missing: type[OutsideError] | None = None,
    *,
    grows: bool = False,
    pipes: bool = False,
) -> Iterator[BufferedReader]:
    """The bytes of a file, to be read inside, as :func:`reading` has it. Pipes and devices are
    refused, as they may have no end, and files that change meanwhile.

    Args:
        grows: it may become longer meanwhile, as a log does.
        pipes: pipes and devices are taken, by a reader that asks for a limited number of bytes.
    """
    with reading(path, wanted, kind, missing), open(path, "rb", opener=at_once) as file:
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            if not pipes:
                raise kind(f"{path}: is a pipe or a device; expected {wanted}")
            os.set_blocking(file.fileno(), True)
        yield file
        after = os.fstat(file.fileno())
        if not grows and (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise kind(f"{path}: changed while it was read; wait until it is whole")


def at_once(path: str, flags: int) -> int:
    """An opener that does not wait until somebody is at the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)


def load_jax(*, begin: bool = True) -> Any:
    """JAX for a command, with freed memory kept. It reads its settings in the environment when it
    is loaded, and when it begins to look for devices."""
    told = [
        printable(f"{name}={value}", LONGEST)
        for name, value in sorted(os.environ.items())
        if name.startswith("JAX_")
    ]
    wanted = f"other settings than {' '.join(told)}" if told else "a JAX that finds its devices"
    with reading("JAX", wanted):
        import jax

        from jaxcnn._io.memory import keep_in_time

        keep_in_time()
        if begin:
            jax.devices()
        return jax


def room(packed: int) -> int:
    """How many bytes ``packed`` bytes may unpack to: 256 MiB, or 200 times as many, or what
    $JAXCNN_UNPACKED says, whichever is more.

    A few bytes can unpack to more than any memory holds.

    >>> room(1000) == 2**28, room(10**7)
    (True, 2000000000)
    """
    told = os.environ.get(UNPACKED, "")
    if told and not (told.isascii() and told.isdecimal() and len(told) < 20):
        raise OutsideError(f"{UNPACKED}={told}: expected a number of bytes, such as {2**34}")
    return max(2**28, 200 * packed, int(told or 0))


def reason(error: BaseException) -> str:
    """Why, in a few words.

    >>> reason(FileNotFoundError(2, "No such file or directory")), reason(RecursionError())
    ('there is no such file', 'is nested too deeply')
    >>> reason(KeyError("a"))
    "KeyError: 'a'"
    """
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, MemoryError):
        return "asks for more memory than there is"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    text = printable(" ".join(str(error).split()), LONGEST)
    if isinstance(error, LookupError | AttributeError) or not text:  # whose text alone says little
        return ": ".join(part for part in (type(error).__name__, text) if part)
    return text


def printable(text: object, most: int | None = None) -> str:
    """``text`` on one line of at most ``most`` characters, with every character that does something
    else than being seen written as Python writes it.

    >>> printable("Zürich ∂y"), printable("two\\nlines")
    ('Zürich ∂y', 'two\\\\nlines')
    >>> printable("a\\udcff", 8), printable("abcdef", 4)
    ('a\\\\udcff', 'abc…')
    """
    shown = "".join(ascii(c)[1:-1] if unicodedata.category(c) in UNSEEN else c for c in str(text))
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "…"


def printable_lines(text: object) -> str:
    """``text`` with its lines and tabs, and every other character as :func:`printable` has it."""
    return "".join(
        part if part in ("\n", "\t") else printable(part)
        for part in re.split("([\n\t])", str(text))
    )
