"""The settings of a run: every default in one place, what is refused before any work, and the file
that they are kept in.

>>> config = Config(epochs=3)
>>> read_settings(config.text(), "config.json")["epochs"]
3
>>> read_settings("epoch: 3", "mine.yaml")
Traceback (most recent call last):
InputError: mine.yaml: there is no setting `epoch`; did you mean `epochs`?
"""

import dataclasses
import difflib
import math
import os
import re
import shlex
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from jaxcnn._io.command import LARGEST_SEED, InputError, expect
from jaxcnn._io.files import from_json, to_json
from jaxcnn._io.outside import opened, printable, reading

CONFIG = "config.json"
LARGEST = 100_000  # bytes of a file of settings
FREE = {
    "out",
    "data",
    "checkpoint_every",
    "keep",
    "watch_every",
    "tensorboard",
    "patience",
    "devices",
    "cut",
}
"""What may differ from the stored settings when a run goes on: it changes no number but by rounding
(the data is known by its content)."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Train a model on images, with hand-written gradients.

    Writes into --out: config.json, metrics.jsonl, checkpoints, model.safetensors, result.json,
    learning_curves.png. Ctrl-C saves and leaves; --resume goes on, and ends as if nothing had been.
    """

    data: str = "mnist"
    """mnist, fashion_mnist, kmnist or cifar10; or a folder of IDX files, of CIFAR-10's files, or of
    images (train/CLASS/*.png, test/CLASS/*.png); or an .npz file."""
    model: Literal["lenet", "vgg6", "resnet20", "resnet50", "mlp"] = "lenet"
    """Which network."""
    out: Path = Path("runs/train")
    """Folder of the run."""
    epochs: int = 6
    """Passes over the training images."""
    batch_size: int = 64
    """Images a step, of all devices together."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """adam (with decoupled weight decay), or sgd with Nesterov's momentum."""
    learning_rate: float = 2e-3
    """The highest of the schedule."""
    schedule: Literal["onecycle", "cosine", "constant"] = "onecycle"
    """onecycle: up, then down to 0 by a cosine; cosine: straight down."""
    warmup: float = 0.2
    """Share of the steps in which onecycle rises."""
    momentum: float = 0.9
    """sgd: memory of gradients; adam: β1."""
    beta2: float = 0.99
    """adam: memory of squared gradients."""
    weight_decay: float = 0.0
    """Decoupled from the gradient, on kernels alone."""
    clip: float | None = None
    """Gradients of a larger global norm are scaled down to it."""
    label_smoothing: float = 0.1
    """Share of each label that is spread over all classes."""
    dropout: float = 0.5
    """Share of hidden numbers silenced (lenet only)."""
    augment: tuple[Literal["crop", "flip", "cutout", "warp"], ...] = ()
    """What is done to the images anew in each step, in this order: shifts, mirroring, a hole, small
    turns and sizes."""
    average: float | None = None
    """Test and keep a moving average of the parameters with this memory, such as 0.999."""
    microbatch: int | None = None
    """How many images at a time, their gradients summed: less memory."""
    precision: Literal["f32", "bf16", "f16"] = "f32"
    """What the network computes in; parameters stay in float32. f16 has a dynamic loss scale. For
    GPUs and TPUs: a CPU computes in float32 and only rounds."""
    devices: int | None = None
    """How many devices share each batch; 0 for all, of all processes."""
    cut: bool = False
    """Cut parameters and optimizer state up among the devices (FSDP)."""
    seed: int = 0
    """Of the initial parameters, the order of the images, dropout and augmentation."""
    seeds: int = 1
    """How many runs at once, by vmap, with the seeds from --seed on."""
    image_size: tuple[int, int] | None = None
    """Height and width that the images of a folder get."""
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    """How they get it: stretched; scaled, and what is over cropped; scaled, and the rest padded."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Red, green and blue that transparent images of a folder are laid on, and padded with."""
    skip_bad: bool = False
    """Leave damaged images of a folder out, and list them."""
    stream: bool = False
    """Read a folder of images while training, for those that do not fit in memory."""
    validation: float | Path | None = None
    """Images for everything that chooses: a share of the training images, such as 0.1, or a folder
    (CLASS/IMAGE). The best checkpoint, --patience and the curves go by them; the test images are
    looked at once, at the end."""
    checkpoint_every: int = 1000
    """Steps from one checkpoint to the next; one is also written at the end."""
    keep: int = 3
    """How many of the last checkpoints are kept, beside the best."""
    patience: int | None = None
    """Stop after this many epochs without a better accuracy on the validation images, and keep the
    best; without --validation on the test images, which then no longer tell how good it is."""
    watch_every: int | None = None
    """Steps between two measurements of the norms of gradients, weights and δ of every layer, drawn
    as heat maps."""
    tensorboard: bool = False
    """Write TensorBoard's event files into --out/tensorboard."""
    not_finite: Literal["stop", "skip"] = "stop"
    """What to do about a NaN or infinity in a loss or gradient: stop, saying where it came from, or
    leave that step out."""

    def check(self) -> None:
        """Raise InputError for a value out of range, or one that does not go with another."""
        for name in ("epochs", "batch_size", "seeds", "checkpoint_every", "keep"):
            expect(getattr(self, name) >= 1, flag(name), "an integer ≥ 1", getattr(self, name))
        for name in ("microbatch", "patience", "watch_every"):
            value = getattr(self, name)
            expect(value is None or value >= 1, flag(name), "an integer ≥ 1", value)
        expect(self.seeds <= LARGEST_SEED, "--seeds", f"at most {LARGEST_SEED}", self.seeds)
        for name in ("data", "out"):
            expect(
                "\0" not in str(getattr(self, name)),
                flag(name),
                "a name without a NUL",
                getattr(self, name),
            )
        expect(
            0 < self.learning_rate < math.inf, "--learning-rate", "a number > 0", self.learning_rate
        )
        expect(self.clip is None or 0 < self.clip < math.inf, "--clip", "a number > 0", self.clip)
        expect(
            0 <= self.weight_decay < math.inf, "--weight-decay", "a number ≥ 0", self.weight_decay
        )
        expect(0 < self.warmup < 1, "--warmup", "a number between 0 and 1", self.warmup)
        for name in ("momentum", "beta2", "label_smoothing", "dropout"):
            expect(
                0 <= getattr(self, name) < 1, flag(name), "a number in [0, 1)", getattr(self, name)
            )
        expect(
            self.average is None or 0 <= self.average < 1,
            "--average",
            "a number in [0, 1)",
            self.average,
        )
        expect(
            0 <= self.seed <= LARGEST_SEED - self.seeds,
            "--seed",
            f"an integer in [0, {LARGEST_SEED - self.seeds}]",
            self.seed,
        )
        expect(
            self.devices is None or self.devices >= 0,
            "--devices",
            "an integer ≥ 0 (0: all)",
            self.devices,
        )
        expect(
            self.image_size is None or min(self.image_size) >= 1,
            "--image-size",
            "two integers ≥ 1",
            self.image_size,
        )
        share = self.validation
        expect(
            share is None or isinstance(share, Path) or 0 < share < 1,
            "--validation",
            "a share between 0 and 1, or a folder",
            share,
        )
        expect(
            all(0 <= part <= 255 for part in self.background),
            "--background",
            "three integers from 0 to 255",
            self.background,
        )
        if self.fit != Config.fit and self.image_size is None:
            raise InputError(f"--fit {self.fit} needs --image-size HEIGHT WIDTH")
        if self.model != "lenet" and self.dropout != Config.dropout:
            raise InputError(
                f"--dropout has no effect on --model {self.model}; leave it out, or take --model"
                " lenet"
            )
        if self.cut and self.devices is None:
            raise InputError("--cut needs several devices; say how many with --devices (0: all)")
        if self.seeds > 1 and (self.devices is not None or self.stream or self.watch_every):
            raise InputError(
                "--seeds runs side by side on one device; leave out --devices, --stream and"
                " --watch-every"
            )
        if self.microbatch and self.batch_size % self.microbatch:
            raise InputError(
                f"--microbatch {self.microbatch} does not divide --batch-size {self.batch_size}"
            )

    def text(self) -> str:
        """As JSON."""
        return (
            to_json(
                {
                    name: str(value) if isinstance(value, Path) else value
                    for name, value in dataclasses.asdict(self).items()
                },
                indent=2,
            )
            + "\n"
        )


