"""The settings of a run: every default in one place, and what is refused before any work."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from experiments.bench.peers import PEERS, Kind
from experiments.mnist.config import InputError

NetworkName = Literal["lenet", "vgg6", "resnet20"]
PeerName = Literal["jaxcnn", "autodiff", "flax", "torch", "torch.channels_last", "torch.compile"]
What = Literal["steps", "ops", "epochs", "ensembles"]
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
KINDS: dict[str, Kind] = {"steps": "step", "ops": "forward", "epochs": "epoch", "ensembles": "ensemble"}
SMOKE = {"batch": 4, "rounds": 2, "network": ("lenet",)}


@dataclasses.dataclass(frozen=True)
class Config:
    """Time training steps and single ops of jaxcnn beside those of its peers, on the CPU.

    Writes bench.json, bench.jsonl and bench.png into --out.
    """

    what: tuple[What, ...] = ("steps",)
    """steps: whole training steps. ops: single ops. epochs: eight steps in one program, beside eight programs. ensembles: eight LeNets at once, and gradients example by example."""
    network: tuple[NetworkName, ...] = ("lenet", "vgg6", "resnet20")
    """Which networks."""
    peers: tuple[PeerName, ...] = ("jaxcnn", "autodiff", "flax", "torch", "torch.channels_last", "torch.compile")
    """Who takes part; those that are not installed are left out with a note."""
    batch: int = 128
    """Images a step."""
    rounds: int = 5
    """How often each peer has its turn."""
    threads: int = CPUS
    """How many CPUs each peer may use."""
    seed: int = 0
    """Of parameters and data."""
    out: Path = Path("runs/bench")
    """Folder for results and the picture."""
    smoke: bool = False
    """Only see that everything works: LeNet, a batch of 4, two rounds of a blink."""

    def check(self) -> None:
        """Raise InputError for what cannot be used."""
        rules = [
            (self.batch >= 1, "--batch", "an integer ≥ 1", self.batch),
            (self.rounds >= 1, "--rounds", "an integer ≥ 1", self.rounds),
            (1 <= self.threads <= CPUS, "--threads", f"an integer in [1, {CPUS}], the CPUs there are", self.threads),
            (self.threads == CPUS or hasattr(os, "sched_setaffinity"), "--threads", f"{CPUS} on this system", self.threads),
            (self.seed >= 0, "--seed", "an integer ≥ 0", self.seed),
            *((bool(given), flag, "one name or more", "none") for flag, given in self._lists()),
            *((len(set(given)) == len(given), flag, "different names", " ".join(given)) for flag, given in self._lists()),
        ]  # fmt: skip
        for holds, flag, wanted, got in rules:
            if not holds:
                raise InputError(f"{flag} must be {wanted}, got {got}")
        for name in SMOKE if self.smoke else ():
            if getattr(self, name) != getattr(Config, name):
                raise InputError(f"--smoke sets --{name} itself; leave --{name} out")
        for what in self.what:
            able = [peer for peer, about in PEERS.items() if KINDS[what] in about.kinds]
            if not set(able) & set(self.peers):
                raise InputError(f"--what {what} needs one of --peers {' '.join(able)}, got {' '.join(self.peers)}")
        if "ensembles" in self.what and "lenet" not in self.network:
            raise InputError(f"--what ensembles needs --network lenet, got {' '.join(self.network)}")

    def _lists(self) -> list[tuple[str, tuple[str, ...]]]:
        return [("--what", self.what), ("--network", self.network), ("--peers", self.peers)]

    @property
    def turn_seconds(self) -> tuple[float, float]:
        """About how long a turn at steps takes, and one at single ops."""
        return (0.02, 0.01) if self.smoke else (0.5, 0.2)


def parse(arguments: Sequence[str] | None) -> Config:
    """The command line as a checked Config.

    Raises:
        SystemExit: with status 2, where it cannot be read; tyro has said why.
        InputError: a value is out of range, or does not go with another.
    """
    config = tyro.cli(Config, args=sys.argv[1:] if arguments is None else arguments, prog="python -m experiments.bench")
    config.check()
    return dataclasses.replace(config, **SMOKE) if config.smoke else config
