"""The settings of a run: every default in one place, and what is refused before any work."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from experiments import command
from experiments.bench.networks import NETWORKS
from experiments.bench.peers import PEERS
from experiments.bench.results import FILES
from jaxcnn._io.command import InputError, expect

WHAT = "steps", "ops", "epochs", "ensembles"
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SMOKE = {"batch": 4, "rounds": 2, "model": ("lenet",)}


def _names(shown: str) -> PrimitiveConstructorSpec[tuple[str, ...]]:
    """Names with commas between; ``check`` looks at which. ``shown`` is what --help has."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=shown,
        instance_from_str=lambda given: tuple(
            name.strip() for name in given[0].split(",") if name.strip()
        ),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda names: [",".join(names)],
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """Time training steps and single ops of jaxcnn beside those of its peers, on the CPU.

    Writes bench.json, bench.jsonl and bench.png into --out. Names are given with commas between.
    """

    model: Annotated[tuple[str, ...], _names(",".join(NETWORKS))] = tuple(NETWORKS)
    """Which networks."""
    what: Annotated[tuple[str, ...], _names(",".join(WHAT))] = ("steps",)
    """steps: whole training steps. ops: single ops. epochs: eight steps in one program, beside
    eight programs.
    ensembles: eight LeNets at once; gradients, and their norms, example by example."""
    peers: Annotated[tuple[str, ...], _names(",".join(PEERS))] = ("autodiff", "flax", "torch")
    """Who is beside jaxcnn, which always takes part; those that are not installed are left out with
    a note.
    torch: contiguous, channels last and compiled. torch.channels_last, torch.compile: that one
    alone."""
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
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write the steps of one --model to this file as JSON, a row for each peer."""
    smoke: bool = False
    """Only see that everything works: LeNet, a batch of 4, two rounds of a blink."""

    def check(self) -> None:
        """Raise InputError for what cannot be used."""
        expect(self.batch >= 1, "--batch", "an integer ≥ 1", self.batch)
        expect(self.rounds >= 1, "--rounds", "an integer ≥ 1", self.rounds)
        expect(
            1 <= self.threads <= CPUS,
            "--threads",
            f"an integer in [1, {CPUS}], the CPUs there are",
            self.threads,
        )
        able = self.threads == CPUS or hasattr(os, "sched_setaffinity")
        expect(able, "--threads", f"{CPUS} on this system", self.threads)
        expect(self.seed >= 0, "--seed", "an integer ≥ 0", self.seed)
        _expect_names("--model", self.model, tuple(NETWORKS))
        _expect_names("--what", self.what, WHAT)
        _expect_names("--peers", self.peers or ("jaxcnn",), tuple(PEERS))
        for name, value in SMOKE.items() if self.smoke else ():
            if getattr(self, name) not in (getattr(Config, name), value):
                raise InputError(f"--smoke sets --{name} itself; leave --{name} out")
        if "ensembles" in self.what and "lenet" not in self.model:
            raise InputError(f"--what ensembles needs --model lenet, got {','.join(self.model)}")
        if self.json is not None:
            self._check_json(self.json)

    def _check_json(self, path: Path) -> None:
        if len(self.model) > 1 and not self.smoke:
            raise InputError(f"--json needs one --model, got {','.join(self.model)}")
        if "steps" not in self.what:
            raise InputError(f"--json needs steps in --what, got {','.join(self.what)}")
        if path.resolve() in [(self.out / name).resolve() for name in FILES]:
            raise InputError(
                f"--json {path} is a file that --out gets anyway, with more in it; give another"
                " name"
            )

    @property
    def contestants(self) -> tuple[str, ...]:
        """The peers that take part, jaxcnn among them."""
        torches = (
            [peer for peer in PEERS if PEERS[peer].package == "torch"]
            if "torch" in self.peers
            else []
        )
        return tuple(peer for peer in PEERS if peer in ("jaxcnn", *self.peers, *torches))

    @property
    def turn_seconds(self) -> tuple[float, float]:
        """About how long a turn at steps takes, and one at single ops."""
        return (0.02, 0.01) if self.smoke else (0.5, 0.2)


def _expect_names(flag: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    fine = bool(given) and set(given) <= set(known) and len(set(given)) == len(given)
    expect(
        fine,
        flag,
        f"one or more of {','.join(known)}, each once, with commas between",
        ",".join(given) or "none",
    )


def parse(arguments: Sequence[str] | None) -> Config:
    """As :func:`experiments.command.parse`, with what --smoke sets."""
    config = command.parse(Config, "bench", arguments)
    return dataclasses.replace(config, **SMOKE) if config.smoke else config
