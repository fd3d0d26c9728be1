"""The format safetensors: names, dtypes, shapes and numbers, and nothing that could be executed.

    8 bytes     the length of the header, little-endian
    header      JSON: {"__metadata__": {text: text},
                       name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …}
    numbers     of one array after the other, last axis fastest, without gaps

Files of ours have two checksums (SHA-256) among the metadata, so that a bit that has flipped is
noticed, wherever it is: :data:`NUMBERS`, of all numbers in the order of their arrays' names, and
:data:`HEADER`, of everything else, the other checksum included. Where one is there, both must be,
and be right. Files of other programs have none.

>>> import io
>>> content = pack({"b": np.arange(2, dtype=np.int32), "a": np.ones(1)}, {"note": "small"})
>>> header = read_header(io.BytesIO(content), len(content))
>>> header.about, header.shown("b"), read_arrays(io.BytesIO(content), header)["b"]
({'note': 'small'}, 'int32[2]', array([0, 1], dtype=int32))
"""

import hashlib
import json
import math
from collections.abc import Mapping
from io import BufferedIOBase
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxcnn._io.files import from_json

DTYPES = {
    "BOOL": "bool", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
}  # fmt: skip
ABOUT, HEADER, NUMBERS = "__metadata__", "jaxcnn_header_sha256", "jaxcnn_numbers_sha256"
MOST = 2**24  # bytes of a header; a hundred are enough for an array


class Entry(NamedTuple):
    """Where an array is, counted from the end of the header, and what it is."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """What a file says of itself; ``numbers`` is their checksum, where the file has one."""

    entries: dict[str, Entry]
    about: dict[str, str]
    start: int
    numbers: str | None

    def shown(self, name: str) -> str:
        """An array as messages write it."""
        entry = self.entries[name]
        return f"{DTYPES.get(entry.dtype, entry.dtype)}{list(entry.shape)}"


def pack(arrays: Mapping[str, Any], about: Mapping[str, str]) -> bytes:
    """A whole file. ``arrays`` have dtypes of :data:`DTYPES`."""
    kinds, found = (
        {name: kind for kind, name in DTYPES.items()},
        {n: np.asarray(a) for n, a in arrays.items()},
    )
    parts = {
        name: np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for name, array in found.items()
    }
    entries, at = {}, 0
    # so that each array is aligned as its dtype needs
    order = sorted(found, key=lambda name: (-found[name].itemsize, name))
    for name in order:
        entries[name] = Entry(
            kinds[str(found[name].dtype)], found[name].shape, at, at := at + parts[name].size
        )
    numbers = hashlib.sha256()
    for name in sorted(parts):
        numbers.update(parts[name].data)
    told = {**about, NUMBERS: numbers.hexdigest()}
    header: dict[str, Any] = {ABOUT: {**told, HEADER: _checksum(entries, told)}}
    for name, entry in entries.items():
        header[name] = {
            "dtype": entry.dtype,
            "shape": entry.shape,
            "data_offsets": (entry.begin, entry.end),
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(parts[name].data for name in order)])


def read_header(file: BufferedIOBase, size: int) -> Header:
    """The header of a file of that ``size``. ValueError where it does not describe all of the file,
    or is not what was written."""
    head = file.read(8)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or not 2 <= length <= min(MOST, size - 8):
        raise ValueError(
            f"its header would have {length:,} of {size:,} bytes, at most {MOST:,} of them"
        )
    text = file.read(length).decode()
    if not text.startswith("{"):
        raise ValueError("its header is no JSON object")
    found = from_json(text)
    about, start = found.pop(ABOUT, {}), 8 + length
    if not isinstance(about, dict) or not all(isinstance(value, str) for value in about.values()):
        raise ValueError(f"{ABOUT} must be text by name")
    entries = {name: _entry(name, value) for name, value in found.items()}
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        if entry.begin != at:
            raise ValueError(
                f"`{name}` begins at {entry.begin}, not where the one before it ends, {at}"
            )
        at = entry.end
    if start + at != size:
        raise ValueError(f"its header describes {start + at} bytes, it has {size}")
    told = {name: text for name, text in about.items() if name != HEADER}
    if {HEADER, NUMBERS} & about.keys() and about.get(HEADER) != _checksum(entries, told):
        raise ValueError("its header does not have its checksum")
    numbers = told.pop(NUMBERS, None)
    if HEADER in about and numbers is None:
        raise ValueError("the checksum of its numbers is missing")
    return Header(entries, told, start, numbers)


def read_arrays(file: BufferedIOBase, header: Header) -> dict[str, np.ndarray]:
    """All arrays by name. ValueError where they are not what was written."""
    found, numbers = {}, hashlib.sha256()
    for name, entry in sorted(header.entries.items()):
        array = np.empty(entry.shape, jnp.dtype(DTYPES[entry.dtype]))
        content = array.reshape(-1).view(np.uint8)
        file.seek(header.start + entry.begin)
        if file.readinto(content.data) != content.size:
            raise ValueError(f"it ends within `{name}`")
        if entry.dtype == "BOOL" and content.size and content.max() > 1:
            raise ValueError(f"`{name}` has numbers that are no truth values")
        if header.numbers is not None:
            numbers.update(content.data)
        found[name] = array
    if header.numbers is not None and header.numbers != numbers.hexdigest():
        raise ValueError("its numbers do not have their checksum")
    return found


def _checksum(entries: Mapping[str, Entry], told: Mapping[str, str]) -> str:
    what = (
        sorted((name, entry.dtype, list(entry.shape)) for name, entry in entries.items()),
        sorted(told.items()),
    )
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _entry(name: str, value: Any) -> Entry:
    wanted = 'must be {"dtype": …, "shape": […], "data_offsets": [begin, end]}'
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"`{name}` {wanted}")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not (isinstance(dtype, str) and _counts(shape) and _counts(offsets) and len(offsets) == 2):
        raise ValueError(f"`{name}` {wanted}")
    size = (
        math.prod(shape) * jnp.dtype(DTYPES[dtype]).itemsize
        if dtype in DTYPES
        else offsets[1] - offsets[0]
    )
    if offsets[1] - offsets[0] != size or size < 0:
        raise ValueError(
            f"`{name}` is {dtype} {shape}, which is not {offsets[1] - offsets[0]} bytes"
        )
    return Entry(dtype, tuple(shape), *offsets)


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(number) is int and 0 <= number < 2**63 for number in value
    )
