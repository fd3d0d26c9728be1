"""A finished run in Python: its model, its parameters, and what it says of images.

>>> load("nowhere")
Traceback (most recent call last):
InputError: nowhere: is not there; give the folder of a run, or a model file
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn import layers
from jaxcnn.runs import _components as build
from jaxcnn.runs._config import Config
from jaxcnn.runs._model_file import Trained, open_models

Images = np.ndarray | Sequence[str | os.PathLike[str]]


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What :func:`load` gives.

    Attributes:
        model: the network; ``model.apply(params, state, loaded.prepare(images))`` are its scores.
        params, state: those that the run kept: the last, the best, or their moving average; of
            several seeds the first one's (``members`` has them all).
        classes: what the scores mean, in their order.
        shape: (height, width, channels) of an image.
        settings: those of the run.
        members: (params, state) of each seed.
    """

    model: layers.Layer
    params: Any
    state: Any
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    settings: Config
    members: tuple[tuple[Any, Any], ...]
    _trained: Trained = dataclasses.field(repr=False)

    def prepare(self, images: Any) -> Any:
        """Bytes (n, h, w) or (n, h, w, c) as the network takes them: by mean and deviation of the
        images that it was trained on."""
        return self._trained.scale(images)

    def predict(self, images: Images) -> np.ndarray:
        """Of each class the probability, (n, classes); of several seeds their mean.

        Args:
            images: bytes (n, h, w) or (n, h, w, c), or the paths of image files, which become
                pixels as those of the training did.

        Raises:
            DataError: for a file that is no picture.
            ValueError: for images of another shape.
        """
        if not isinstance(images, np.ndarray):
            images = np.stack([self._trained.read(Path(path)) for path in images])
        own = images if images.ndim == 4 else images[..., None]
        if own.shape[1:] != self.shape or own.dtype != np.uint8 or not len(own):
            wanted = " × ".join(map(str, self.shape))
            raise ValueError(
                f"predict: `images` must be uint8 images of {wanted} (height, width, channels), at"
                f" least one, got {own.dtype} of shape {images.shape}"
            )
        return np.asarray(self._trained.probabilities(own)).mean(0)


def load(path: str | os.PathLike[str]) -> Loaded:
    """The model that a run left in its folder, or in a file. Nothing is unpickled.

    Raises:
        InputError: where there is none, or it cannot be used.
    """
    trained = open_models(Path(path))
    (params, state), *_ = trained.members
    model = build.network(trained.settings, trained.classes)
    return Loaded(
        model,
        params,
        state,
        trained.names,
        trained.shape,
        trained.settings,
        trained.members,
        trained,
    )
