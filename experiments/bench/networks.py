"""The networks that are compared, as plans that every peer builds in its own way; their parameters'
canonical names and shapes; their work.

A pool stands before its ReLU, for every peer alike: value and gradient are the same as the other
way round, for a quarter of the ReLU's work.

>>> lenet = parameters(NETWORKS["lenet"])
>>> {path: shape for path, shape in lenet.items() if path.startswith("dense")}
{'dense1/kernel': (3136, 512), 'dense1/bias': (512,),
 'dense2/kernel': (512, 10), 'dense2/bias': (10,)}
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

CLASSES = 10
EPS = 1e-5  # of batch norm
KEEP = 0.9  # running statistics ← 0.9 · running + 0.1 · batch
LEARNING_RATE, MOMENTUM = 0.01, 0.9


@dataclass(frozen=True)
class Conv:
    """Padding SAME; with ``stride`` the window of the last cell may reach over the edge by one more
    than that of the first."""

    name: str
    features: int
    window: int = 3
    stride: int = 1
    bias: bool = True


@dataclass(frozen=True)
class Norm:
    """Batch norm, on the statistics of the batch."""

    name: str


@dataclass(frozen=True)
class Pool:
    """The largest of 2×2."""


@dataclass(frozen=True)
class Relu:
    pass


@dataclass(frozen=True)
class Flatten:
    """Height, width, channel: the order of the rows of the dense kernel behind it."""


@dataclass(frozen=True)
class Mean:
    """Over height and width."""


@dataclass(frozen=True)
class Dense:
    name: str
    features: int


@dataclass(frozen=True)
class Block:
    """body(x) + shortcut(x); an empty shortcut is the identity."""

    name: str
    body: "Plan"
    shortcut: "Plan"


Layer: TypeAlias = Conv | Norm | Pool | Relu | Flatten | Mean | Dense | Block
Plan: TypeAlias = tuple[Layer, ...]
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """``input_shape`` is (height, width, channels)."""

    name: str
    input_shape: Shape
    plan: Plan


def _lenet() -> Network:
    stage = lambda n, width: (Conv(f"conv{n}", width, 5), Pool(), Relu())  # noqa: E731
    return Network(
        "lenet",
        (28, 28, 1),
        (
            *stage(1, 32),
            *stage(2, 64),
            Flatten(),
            Dense("dense1", 512),
            Relu(),
            Dense("dense2", CLASSES),
        ),
    )


def _vgg6() -> Network:
    plan: list[Layer] = []
    for number, width in enumerate((32, 32, 64, 64, 128, 128), start=1):
        plan += [Conv(f"conv{number}", width), *([Pool()] if number % 2 == 0 else []), Relu()]
    return Network("vgg6", (32, 32, 3), (*plan, Flatten(), Dense("dense", CLASSES)))


def _resnet20() -> Network:
    plan: list[Layer] = [Conv("conv", 16, bias=False), Norm("norm"), Relu()]
    for stage, width in enumerate((16, 32, 64), start=1):
        for number in range(1, 4):
            stride = 2 if stage > 1 and number == 1 else 1
            body = (
                Conv("conv1", width, 3, stride, bias=False),
                Norm("norm1"),
                Relu(),
                Conv("conv2", width, bias=False),
                Norm("norm2"),
            )
            shortcut = (
                (Conv("conv", width, 1, stride, bias=False), Norm("norm")) if stride > 1 else ()
            )
            plan += [Block(f"block{stage}_{number}", body, shortcut), Relu()]
    return Network("resnet20", (32, 32, 3), (*plan, Mean(), Dense("dense", CLASSES)))


NETWORKS = {network.name: network for network in (_lenet(), _vgg6(), _resnet20())}


class Place(NamedTuple):
    """A layer that owns parameters: its path, and the shapes that it stands between.
    ``unflattened`` is what a Flatten before it was given."""

    path: str
    layer: Conv | Norm | Dense
    input: Shape
    output: Shape
    unflattened: Shape | None = None


def places(network: Network) -> list[Place]:
    """All of them, in the order of the forward."""
    return list(_walk(network.plan, network.input_shape, ""))


def _walk(plan: Plan, shape: Shape, prefix: str) -> Iterator[Place]:
    unflattened = None
    for layer in plan:
        after = _shape_after(layer, shape)
        match layer:
            case Block(name, body, shortcut):
                yield from _walk(body, shape, f"{prefix}{name}/body/")
                yield from _walk(shortcut, shape, f"{prefix}{name}/shortcut/")
            case Conv(name) | Norm(name) | Dense(name):
                yield Place(prefix + name, layer, shape, after, unflattened)
        unflattened = shape if isinstance(layer, Flatten) else None
        shape = after


def _shape_after(layer: Layer, shape: Shape) -> Shape:
    match layer:
        case Conv(_, features, _, stride):
            return -(-shape[0] // stride), -(-shape[1] // stride), features
        case Pool():
            return shape[0] // 2, shape[1] // 2, shape[2]
        case Flatten():
            return (math.prod(shape),)
        case Mean():
            return shape[-1:]
        case Dense(_, features):
            return (features,)
        case Block(_, body):
            for inside in body:
                shape = _shape_after(inside, shape)
            return shape
        case _:
            return shape


def parameters(network: Network) -> dict[str, Shape]:
    """Canonical names and shapes: kernels (height, width, in, out) and (in, out)."""
    found: dict[str, Shape] = {}
    for path, layer, before, after, _ in places(network):
        match layer:
            case Conv(_, features, window, _, bias):
                found[f"{path}/kernel"] = (window, window, before[-1], features)
                found |= {f"{path}/bias": (features,)} if bias else {}
            case Dense(_, features):
                found |= {f"{path}/kernel": (before[0], features), f"{path}/bias": (features,)}
            case Norm():
                found |= {f"{path}/scale": after[-1:], f"{path}/shift": after[-1:]}
    return found


def statistics(network: Network) -> dict[str, Shape]:
    """The running means and variances of batch norm, likewise."""
    norms = [place for place in places(network) if isinstance(place.layer, Norm)]
    return {
        f"{place.path}/{name}": place.output[-1:] for place in norms for name in ("mean", "var")
    }


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """``{"a/b": 1}`` as ``{"a": {"b": 1}}``."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, name = path.split("/")
        inside = tree
        for folder in folders:
            inside = inside.setdefault(folder, {})
        inside[name] = value
    return tree


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The inverse of :func:`nested`."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= (
            flat(value, f"{prefix}{name}/") if isinstance(value, dict) else {prefix + name: value}
        )
    return found


def step_flops(network: Network, batch: int) -> int:
    """Multiplications and additions of a step in convolutions and dense layers: forward, input
    gradient (the first layer has none), weight gradient.

    What a window reads of the padding counts too; norms, pools, ReLUs and the optimizer do not.
    """
    products = []
    for _, layer, before, after, _ in places(network):
        if isinstance(layer, Conv):
            products.append(after[0] * after[1] * layer.window**2 * before[-1] * layer.features)
        elif isinstance(layer, Dense):
            products.append(before[0] * layer.features)
    return 2 * batch * (3 * sum(products) - products[0])
