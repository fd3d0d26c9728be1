"""What chips say to each other in a compiled program, read off its text.

The bytes of a collective are those of its whole arrays, on each chip: what an all-reduce sums, an
all-gather puts together, a reduce-scatter takes apart.

>>> text = '''
...   %sum = f32[10]{0} all-reduce(%x), replica_groups={{0,1},{2,3}}, to_apply=%add
...   %part = bf16[5]{0} reduce-scatter(%y), replica_groups=[1,4]<=[4], dimensions={0}
...   %more = f32[6]{0} all-reduce(%z), replica_groups={{0,1},{2,3}}, to_apply=%add
... '''
>>> for each in collectives(text, 4):
...     print(each)
Collective(kind='all-reduce', chips=2, calls=2, bytes=64)
Collective(kind='reduce-scatter', chips=4, calls=1, bytes=40)
"""

import math
import re
from typing import NamedTuple

KINDS = "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"
CALL = re.compile(rf"= (\(.*?\)|\S+) ({'|'.join(KINDS)})(-start)?\((.*)")
ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\]")


class Collective(NamedTuple):
    """All collectives of a kind among a number of chips: how many there are in the program, and the
    bytes of all of them together."""

    kind: str
    chips: int
    calls: int
    bytes: int


def collectives(text: str, devices: int) -> list[Collective]:
    """Those in the text of a program (HLO, compiled) for a number of devices. One in a loop counts
    once, and a pair of -start and -done is one."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for result, kind, start, rest in CALL.findall(text):
        chips = _chips(rest, devices)
        count, total = found.get((kind, chips), (0, 0))
        found[kind, chips] = count + 1, total + _bytes(kind, bool(start), result, chips)
    return [Collective(*key, *found[key]) for key in sorted(found)]


def _chips(rest: str, devices: int) -> int:
    """How many take part in each: of the groups in the three forms that they are written in, all of
    one size."""
    if pairs := re.search(r"source_target_pairs=\{((?:\{\d+,\d+\},?)+)\}", rest):
        return len(set(re.findall(r"\d+", pairs[1])))
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return listed[1].count(",") + 1
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(iota[1])
    if mesh := re.search(
        r"replica_groups=\w*mesh\[(.*?)\](?:, device_ids=\(.*?\))? \{(.*?)\}", rest
    ):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        # 'axis', or 'axis':(2)4, which is 4 of its devices
        return math.prod(
            int(part or sizes[name])
            for name, part in re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", mesh[2])
        )
    return devices


def _bytes(kind: str, start: bool, result: str, chips: int) -> int:
    arrays = ARRAY.findall(result)
    if start and kind == "all-gather":  # (parts, wholes)
        arrays = arrays[len(arrays) // 2 :]
    if start and kind == "collective-permute":  # (what is sent, what comes, flags)
        arrays = arrays[:1]
    total = sum(
        _bits(dtype) * math.prod(int(length) for length in shape.split(",") if length)
        for dtype, shape in arrays
    )
    return total * (chips if kind == "reduce-scatter" else 1) // 8


def _bits(dtype: str) -> int:
    """Of an element of HLO's f32, bf16, s4, pred, …"""
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 8