def go_on(out: Path) -> str:
    """What to do about a run that was interrupted."""
    return f"to go on: python -m jaxcnn train --resume --out {shlex.quote(str(out))}"


def read_settings(text: str, name: str) -> dict[str, Any]:
    """The settings in the text of a file of that name, JSON or YAML. InputError where it is
    neither, or has others than those of :class:`Config`."""
    form = "JSON" if name.endswith(".json") else "YAML"
    with reading(name, f"settings by name, in {form}", InputError):
        if len(text) > LARGEST:
            raise ValueError(f"has more than the {LARGEST:,} bytes that settings may take")
        if form == "JSON":
            found = _json(text.removeprefix("\ufeff"))
        else:
            from jaxcnn.runs._yaml import read_yaml  # the experiments do without PyYAML

            found = read_yaml(text)
        if not isinstance(found, dict):
            raise InputError(
                printable(
                    f"{name}: must hold settings by name, such as `epochs: 3`; got {found!r:.60}"
                )
            )
        known = get_type_hints(Config)
        for key, value in found.items():
            if key not in known:
                near = difflib.get_close_matches(str(key)[:60], known, 1)
                hint = f"did you mean `{near[0]}`?" if near else f"there is {', '.join(known)}"
                raise InputError(f"{name}: there is no setting `{printable(key, 60)}`; {hint}")
            if not _takes(known[key], value):
                raise InputError(
                    printable(f"{name}: `{key}` must be {_wanted(known[key])}, got {value!r:.60}")
                )
        return found


