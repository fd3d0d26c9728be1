"""The single ops that are compared: shapes as they come in small networks, and the matrix product
that tells what the machine can do.

Padding is written out, the same on both sides, which every peer can do without a copy.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

Shape = tuple[int, ...]
OpName = Literal["conv", "max_pool", "batch_norm", "matmul"]


@dataclass(frozen=True)
class OpCase:
    """``x`` without the batch (for ``matmul`` with it); ``weights`` are the further inputs;
    ``settings`` are those of ``jaxcnn.ops``."""

    name: str
    op: OpName
    x: Shape
    weights: tuple[Shape, ...] = ()
    settings: dict[str, int] = field(default_factory=dict)

    def input_shape(self, batch: int) -> Shape:
        """Of x."""
        return self.x if self.op == "matmul" else (batch, *self.x)

    def output_shape(self, batch: int) -> Shape:
        """Of y, and so of dy."""
        if self.op == "matmul":
            return self.x[0], self.weights[0][-1]
        if self.op == "batch_norm":
            return self.input_shape(batch)
        window = self.settings["window"] if self.op == "max_pool" else self.weights[0][0]
        stride, padding = self.settings["stride"], self.settings["padding"]
        height, width = ((length + 2 * padding - window) // stride + 1 for length in self.x[:2])
        return batch, height, width, self.x[-1] if self.op == "max_pool" else self.weights[0][-1]


def _conv(
    window: int, side: int, inputs: int, outputs: int, *, stride: int = 1, groups: int = 1
) -> OpCase:
    kind = f"depthwise {window}×{window}" if groups > 1 else f"conv {window}×{window}"
    name = f"{kind} {inputs}→{outputs} at {side}²" + (f", stride {stride}" if stride > 1 else "")
    settings = {"stride": stride, "padding": window // 2, "groups": groups}
    return OpCase(
        name, "conv", (side, side, inputs), ((window, window, inputs // groups, outputs),), settings
    )


def _pool(window: int, padding: int) -> OpCase:
    name = f"max_pool {window}×{window}, stride 2 at 32²×32"
    return OpCase(
        name, "max_pool", (32, 32, 32), (), {"window": window, "stride": 2, "padding": padding}
    )


def matmul(side: int) -> OpCase:
    """A square product."""
    return OpCase(f"matmul {side}²", "matmul", (side, side), ((side, side),))


PEAK = matmul(2048)
PEAK_FLOPS = 2 * math.prod((*PEAK.x, PEAK.x[0]))
VGG6 = (
    _conv(3, 32, 3, 32),
    _conv(3, 32, 32, 32),
    _conv(3, 16, 32, 64),
    _conv(3, 16, 64, 64),
    _conv(3, 8, 64, 128),
    _conv(3, 8, 128, 128),
)
CASES = (
    *VGG6,
    _conv(5, 14, 32, 64),
    _conv(1, 16, 64, 128),
    _conv(3, 32, 16, 32, stride=2),
    _conv(3, 32, 64, 64, groups=64),
    _pool(2, 0),
    _pool(3, 1),
    OpCase("batch_norm at 32²×16", "batch_norm", (32, 32, 16), ((16,), (16,))),
)
SMOKE = (CASES[3], CASES[10], CASES[12])  # one of each kind
BY_NAME = {case.name: case for case in (*CASES, PEAK)}
