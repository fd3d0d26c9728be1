"""The peers: who they are, and what each can be asked to do. A peer's own module is loaded in its
own process only.

A peer's module has ``prepare(order, arrays, peer) -> Task``.
"""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from experiments.bench.data import Arrays

Kind = Literal[
    "step",
    "epoch",
    "ensemble",
    "gradient",
    "examples",
    "norms",
    "steps_in_turn",
    "models_in_turn",
    "forward",
    "backward",
]
NETWORK_KINDS: frozenset[Kind] = frozenset(
    {"step", "epoch", "ensemble", "gradient", "examples", "norms"}
)
OP_KINDS: frozenset[Kind] = frozenset({"forward", "backward"})


@dataclasses.dataclass(frozen=True)
class Order:
    """What to time, of which network or op case.

    step: a whole training step. epoch: a step for each batch, in one program. ensemble: a step of
    many models at once. gradient: value and gradients.
    examples: value and gradients, example by example. norms: value and norms of gradients,
    likewise. steps_in_turn, models_in_turn: what an epoch and an ensemble must come to, not timed.
    forward: y of an op. backward: y, and the cotangents of its inputs."""

    kind: Kind
    of: str

    @property
    def id(self) -> str:
        """What the worker keeps it under."""
        return f"{self.kind} {self.of}"


class Task(NamedTuple):
    """Something ready to be timed.

    Attributes:
        call: does it once, to completion, on what the last call left; gives the loss, or None.
        outputs: what it computed the first time, in the canonical layout: "loss" or "y", and
            "gradient/NAME".
        facts: what else is known, by name: "compile_seconds", "temp_bytes", "kept_bytes".
    """

    call: Callable[[], Any]
    outputs: Arrays
    facts: dict[str, float]


Prepare = Callable[[Order, Arrays, str], Task]


class Peer(NamedTuple):
    """Where a peer is at home, the package that it stands for, and what it can do."""

    module: str
    package: str
    kinds: frozenset[Kind]


PEERS = {
    "jaxcnn": Peer("explicit", "jax", NETWORK_KINDS | OP_KINDS),
    "autodiff": Peer("autodiff", "jax", NETWORK_KINDS | OP_KINDS),
    "flax": Peer("nnx", "flax", frozenset({"step"})),
    "torch": Peer("pytorch", "torch", frozenset({"step", *OP_KINDS})),
    "torch.channels_last": Peer("pytorch", "torch", frozenset({"step", *OP_KINDS})),
    "torch.compile": Peer("pytorch", "torch", frozenset({"step"})),
}


def load(peer: str) -> Prepare:
    """The peer's ``prepare``. ImportError where something is not installed."""
    return importlib.import_module(f"{__name__}.{PEERS[peer].module}").prepare
