"""What may have happened to the bytes of a file, or to the values in a JSON text, drawn by
hypothesis."""

import copy
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

SIZES = [
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    32767,
    65535,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**63 - 1,
    2**64 - 1,
]
NUMBERS = [*map(str, SIZES), "-1", "-0", "1e999", "-2.5", "NaN", "null", "true", '"7"', "[]", "{}", "9" * 40, "1" * 5000, "00"]  # fmt: skip
WORDS = ["", "|O", "<f2", ">i8", "<U9", "complex64", "|V9", "F64", "BF16", "I128", "\\ud800", "a\\nb", "\\u001b[2J", "$x_{$", "[red]", "../../x", "/dev/zero"]  # fmt: skip
ODD = [b"\0", b"\0" * 100, b"\xff", b"\xff" * 64, b"\xed\xa0\x80", b"\xc3\x28", b"\x1b[31m", b"\r", b"\n", b"\n\n", b"\\", b'"', b"'", b"{", b"[", b"%s", b"\xef\xbb\xbf", b"\xfe\xff", b"&a", b"*a", b"<<: ", b"!!python/name:os.system", b"? "]  # fmt: skip
HEADS = [b"PK\x03\x04", b"\x1f\x8b\x08\0", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"RIFF", b"II*\0", b"P6 9 9 65535 ", b"\x93NUMPY\x01\0", b"\0\0\x0d\x03", b"BZh9", b"\xfd7zXZ\0", b"\x80\x04", b"%!PS", b"SQLite format 3\0"]  # fmt: skip
DEEP = [b"[", b'{"a":', b"(", b"- ", b"{a: ", b"? "]


class Damaged(bytes):
    """Bytes that are told in few words."""

    def __repr__(self) -> str:
        return f"{len(self)} bytes: {bytes(self[:300])!r}…{bytes(self[-60:])!r}"


Draw = Callable[[st.SearchStrategy[Any]], Any]


def _place(draw: Draw, content: bytes) -> int:
    """Anywhere, and often near the start, where headers are."""
    return draw(st.integers(0, len(content)) | st.integers(0, min(len(content), 64)))


def _flip(draw: Draw, content: bytes) -> bytes:
    if not content:
        return content
    bit = draw(st.integers(0, 8 * len(content) - 1))
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _cut(draw: Draw, content: bytes) -> bytes:
    return content[: _place(draw, content)]


def _drop(draw: Draw, content: bytes) -> bytes:
    at = _place(draw, content)
    return content[:at] + content[at + draw(st.integers(1, 40)) :]


def _insert(draw: Draw, content: bytes) -> bytes:
    at = _place(draw, content)
    return content[:at] + draw(st.sampled_from(ODD) | st.binary(max_size=20)) + content[at:]


def _repeat(draw: Draw, content: bytes) -> bytes:
    at, length = _place(draw, content), draw(st.integers(1, 400))
    return (
        content[: at + length]
        + content[at : at + length] * draw(st.integers(1, 4))
        + content[at + length :]
    )


def _size(draw: Draw, content: bytes) -> bytes:
    """A number of one to eight bytes becomes another."""
    at, width = _place(draw, content), draw(st.sampled_from([1, 2, 4, 8]))
    number = draw(st.sampled_from(SIZES)) % 256**width
    return (
        content[:at]
        + number.to_bytes(width, draw(st.sampled_from(["little", "big"])))
        + content[at + width :]
    )


def _head(draw: Draw, content: bytes) -> bytes:
    head = draw(st.sampled_from(HEADS))
    return head + content[draw(st.sampled_from([0, len(head)])) :]


def _number(draw: Draw, content: bytes) -> bytes:
    """A number in a text becomes another, of any length or, as in headers of a fixed size, of the
    same."""
    found = list(re.finditer(rb"-?\d+", content))
    if not found:
        return content
    one = draw(st.sampled_from(found[:200]))
    new = draw(st.sampled_from(NUMBERS)).encode()
    if draw(st.booleans()):
        new = b"9" * len(one[0])
    return content[: one.start()] + new + content[one.end() :]


def _word(draw: Draw, content: bytes) -> bytes:
    found = list(re.finditer(rb"(?<=['\"])[^'\"\n]{0,40}(?=['\"])", content))
    if not found:
        return content
    one = draw(st.sampled_from(found[:200]))
    return content[: one.start()] + draw(st.sampled_from(WORDS)).encode() + content[one.end() :]


def _nest(draw: Draw, content: bytes) -> bytes:
    at, part = _place(draw, content), draw(st.sampled_from(DEEP))
    return content[:at] + part * draw(st.sampled_from([3, 2000, 20_000])) + content[at:]


def _other(draw: Draw, content: bytes) -> bytes:
    return draw(st.sampled_from([b"", b"\0" * 300, b"\xff" * 300]) | st.binary(max_size=200))


WAYS: Sequence[Callable[[Draw, bytes], bytes]] = (_flip, _size, _number, _word, _cut, _drop, _insert, _repeat, _head, _nest, _other)  # fmt: skip


@st.composite
def mutated(draw: Draw, content: bytes) -> bytes:
    """``content`` after one to three accidents."""
    for way in draw(st.lists(st.sampled_from(WAYS), min_size=1, max_size=3)):
        content = way(draw, content)
    return Damaged(content)


VALUES = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        1.5,
        2**63 - 1,
        10**18,
        "",
        "x",
        "../../x",
        "\ud800",
        "a\nb",
        "\x1b[2J",
        [],
        [[]],
        {},
        {"a": 1},
        [None],
        ["x"],
        [-1],
        [1e300],
    ]
)


@st.composite
def mutated_json(draw: Draw, text: str) -> str:
    """A JSON text in which one to three values are others, are gone, or are there under another
    name."""
    whole = {"": json.loads(text)}
    for _ in range(draw(st.integers(1, 3))):
        inside, key = draw(st.sampled_from(list(_places(whole))))
        way = draw(st.sampled_from(["set", "set", "drop", "rename", "wrap"]))
        if way == "drop" and inside is not whole:
            del inside[key]
        elif way == "rename" and isinstance(inside, dict) and inside is not whole:
            inside[draw(st.sampled_from(["x", "", "a\nb", "\ud800", "../x"]))] = inside.pop(key)
        elif way == "wrap":
            inside[key] = [inside[key]]
        else:
            inside[key] = copy.deepcopy(draw(VALUES))  # as the next may change it
    return json.dumps(whole[""])


def _places(value: Any) -> Any:
    """Every container in ``value`` with each of its keys."""
    keys = (
        list(value)
        if isinstance(value, dict)
        else range(len(value))
        if isinstance(value, list)
        else ()
    )
    for key in keys:
        yield value, key
        yield from _places(value[key])
