"""What a training step costs a TPU, without one: ``python -m experiments.bench.tpu``.

The compiler for TPUs runs anywhere (``pip install -e '.[tpu]'``). It compiles each network's whole
step for v5e, on one chip and with the batch over eight, in float32 and bfloat16, through the
hand-written backwards and through autodiff, and says how many bytes each moves, how much it
computes, and how much memory it needs beside its arguments."""

import dataclasses
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import command
from experiments.bench import networks
from experiments.bench.networks import NETWORKS
from experiments.bench.peers import autodiff, explicit, learning
from jaxcnn import ops, value_and_grad
from jaxcnn._io.command import InputError, expect, program
from jaxcnn._io.files import write_json
from jaxcnn.plan._chips import available, slice_of
from jaxcnn.plan._collectives import collectives

PEERS = "jaxcnn", "autodiff"
CHIPS = {1: "v5e:2x2", 8: "v5e:2x4"}  # a slice to take the chips from; the smallest has four
DTYPES = "float32", "bfloat16"


class Cost(NamedTuple):
    """Of a step, on each chip: ``collectives`` counts the instructions that talk to other chips."""

    bytes_accessed: float
    flops: float
    temp_bytes: int
    collectives: int


def cost(network: str, peer: str, chips: int, dtype: str, batch: int = 1024) -> Cost:
    """Of a whole step (forward, backward, update) on ``batch`` images, compiled for v5e."""
    mesh = Mesh(
        slice_of(CHIPS[chips])[:chips], ("batch",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    everywhere, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("batch",)))
    step = learning.train_step(_differentiate(network, peer))
    carry, images, labels = jax.eval_shape(lambda: _arguments(NETWORKS[network], dtype, batch))
    program = (
        jax.jit(step, in_shardings=(everywhere, split, split), donate_argnums=0)
        .lower(carry, images, labels)
        .compile()
    )
    analysis: Any = program.cost_analysis()
    memory: Any = program.memory_analysis()
    talk = sum(each.calls for each in collectives(str(program.as_text()), chips))
    return Cost(analysis["bytes accessed"], analysis["flops"], memory.temp_size_in_bytes, talk)


def _differentiate(network: str, peer: str) -> learning.Differentiate:
    if peer == "jaxcnn":
        return value_and_grad(explicit.build(network), ops.softmax_cross_entropy)
    return jax.value_and_grad(autodiff.loss_of(NETWORKS[network]), has_aux=True)


def _arguments(
    network: networks.Network, dtype: str, batch: int
) -> tuple[learning.Carry, jax.Array, jax.Array]:
    params = networks.nested(
        {p: jnp.zeros(shape, dtype) for p, shape in networks.parameters(network).items()}
    )
    state = networks.nested(
        {p: jnp.zeros(shape, dtype) for p, shape in networks.statistics(network).items()}
    )
    carry = learning.Carry(params, state, learning.OPTIMIZER.init(params))
    return carry, jnp.zeros((batch, *network.input_shape), dtype), jnp.zeros(batch, jnp.int32)


@dataclasses.dataclass(frozen=True)
class Config:
    """Compile the training steps of LeNet, VGG-6 and ResNet-20 for a TPU v5e, explicit beside
    autodiff, without a TPU.

    Writes tpu.json into --out.
    """

    batch: int = 1024
    """Images a step, over all chips."""
    out: Path = Path("runs/tpu")
    """Folder for the result."""

    def check(self) -> None:
        """Raise InputError for what cannot be used."""
        expect(self.batch >= 8 and self.batch % 8 == 0, "--batch", "a multiple of 8", self.batch)
        if not available():
            raise InputError(
                "the TPU's compiler is not installed; `pip install -e '.[tpu]'` brings libtpu"
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status, as :func:`experiments.command.run` has it."""

    def compile_all() -> bool:
        config = command.parse(Config, "bench.tpu", arguments)
        command.claim_folder("--out", config.out)
        jax.config.update("jax_platforms", "cpu")
        print(f"{'':32}{'bytes, MB':>20}{'GFLOP':>20}{'temporary, MB':>20}   collectives")
        print(f"{'a step, on each chip':32}" + f"{'jaxcnn / autodiff':>20}" * 3)
        rows = []
        for network, chips, dtype in itertools.product(NETWORKS, CHIPS, DTYPES):
            both = {peer: cost(network, peer, chips, dtype, config.batch) for peer in PEERS}
            rows.append(
                {
                    "network": network,
                    "chips": chips,
                    "dtype": dtype,
                    **{p: c._asdict() for p, c in both.items()},
                }
            )
            write_json(
                config.out / "tpu.json",
                {"batch": config.batch, "jax": jax.__version__, "rows": rows},
            )
            print(f"{f'{network}, {dtype}, v5e × {chips}':32}{_line(*both.values())}", flush=True)
        print(f"The figures are in {config.out / 'tpu.json'}")
        return False

    return command.run(compile_all)


def _line(ours: Cost, theirs: Cost) -> str:
    pairs = [
        (ours.bytes_accessed / 1e6, theirs.bytes_accessed / 1e6, ",.0f"),
        (ours.flops / 1e9, theirs.flops / 1e9, ",.1f"),
        (ours.temp_bytes / 1e6, theirs.temp_bytes / 1e6, ",.1f"),
    ]
    cells = [f"{format(a, form)} / {format(b, form)}" for a, b, form in pairs]
    return (
        "".join(f"{cell:>20}" for cell in cells) + f"   {ours.collectives} / {theirs.collectives}"
    )


if __name__ == "__main__":
    sys.exit(program(main))
