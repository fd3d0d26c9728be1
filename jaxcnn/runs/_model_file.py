"""What a run has left, used: the weights, with all that is needed to give them images.

A model file is a safetensors file whose ``about`` holds the settings, the classes' names, mean and
deviation of the pixels, and the shape of an image. It comes from outside: all that it says is
checked before anything is built, and compared with its arrays before memory is asked for."""

import dataclasses
import fnmatch
import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import train
from jaxcnn._io.command import InputError, RunError
from jaxcnn._io.files import from_json
from jaxcnn._io.outside import reading
from jaxcnn.data._npz import MOST_CLASSES
from jaxcnn.data._pictures import read_image
from jaxcnn.data._scale import Standardiser
from jaxcnn.runs import _components as build
from jaxcnn.runs._config import CONFIG, Config, go_on, read_settings
from jaxcnn.runs._folder import MANIFEST, listed
from jaxcnn.train._names import IN_FILES, named
from jaxcnn.weights import WeightsError, load_safetensors, read_about, save_safetensors

MODEL, KIND = "model.safetensors", "jaxcnn"
SEVERAL = "model_[0-9]*.safetensors"  # of several seeds
TRAIN = "`python -m jaxcnn train`"
MOST_PIXELS = 2**28  # numbers of an image


@dataclasses.dataclass(frozen=True)
class Trained:
    """Models that answer together: with the mean of their probabilities."""

    settings: Config
    classes: int
    names: tuple[str, ...]
    scale: Standardiser
    shape: tuple[int, ...]
    members: tuple[tuple[Any, Any], ...]
    predict: Any

    def read(self, path: Path, *, resize: bool = False) -> np.ndarray:
        """A picture, made into pixels as those of the training were; to the model's size, where
        they were, or ``resize`` says so."""
        resize = resize or self.settings.image_size is not None
        return read_image(
            path,
            size=(self.shape[0], self.shape[1]) if resize else None,
            grey=self.shape[2] == 1,
            fit=self.settings.fit,
            background=self.settings.background,
        )

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Of each class, by each model: (models, n, classes), for images of bytes."""
        size, found = 500, []
        for params, state in self.members:
            parts = [images[at : at + size] for at in range(0, len(images), size)]
            filled = [
                np.concatenate([part, np.repeat(part[-1:], min(size, len(images)) - len(part), 0)])
                for part in parts
            ]
            logits = [
                np.asarray(self.predict(params, state, part))[: len(own)]
                for own, part in zip(parts, filled, strict=True)
            ]
            found.append(np.asarray(jax.nn.softmax(jnp.concatenate(logits).astype(jnp.float32))))
        return np.stack(found)


def about(
    classes: int, names: Sequence[str] | None, scale: Standardiser, shape: tuple[int, ...]
) -> dict[str, Any]:
    """What a model file says beside the settings."""
    return {
        "classes": classes,
        "names": names,
        "mean": scale.mean,
        "deviation": scale.deviation,
        "shape": shape,
    }


def save_model(path: Path, config: Config, state: train.TrainState, told: dict[str, Any]) -> None:
    """Write the parameters (their moving average, if there is one) and the model's state."""
    params = state.params if state.average is None else state.average
    text = json.dumps({"settings": json.loads(config.text()), "step": int(state.step), **told})
    try:
        save_safetensors(path, params, state.state, about={KIND: text})
    except WeightsError as error:
        raise RunError(
            f"{error}; the checkpoints are whole, so that --resume writes it, too"
        ) from None


def digest(params: Any) -> str:
    """SHA-256 of all parameters, in the order of their names: name, dtype, shape, and numbers as
    they lie in memory.

    >>> import numpy as np
    >>> ones = digest({"a": np.ones(2)})
    >>> ones == digest({"a": np.ones(2)}), ones == digest({"b": np.ones(2)})
    (True, False)
    """
    found = hashlib.sha256()
    for name, leaf in sorted(named(params, IN_FILES).items()):
        array = np.asarray(leaf, order="C")
        found.update(f"{name} {array.dtype} {array.shape}\n".encode() + array.tobytes())
    return found.hexdigest()