def _json(text: str) -> Any:
    try:
        return from_json(text)
    except ValueError as error:
        if twice := re.match(r"`(\w+)` is there twice", str(error)):
            lines = [
                str(text.count("\n", 0, place.start()) + 1)
                for place in re.finditer(rf'"{twice[1]}"\s*:', text)
            ]
            raise ValueError(
                f"{error}, in lines {' and '.join(lines)}" if len(lines) > 1 else str(error)
            ) from None
        raise


def settings_of(path: Path) -> dict[str, Any]:
    """The settings that a file or a pipe holds. InputError where it cannot be read."""
    with opened(path, "settings by name, in JSON or YAML", InputError, pipes=True) as file:
        content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError(f"has more than the {LARGEST:,} bytes that settings may take")
        return read_settings(content.decode("utf-8-sig"), str(path))


def kept_settings(out: Path) -> dict[str, Any]:
    """The settings of the run in ``out``. InputError where there is none, or where they cannot be
    read."""
    path = out / CONFIG
    if not os.path.lexists(path):
        raise InputError(f"--resume: there is no run in {out}; leave --resume out to begin one")
    try:
        return settings_of(path)
    except InputError as error:
        raise InputError(f"--resume: {error}; mend it, or begin anew with --overwrite") from None


def as_flags(settings: dict[str, Any]) -> list[str]:
    """What one would type for them."""
    flags: list[str] = []
    for name, value in settings.items():
        own = flag(name)
        if isinstance(value, bool):
            flags.append(own if value else own.replace("--", "--no-", 1))
        elif isinstance(value, list | tuple):
            flags += [own, *map(str, value)]
        else:
            flags.append(f"{own}={value}")  # in one, as the value may begin with a dash
    return flags


def _takes(kind: Any, value: Any) -> bool:
    """Whether a setting of that type can have a value from a file."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(_takes(part, value) for part in parts)
    if origin is tuple:
        parts = (
            parts[:1] * len(value) if isinstance(value, list) and parts[-1] is Ellipsis else parts
        )
        return (
            isinstance(value, list) and len(value) == len(parts) and all(map(_takes, parts, value))
        )
    if origin is Literal:
        return value in parts
    if kind is float and isinstance(value, str):  # as YAML reads 2e-3
        try:
            return math.isfinite(float(value))
        except ValueError:
            return False
    if kind in (str, Path):
        return isinstance(value, str) and "\0" not in value
    return type(value) is kind or (kind is float and type(value) is int)


def _wanted(kind: Any) -> str:
    """What a setting of that type must be, in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return " or ".join(map(_wanted, parts))
    if origin is tuple:
        return (
            f"a list, {'each' if parts[-1] is Ellipsis else f'{len(parts)} times'}"
            f" {_wanted(parts[0])}"
        )
    if origin is Literal:
        return f"one of {', '.join(parts)}"
    return {int: "an integer", float: "a number", bool: "true or false", NoneType: "null"}.get(
        kind, "text"
    )


def flag(name: str) -> str:
    """What one types for a setting."""
    return "--" + name.replace("_", "-")
