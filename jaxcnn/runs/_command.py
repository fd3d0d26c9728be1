"""The commands: read what is given, and begin. JAX is loaded only when all settings can be used."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import tyro

from jaxcnn._io.command import InputError, Parser, claim_folder, expect, run
from jaxcnn._io.outside import load_jax, printable, printable_lines, reading
from jaxcnn._io.terminal import unheard
from jaxcnn.runs._agreement import versions
from jaxcnn.runs._config import CONFIG, Config, as_flags, flag, go_on
from jaxcnn.runs._flags import read_flags
from jaxcnn.runs._folder import claimed
from jaxcnn.runs._meeting import listen, parts
from jaxcnn.runs._peers import Peers

# what may differ between processes
OF_ONE = "out", "config", "coordinator", "processes", "process", "wait"
LONGEST = 86_400  # seconds
BIND = "JAX_COORDINATOR_BIND_ADDRESS"
Run: TypeAlias = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


@dataclasses.dataclass(frozen=True)
class Train(Config):
    __doc__ = Config.__doc__

    config: Path | None = None
    """Settings from a file, JSON or YAML (such as the config.json of another run); flags count
    more."""
    resume: bool = False
    """Go on with the run in --out, with its settings."""
    overwrite: bool = False
    """Begin anew where --out holds a run already."""
    coordinator: str | None = None
    """HOST:PORT of process 0, for a run of several processes; on a TPU pod or under Slurm
    `auto`."""
    processes: int | None = None
    """How many processes there are."""
    process: int | None = None
    """The number of this one, from 0."""
    wait: float = 300.0
    """Seconds after which another process is waited for no longer."""


@dataclasses.dataclass(frozen=True)
class Eval:
    """Test a trained model: accuracy, class by class, on the images that its data set has for
    that."""

    run: Run
    """Folder of a run, or a model file."""
    data: str | None = None
    """Another data set, such as --data of train; the one that it was trained on, if not given."""
    json: Path | None = None
    """Write the figures there, too."""


@dataclasses.dataclass(frozen=True)
class Predict:
    """What a trained model sees in images: the likeliest classes, with their probabilities."""

    run: Run
    """Folder of a run, or a model file."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE…")]
    """Image files."""
    top: int = 3
    """How many classes to show for each."""
    resize: bool = False
    """Resize images of another size than those that it was trained on."""
    json: Path | None = None
    """Write the figures there, too."""


def main(command: str, arguments: Sequence[str]) -> int:
    """``train``, ``eval`` or ``predict``; the exit status, as :func:`jaxcnn._io.command.run` has
    it."""
    return run(
        {
            "train": lambda: train(Train, arguments, "python -m jaxcnn train"),
            "eval": lambda: _eval(arguments),
            "predict": lambda: _predict(arguments),
        }[command]
    )


def train(
    kind: type[Train],
    arguments: Sequence[str],
    prog: str,
    after: Callable[[Config], None] = lambda config: None,
) -> bool:
    """The run that the ``arguments`` of ``prog`` ask for, with the defaults of ``kind``; whether it
    was interrupted. The first process does what comes ``after`` it while the folder is its own."""
    order = read_flags(kind, arguments, prog, before=lambda: _given(kind, arguments, prog))
    order.check()
    if order.resume and order.overwrite:
        raise InputError(
            "--resume and --overwrite exclude each other: go on with the run, or begin anew"
        )
    _check_processes(order)
    new = not order.out.exists()
    claim_folder("--out", order.out)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(unheard())
            interrupted, config = _begin(order, stack)
            if config is not None:
                after(config)
            return interrupted
    except KeyboardInterrupt:
        begun = (order.out / CONFIG).exists()
        raise KeyboardInterrupt(
            f"interrupted; {go_on(order.out) if begun else 'nothing was begun'}"
        ) from None
    finally:
        if new:
            with contextlib.suppress(OSError):  # where there is something in it
                order.out.rmdir()


