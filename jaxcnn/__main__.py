"""``python -m jaxcnn``: ops (the table), verify (the proof of each), precision (what 16 bits cost),
plan (a step on a TPU slice), train, eval, predict."""

import os
import sys
from typing import Any

from jaxcnn._io.command import BAD_INPUT, INTERRUPTED, Parser, program, run
from jaxcnn._io.outside import load_jax, printable
from jaxcnn._io.terminal import wide_enough
from jaxcnn.plan import _command as plan_command
from jaxcnn.verify._commands import asked
from jaxcnn.verify._commands import precision as precision_command
from jaxcnn.verify._commands import verify as command

RUNS = {
    "train": "train a model on images, with checkpoints; Ctrl-C saves, --resume goes on",
    "eval": "test a trained model, class by class",
    "predict": "what a trained model sees in image files",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status, that of :func:`jaxcnn._io.command.run`."""
    parser = Parser(
        prog="python -m jaxcnn", description="Convolutional networks with explicit gradients."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    ops = commands.add_parser(
        "ops", help="list the ops: equation, what is kept for the backward, bytes an output element"
    )
    ops.add_argument("--markdown", action="store_true", help="as in the README")
    verify = commands.add_parser(
        "verify",
        help=(
            "prove the gradient of every op, or of a function of your own; exit status 0 if all"
            " checks hold"
        ),
    )
    asked.add_options(verify)
    precision = commands.add_parser(
        "precision",
        help=(
            "what 16 bits cost: value and gradient of every op against float64; exit status 0 if"
            " all are within their bounds"
        ),
    )
    precision_command.add_options(precision)
    plan = commands.add_parser(
        "plan",
        help=(
            "compile a training step for a TPU slice, without a TPU: memory, flops, collectives a"
            " chip, and whether it fits"
        ),
    )
    plan_command.add_options(plan)
    # with options of their own, listed by `python -m jaxcnn NAME --help`
    for name, what in RUNS.items():
        commands.add_parser(name, help=what, add_help=False)
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in RUNS:
        try:
            from jaxcnn.runs._command import main as begin

            return begin(arguments[0], arguments[1:])
        except ImportError as error:
            parser.exit(
                BAD_INPUT,
                f"error: {arguments[0]} needs more than the core ({printable(error)}): pip install"
                " 'jaxcnn[train]'\n",
            )
    with wide_enough():
        chosen = parser.parse_args(arguments)
    if chosen.command == "plan":
        return plan_command.run(chosen)
    return run(lambda: _with_ops(chosen))


def _with_ops(chosen: Any) -> int:
    load_jax(begin=False)  # takes seconds, which --help and a mistyped option need not wait for
    from jaxcnn.ops import OPS
    from jaxcnn.ops._table import markdown, text

    if chosen.command == "verify":
        return command.run(chosen, OPS, "jaxcnn.ops:OPS")
    if chosen.command == "precision":
        return precision_command.run(chosen, OPS)
    print(markdown() if chosen.markdown else text())
    return 0


def _main() -> int:
    """:func:`main` as a process."""
    status = program(main)
    jax = sys.modules.get("jax")
    if status == INTERRUPTED and jax and not jax.distributed.is_initialized():
        os._exit(status)  # as the interpreter's goodbyes crash where XLA is still compiling
    return status


if __name__ == "__main__":
    sys.exit(_main())
