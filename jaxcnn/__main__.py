"""``python -m jaxcnn ops``: the table of ops."""

import argparse
import sys

from jaxcnn.table import markdown, text


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxcnn", description="Convolutional networks with explicit gradients."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    ops = commands.add_parser(
        "ops", help="list the ops: equation, what is kept for the backward, bytes an output element"
    )
    ops.add_argument("--markdown", action="store_true", help="as in the README")
    chosen = parser.parse_args(arguments)
    print(markdown() if chosen.markdown else text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
