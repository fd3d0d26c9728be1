"""Whatever has happened to a file, it is read as it was meant, or refused in one line that names
it: no other exception, no warning, no word on the terminal, no heap of memory."""

import resource
import unicodedata
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutated, mutated_json
from readers import READERS, Reader

from jaxcnn._io.outside import MOST, UNSEEN, OutsideError

COMMON: dict[str, Any] = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}  # fmt: skip
HEAP = 700 << 20  # bytes; `outside.room` lets 256 MiB through, of which a reader may need a copy
COUNTS = [100, pytest.param(2000, marks=pytest.mark.slow)]


def check_line(error: Exception, kind: type[Exception], name: str) -> None:
    """One line that names the file, without anything that a terminal would obey."""
    told = str(error)
    assert isinstance(error, kind), f"{type(error).__name__}: {told}"
    assert name in told, told
    assert not {unicodedata.category(c) for c in told} & UNSEEN, ascii(told)
    assert len(told) <= MOST + 1, told


def outcome(reader: Reader, path: Path, name: str = "") -> Any:
    """What is read, or None where it is refused in a line with that ``name``, the file's if not
    given."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = reader.read(path)
        except OutsideError as error:
            found = check_line(error, reader.kind, name or path.name)
    assert not said, said[0].message
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < HEAP
    return found


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def numbers(found: Any) -> list[tuple[str, tuple[int, ...], bytes]]:
    """To the bit, of a data set or a tree of arrays."""
    parts = jax.tree.leaves(found if isinstance(found, dict | tuple | np.ndarray) else vars(found))
    arrays = [np.asarray(part) for part in parts]
    return [(str(array.dtype), array.shape, array.tobytes()) for array in arrays]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused_in_one_line(
    name: str, count: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reader = READERS[name]
    path = tmp_path / reader.name
    put(tmp_path, {**reader.beside, reader.name: reader.wrap(reader.content)})
    whole = outcome(reader, path)
    assert whole is not None
    assert reader.right(whole)
    changed: st.SearchStrategy[bytes] = (
        mutated_json(reader.content.decode()).map(str.encode)
        if reader.json
        else mutated(reader.content)
    )

    @settings(max_examples=count, **COMMON)
    @given(changed)
    def holds(content: bytes) -> None:
        path.write_bytes(reader.wrap(content))
        found = outcome(reader, path)
        if found is not None:
            assert reader.right(found)
            assert not reader.same or numbers(found) == numbers(whole)

    holds()
    told = capfd.readouterr()
    assert told.out == ""
    # libtiff has words of its own, which nothing in Python hears
    assert told.err == "" or name == "tiff, packed"
    assert not {unicodedata.category(c) for c in told.err.replace("\n", "")} & UNSEEN
