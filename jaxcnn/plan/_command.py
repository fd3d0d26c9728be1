"""``python -m jaxcnn plan``: whether a training step fits on a slice of TPUs, and what it costs
there, without one.

>>> parser = argparse.ArgumentParser()
>>> add_options(parser)
>>> words = "--model resnet50 --topology v5e:16x16 --batch 4096 --mesh host=64,chip=4 --cut chip"
>>> chosen = parser.parse_args(words.split())
>>> chosen.model, chosen.batch, chosen.cut
('resnet50', 4096, 'chip')
"""

import argparse
import contextlib
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxcnn._io import command
from jaxcnn._io.command import InputError, claim_file
from jaxcnn._io.files import write_file
from jaxcnn._io.outside import printable_lines

if TYPE_CHECKING:
    from jaxcnn.train import Layout

FITS, TOO_LARGE = 0, 1
IMAGES = {"lenet": "28x28x1", "resnet50": "224x224x3"}
IMAGE = "32x32x3"  # of the other models
POLICIES: dict[str, dict[str, Any] | None] = {
    "f32": None,
    "bf16": {"compute": "bfloat16"},
    "f16": {"compute": "float16", "loss_scale": "dynamic"},
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add(
        "--model",
        required=True,
        metavar="NAME",
        help="one of jaxcnn.models.MODELS, such as resnet20",
    )
    add(
        "--topology",
        required=True,
        metavar="SLICE",
        help=(
            "v4:AxBxC, v5e:AxB, v5p:AxBxC or v6e:AxB, such as v5e:16x16; cpu:N for simulated"
            " devices"
        ),
    )
    add("--batch", required=True, type=int, metavar="N", help="images a step, over all chips")
    add(
        "--image",
        metavar="HxWxC",
        help="size of an image (default: 28x28x1 for lenet, 224x224x3 for resnet50, else 32x32x3)",
    )
    add("--classes", type=int, metavar="N", help="how many classes (default: the model's)")
    add(
        "--precision",
        choices=list(POLICIES),
        default="f32",
        help="what the network computes in (default: %(default)s)",
    )
    add(
        "--mesh",
        metavar="AXIS=N,…",
        help="the chips in several axes, such as host=64,chip=4 (default: data=ALL)",
    )
    add(
        "--cut",
        nargs="?",
        const="",
        metavar="AXIS",
        help=(
            "cut parameters and optimizer state up along that axis of the mesh (default: its last),"
            " rather than copy them to every chip"
        ),
    )
    add(
        "--microbatch",
        type=int,
        metavar="N",
        help="examples at a time, of each chip's part of the batch",
    )
    add("--optimizer", choices=["adam", "sgd"], default="adam", help="default: %(default)s")
    add(
        "--full",
        action="store_true",
        help="let the compiler for TPUs make all the effort of a run: exact, in minutes",
    )
    add("--json", type=Path, metavar="FILE", help="write the plan there")


def run(chosen: argparse.Namespace) -> int:
    """Do what the options say. Returns the exit status, that of
    :func:`jaxcnn._io.command.run`: 1 is for a step that does not fit."""

    def work() -> int:
        if chosen.json is not None:  # before minutes of work, rather than after
            claim_file("--json", chosen.json, make_folder=False)
        try:
            found = _plan(chosen)
        except (ValueError, TypeError, ImportError) as problem:
            # which layer it was
            notes = (
                note for note in getattr(problem, "__notes__", ()) if "JAX_TRACEBACK" not in note
            )
            raise InputError(" ".join(" ".join([str(problem), *notes]).split())) from None
        if chosen.json is not None:
            write_file(chosen.json, found.to_json() + "\n")
        print(printable_lines(found))
        return TOO_LARGE if found.fits is False else FITS

    return command.run(work)


def _plan(chosen: argparse.Namespace) -> Any:
    # these take seconds, which --help and a mistyped option need not wait for
    import jax
    import optax

    from jaxcnn import ops
    from jaxcnn.models import MODELS
    from jaxcnn.plan._planning import plan
    from jaxcnn.precision import Policy
    from jaxcnn.train import Recipe

    if chosen.model not in MODELS:
        raise ValueError(
            f"--model {chosen.model}: there is no such model; there is {', '.join(MODELS)}"
        )
    if chosen.classes is not None and chosen.classes < 1:
        raise ValueError(f"--classes {chosen.classes}: expected 1 or more")
    image = parse_image(chosen.image or IMAGES.get(chosen.model, IMAGE))
    # a plan computes nothing, and leaves a TPU that is here to others
    jax.config.update("jax_platforms", "cpu")
    model = (
        MODELS[chosen.model]() if chosen.classes is None else MODELS[chosen.model](chosen.classes)
    )
    optimizer = optax.adam(1e-3) if chosen.optimizer == "adam" else optax.sgd(0.1, momentum=0.9)
    settings = POLICIES[chosen.precision]
    policy = None if settings is None else Policy(**settings)
    recipe = Recipe(
        model,
        ops.softmax_cross_entropy,
        optimizer,
        microbatch=chosen.microbatch,
        policy=policy,
        layout=_layout(chosen),
    )
    return plan(recipe, image, chosen.batch, full=chosen.full)


def parse_image(text: str) -> tuple[int, ...]:
    """Height, width and channels.

    >>> parse_image("32x32x3")
    (32, 32, 3)
    """
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", text):
        raise ValueError(f"--image {text}: expected HEIGHTxWIDTHxCHANNELS, such as 32x32x3")
    return tuple(int(length) for length in text.split("x"))


def parse_mesh(text: str | None, chips: int) -> dict[str, int]:
    """Axes by name, whose sizes must multiply to the number of chips.

    >>> parse_mesh("host=4,chip=4", 16), parse_mesh(None, 16)
    ({'host': 4, 'chip': 4}, {'data': 16})
    """
    parts = [part.partition("=") for part in (text or f"data={chips}").split(",")]
    if not all(name.isidentifier() and re.fullmatch(r"[1-9]\d*", size) for name, _, size in parts):
        raise ValueError(f"--mesh {text}: expected AXIS=N,AXIS=N,…, such as host=64,chip=4")
    axes = {name: int(size) for name, _, size in parts}
    if len(axes) < len(parts) or math.prod(axes.values()) != chips:
        raise ValueError(
            f"--mesh {text}: expected axes of different names, whose product is the {chips} chips"
            " of --topology"
        )
    return axes


def _layout(chosen: argparse.Namespace) -> "Layout":
    import jax

    from jaxcnn.plan._chips import slice_of
    from jaxcnn.train import Layout

    if re.fullmatch(r"cpu:[1-9]\d{0,3}", chosen.topology):
        # too late in a process that has computed; what it has may do
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", int(chosen.topology[4:]))
    devices = slice_of(chosen.topology)
    axes = parse_mesh(chosen.mesh, len(devices))
    mesh = jax.make_mesh(tuple(axes.values()), tuple(axes), devices=devices)
    return Layout(
        mesh, cut=chosen.cut if chosen.cut else list(axes)[-1] if chosen.cut == "" else None
    )
