"""Parameters and state in one safetensors file: names, shapes, dtypes and numbers, and nothing that
could be executed. A bit that has flipped is noticed.

>>> import pathlib, tempfile, jax
>>> from jaxcnn import models
>>> params, state = models.mlp((8, 2)).init(jax.random.key(0), (4,))
>>> with tempfile.TemporaryDirectory() as folder:
...     path = pathlib.Path(folder, "mlp.safetensors")
...     save_safetensors(path, params, state, about={"set": "digits"})
...     read, _ = load_safetensors(path, params, state)
...     read_about(path), bool((read["dense1"]["kernel"] == params["dense1"]["kernel"]).all())
({'set': 'digits'}, True)
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcnn._core.errors import show
from jaxcnn._io.files import write_file
from jaxcnn._io.outside import OutsideError, opened, reason
from jaxcnn.train._names import IN_FILES, named
from jaxcnn.weights._tensors import DTYPES, HEADER, NUMBERS, Header, pack, read_arrays, read_header


class WeightsError(OutsideError):
    """Weights cannot be written, read or converted; the message is one line that says which, why,
    and what can be done."""


def save_safetensors(
    path: str | Path, params: Any, state: Any, *, about: Mapping[str, str] | None = None
) -> None:
    """Write every array under its name ("params.conv1.kernel", "state.norm.mean"), and ``about``
    beside them. The file is there when it is whole.

    Raises WeightsError for what is no array, for dtypes that the format has not, for names and an
    ``about`` that are not text, and where ``path`` cannot be written."""
    path, arrays, about = Path(path), names_of(params, state), dict(about or {})
    for name, array in arrays.items():
        if str(getattr(array, "dtype", None)) not in DTYPES.values():
            raise WeightsError(
                f"{path}: `{name}` is {show(array)}; expected an array of"
                f" {', '.join(DTYPES.values())}"
            )
    for name, text in about.items():
        if not isinstance(name, str) or not isinstance(text, str) or name in (HEADER, NUMBERS):
            raise WeightsError(
                f"{path}: `about` must be text by name, got {name!r}: {text!r}; e.g."
                f" {name!s:.40}=str(…)"
            )
    for text in (*arrays, *about, *about.values()):
        if not text.isascii() and text != text.encode(errors="replace").decode():
            raise WeightsError(
                f"{path}: `{text:.60}` is no text that UTF-8 could hold; name it otherwise"
            )
    try:
        write_file(path, pack(arrays, about))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be written ({error.strerror})") from error


def load_safetensors(path: str | Path, like_params: Any, like_state: Any) -> tuple[Any, Any]:
    """``(params, state)`` of a file, which must have the arrays of ``like_params`` and
    ``like_state`` by name, shape and dtype, and no others.

    They are put on the devices of those; where those are NumPy's, or shapes alone, they are
    NumPy's. All is checked before the first number is read. Raises WeightsError, also where a file
    of :func:`save_safetensors` is no longer what was written."""
    wanted = names_of(like_params, like_state)
    with _opened(path) as (file, header):
        there = {name: header.shown(name) for name in header.entries}
        here = {name: show(array) for name, array in wanted.items()}
        other = [name for name in sorted({*there, *here}) if there.get(name) != here.get(name)]
        if other:
            more = f" (and {len(other) - 1} more differ)" if len(other) > 1 else ""
            hint = "" if there.keys() & here.keys() else "; load_torch reads the files of PyTorch"
            raise WeightsError(
                f"{path}: `{other[0]}` is {there.get(other[0], 'nothing')} in the file,"
                f" {here.get(other[0], 'nothing')} here{more}{hint}"
            )
        return rebuilt(read_arrays(file, header), like_params, like_state)


def read_about(path: str | Path) -> dict[str, str]:
    """The ``about`` that :func:`save_safetensors` was given. Raises WeightsError."""
    with _opened(path) as (_, header):
        return header.about


def read_tensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Every array of a file, whatever it is called, and the ``about`` beside them. Raises
    WeightsError."""
    with _opened(path) as (file, header):
        unknown = [name for name, entry in header.entries.items() if entry.dtype not in DTYPES]
        if unknown:
            raise WeightsError(
                f"{path}: `{unknown[0]}` is {header.shown(unknown[0])}; expected"
                f" {', '.join(DTYPES.values())}"
            )
        return read_arrays(file, header), header.about


def names_of(params: Any, state: Any) -> dict[str, Any]:
    """Every array under its name. Raises WeightsError where two have one name, as "b.c" in "a" and
    "c" in "a.b" have."""
    tree = {"params": params, "state": state}
    found = named(tree, IN_FILES)
    if len(found) != len(jax.tree.leaves(tree)):
        raise WeightsError("two arrays have the same name; name the layers without dots")
    return found


def rebuilt(found: Mapping[str, np.ndarray], like_params: Any, like_state: Any) -> tuple[Any, Any]:
    """``(params, state)`` from arrays by name."""
    like = names_of(like_params, like_state)
    structure = jax.tree.structure({"params": like_params, "state": like_state})
    tree = jax.tree.unflatten(
        structure, [_placed(found[name], array) for name, array in like.items()]
    )
    return tree["params"], tree["state"]


def _placed(array: np.ndarray, like: Any) -> Any:
    return (
        array
        if isinstance(like, np.ndarray | jax.ShapeDtypeStruct)
        else jax.device_put(array, getattr(like, "sharding", None))
    )


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[tuple[BufferedReader, Header]]:
    with opened(path, "a safetensors file", WeightsError) as file:
        try:
            yield file, read_header(file, os.fstat(file.fileno()).st_size)
        except OutsideError:
            raise
        except Exception as error:
            file.seek(0)
            raise WeightsError(f"{path}: {_what_it_is(file.read(4))} ({reason(error)})") from None


def _what_it_is(head: bytes) -> str:
    if not head:
        return "is empty; expected a safetensors file"
    if head == b"PK\x03\x04" or (head[0] == 0x80 and head[1:2] in (b"\2", b"\3", b"\4", b"\5")):
        return (
            "is a pickle or a zip archive, as torch.save writes, and pickles are never read, as"
            " they can run anything; where it was made, call"
            " safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        )
    return "is not a safetensors file, or is cut short or damaged"
