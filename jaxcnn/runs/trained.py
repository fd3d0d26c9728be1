"""What a run has left, used: the weights, with all that is needed to give them images.

A model file is a safetensors file whose ``about`` holds the settings, the classes' names, mean and deviation of the pixels, and the shape of an image.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import train
from jaxcnn.command import InputError, RunError
from jaxcnn.data.scale import Standardiser
from jaxcnn.runs import build
from jaxcnn.runs.config import CONFIG, Config, go_on
from jaxcnn.train.names import named
from jaxcnn.weights import WeightsError, load_safetensors, read_about, save_safetensors

MODEL, KIND = "model.safetensors", "jaxcnn"
SEVERAL = "model_[0-9]*.safetensors"  # of several seeds


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

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Of each class, by each model: (models, n, classes), for images of bytes."""
        size, found = 500, []
        for params, state in self.members:
            parts = [images[at : at + size] for at in range(0, len(images), size)]
            filled = [np.concatenate([part, np.repeat(part[-1:], min(size, len(images)) - len(part), 0)]) for part in parts]  # fmt: skip
            logits = [np.asarray(self.predict(params, state, part))[: len(own)] for own, part in zip(parts, filled, strict=True)]  # fmt: skip
            found.append(np.asarray(jax.nn.softmax(jnp.concatenate(logits).astype(jnp.float32))))
        return np.stack(found)


def about(classes: int, names: Sequence[str] | None, scale: Standardiser, shape: tuple[int, ...]) -> dict[str, Any]:
    """What a model file says beside the settings."""
    return {"classes": classes, "names": names, "mean": scale.mean, "deviation": scale.deviation, "shape": shape}


def save_model(path: Path, config: Config, state: train.TrainState, told: dict[str, Any]) -> None:
    """Write the parameters (their moving average, if there is one) and the model's state."""
    params = state.params if state.average is None else state.average
    text = json.dumps({"settings": json.loads(config.text()), "step": int(state.step), **told})
    try:
        save_safetensors(path, params, state.state, about={KIND: text})
    except WeightsError as error:
        raise RunError(f"{error}; the checkpoints are whole, so that --resume writes it, too") from None


def digest(params: Any) -> str:
    """SHA-256 of all parameters, in the order of their names: name, dtype, shape, and numbers as they lie in memory.

    >>> import numpy as np
    >>> digest({"a": np.ones(2)}) == digest({"a": np.ones(2)}), digest({"a": np.ones(2)}) == digest({"b": np.ones(2)})
    (True, False)
    """
    found = hashlib.sha256()
    for name, leaf in sorted(named(params).items()):
        array = np.asarray(leaf, order="C")
        found.update(f"{name} {array.dtype} {array.shape}\n".encode() + array.tobytes())
    return found.hexdigest()


def open_models(path: Path) -> Trained:
    """The models in a run's folder, or in a file. InputError where there are none, or one cannot be read."""
    there = [*path.glob(MODEL), *path.glob(SEVERAL)]
    files = [path] if path.is_file() else sorted(there, key=lambda file: (len(file.name), file.name))
    if not files:
        what = f"is {'no run' if path.exists() else 'not there'}; give the folder of a run, or a model file"
        if (path / CONFIG).exists():
            what = f"has no model yet; the run goes on, or ended early: if so, {go_on(path)}"
        raise InputError(f"{path}: {what}")
    try:
        told = [json.loads(read_about(file).get(KIND, "null")) for file in files]
        first = told[0]
        if first is None:
            raise InputError(f"{files[0]}: has weights, but not what they are of; give a file that `python -m jaxcnn train` wrote")  # fmt: skip
        for file, other in zip(files, told, strict=True):
            if other != first:
                raise InputError(f"{file}: is not of the same run as {files[0]}; give one model file, or a folder with the models of one run")  # fmt: skip
        settings, shape = first["settings"], tuple(first["shape"])
        plain = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
        config = Config(**{**plain, "out": Path(settings["out"])})
        model, policy = build.network(config, first["classes"]), build.policy(config)
        params, state = jax.eval_shape(lambda: model.init(jax.random.key(0), shape))
        members = tuple(load_safetensors(file, *_empty(params, state)) for file in files)
        names = tuple(first["names"] or map(str, range(first["classes"])))
        scale = Standardiser(tuple(first["mean"]), tuple(first["deviation"]))
    except WeightsError as error:
        raise InputError(str(error)) from None
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{files[0]}: is not a model file of this version ({' '.join(str(error).split()):.160})") from None  # fmt: skip
    predict = train.make_predict(model, scale, policy=policy)
    return Trained(config, first["classes"], names, scale, shape, members, predict)


def _empty(*trees: Any) -> Any:
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), trees)