def open_models(path: Path) -> Trained:
    """The models in a run's folder, or in a file. InputError where there are none, or one cannot be
    used."""
    with reading(path, "the folder of a run, or a model file", InputError):
        there = [
            path / name for form in (MODEL, SEVERAL) for name in fnmatch.filter(_names(path), form)
        ]
        files = sorted(there, key=lambda file: (len(file.name), file.name)) or (
            [path] if path.exists() and not path.is_dir() else []
        )
        if not files:
            what = (
                f"is {'no run' if path.exists() else 'not there'}; give the folder of a run, or a"
                " model file"
            )
            if (path / CONFIG).exists():
                what = f"has no model yet; the run goes on, or ended early: if so, {go_on(path)}"
            raise InputError(f"{path}: {what}")
    first: Any = None
    for file in files:
        with reading(file, f"a model file of this version, as {TRAIN} writes it", InputError):
            text = read_about(file).get(KIND)
            if text is None:
                raise InputError(
                    f"{file}: has weights, but not what they are of; give a file that {TRAIN} wrote"
                )
            told = from_json(text)
            if first is not None and told != first:
                raise InputError(
                    f"{file}: is not of the same run as {files[0]}; give one model file, or a"
                    " folder with the models of one run"
                )
            first = told
    with reading(files[0], f"a model file of this version, as {TRAIN} writes it", InputError):
        config, classes, names, scale, shape = _checked(first, str(files[0]))
        model, policy = build.network(config, classes), build.policy(config)
        like = jax.eval_shape(lambda: model.init(jax.random.key(0), shape))
    members = tuple(_finite(file, *like) for file in files)
    return Trained(
        config,
        classes,
        names,
        scale,
        shape,
        members,
        train.make_predict(train.Recipe(model, prepare=scale, policy=policy)),
    )


def _names(path: Path) -> list[str]:
    """Of the files in a folder; where a run has a list there, of those that it wrote, as others may
    be of another."""
    names = os.listdir(path) if path.is_dir() else []
    if MANIFEST not in names:
        return names
    written = listed(path)
    return [name for name in names if name in written]


def _checked(
    told: Any, where: str
) -> tuple[Config, int, tuple[str, ...], Standardiser, tuple[int, ...]]:
    """What a model file says, or InputError."""

    def want(holds: bool, name: str, wanted: str) -> None:
        if not holds:
            got = ascii(told.get(name)) if isinstance(told, dict) else ""
            raise InputError(
                f"{where}: `{name}` must be {wanted}, got {got:.60}; it is not a model file of this"
                " version, or damaged"
            )

    parts = {"settings", "classes", "names", "mean", "deviation", "shape"}
    if (
        not isinstance(told, dict)
        or not parts <= told.keys()
        or not isinstance(told["settings"], dict)
    ):
        raise InputError(
            f"{where}: is not a model file of this version; expected {', '.join(sorted(parts))}"
        )
    classes, names, shape = told["classes"], told["names"], told["shape"]
    want(
        _is(int, classes) and 2 <= classes <= MOST_CLASSES,
        "classes",
        f"an integer from 2 to {MOST_CLASSES}",
    )
    want(
        names is None or (_all(str, names, classes) and len(set(names)) == classes),
        "names",
        f"{classes} names, each another, or null",
    )
    want(
        _all(int, shape, 3) and min(shape) >= 1 and math.prod(shape) <= MOST_PIXELS,
        "shape",
        "height, width and channels of an image",
    )
    for name in ("mean", "deviation"):
        numbers = told[name]
        want(
            _all(float, numbers, shape[2]) and all(math.isfinite(each) for each in numbers),
            name,
            f"a finite number for each of {shape[2]} channels",
        )
    want(min(told["deviation"]) > 0, "deviation", "numbers > 0")
    settings = read_settings(json.dumps(told["settings"]), f"{where}: its settings.json")
    plain = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    paths = {"out": Path(settings.get("out", Config.out))}
    if isinstance(settings.get("validation"), str):
        paths["validation"] = Path(settings["validation"])
    config = Config(**{**plain, **paths})
    config.check()
    scale = Standardiser(tuple(map(float, told["mean"])), tuple(map(float, told["deviation"])))
    return config, classes, tuple(names or map(str, range(classes))), scale, tuple(shape)


def _finite(file: Path, params: Any, state: Any) -> tuple[Any, Any]:
    """The arrays of a model file. InputError where they are others, or some number is none."""
    with reading(file, "the weights of a model", InputError):
        found = load_safetensors(file, params, state)
        for name, array in named({"params": found[0], "state": found[1]}).items():
            bad = array.size - np.count_nonzero(np.isfinite(array))
            if bad:
                raise InputError(
                    f"{file}: {bad:,} of {array.size:,} numbers of `{name}` are NaN or infinity;"
                    " its answers would be none"
                )
        return found


def _is(kind: type, value: Any) -> bool:
    return type(value) is kind or (kind is float and type(value) is int)


def _all(kind: type, values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(_is(kind, value) for value in values)
    )