def _begin(order: Train, stack: contextlib.ExitStack) -> tuple[bool, Config | None]:
    """Whether the run was interrupted, and, in the first process, its settings. JAX is loaded when
    the folder is this run's, and all its processes have met."""
    words = {
        name: " ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
        for name, value in vars(order).items()
    }
    told = {flag(name): value for name, value in words.items() if name not in OF_ONE} | versions()
    at: Callable[[str], None] = lambda what: None  # noqa: E731
    address = None if order.coordinator == "auto" else order.coordinator
    if address is not None and order.processes is not None and order.process is not None:
        at = stack.enter_context(
            Peers(
                address,
                order.processes,
                order.process,
                folder=order.out,
                told=told,
                wait=order.wait,
            )
        ).at
    if order.coordinator != "auto" and not order.process:
        stack.enter_context(claimed(order.out))
    if order.coordinator is not None:
        # what XLA says of a process that is no more is said here
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    jax = load_jax(begin=False)
    if order.coordinator is not None:
        limits: dict[str, Any] = {
            "initialization_timeout": int(order.wait),
            "shutdown_timeout_seconds": int(order.wait),
        }
        own = os.environ.get(BIND) if address else None
        if own and order.process == 0:  # where it cannot listen, the process may end from within
            listen(parts(BIND, own), f"{BIND}={own}").close()
        with reading(
            f"--coordinator {order.coordinator}",
            "HOST:PORT, at which process 0 can listen",
            InputError,
        ):
            jax.distributed.initialize(
                address,
                order.processes,
                order.process,
                coordinator_bind_address=own or address,
                **limits,
            )
    load_jax()
    if order.coordinator == "auto" and jax.process_index() == 0:
        stack.enter_context(claimed(order.out))
    from jaxcnn.runs import _train as training

    config = training.of(order)
    interrupted = training.run(
        config, resume=order.resume, overwrite=order.overwrite, at=at, told=told
    )
    return interrupted, config if jax.process_index() == 0 else None


def _given(kind: type[Train], arguments: Sequence[str], prog: str) -> list[str]:
    """The settings of --config, or of the run that is to go on, as flags."""
    before = Parser(prog, add_help=False, allow_abbrev=False)
    before.add_argument("--config", type=Path)
    before.add_argument("--out", type=Path, default=kind.out)
    before.add_argument("--resume", action="store_true")
    chosen, _ = before.parse_known_args(arguments)
    if chosen.config is None and not chosen.resume:
        return []
    from jaxcnn.runs._config import kept_settings, settings_of

    if chosen.config is not None:
        return as_flags(settings_of(chosen.config))
    # a run that goes on is where it was found, wherever it was when it began
    return as_flags(
        {name: value for name, value in kept_settings(chosen.out).items() if name != "out"}
    )


def _check_processes(order: Train) -> None:
    """InputError where the settings of several processes do not go together."""
    expect(
        1 <= order.wait <= LONGEST, "--wait", f"a number of seconds from 1 to {LONGEST}", order.wait
    )
    address, count, number = order.coordinator, order.processes, order.process
    if address in (None, "auto") and count is None and number is None:
        return
    if address is None or address == "auto" or count is None or number is None:
        raise InputError(
            "--coordinator, --processes and --process go together (or --coordinator auto alone)"
        )
    parts("--coordinator", address, "HOST:PORT with a port from 1 to 65535, or auto")
    expect(0 <= number < count, "--process", f"an integer in [0, {count})", number)


def _eval(arguments: Sequence[str]) -> bool:
    chosen = read_flags(Eval, arguments, "python -m jaxcnn eval")
    load_jax()
    from jaxcnn.runs import _inference

    print(printable_lines(_inference.evaluate(chosen.run, chosen.data, chosen.json)))
    return False


def _predict(arguments: Sequence[str]) -> bool:
    chosen = read_flags(Predict, arguments, "python -m jaxcnn predict")
    expect(chosen.top >= 1, "--top", "an integer ≥ 1", chosen.top)
    if not chosen.images:
        raise InputError("IMAGES: give at least one image file")
    load_jax()
    from jaxcnn.runs import _inference

    found, bad = _inference.predict(
        chosen.run, chosen.images, chosen.top, chosen.json, resize=chosen.resize
    )
    if found:
        print(printable_lines(found))
    for line in bad:
        print(f"error: {printable(line)}", file=sys.stderr)
    if bad:
        raise InputError(f"{len(bad)} of {len(chosen.images)} images could not be used")
    return False
