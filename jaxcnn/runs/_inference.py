"""``eval`` and ``predict``: a trained model's answers."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn import data as sets
from jaxcnn._io.columns import columns
from jaxcnn._io.command import InputError, claim_file
from jaxcnn._io.files import write_json
from jaxcnn._io.outside import printable
from jaxcnn.runs._config import Config
from jaxcnn.runs._dataset_of_run import load
from jaxcnn.runs._model_file import Trained, open_models


def evaluate(path: Path, data: str | None, out: Path | None) -> str:
    """Accuracy on test images, as a table; also into ``out``. InputError where model and data do
    not fit."""
    if out is not None:
        claim_file("--json", out)
    models = open_models(path)
    own = models.settings
    config = Config(data=own.data if data is None else data)
    if (Path(config.data) / "train").is_dir():  # pictures as those that it was trained on
        config = dataclasses.replace(
            config,
            stream=own.stream and data is None,
            image_size=own.image_size,
            fit=own.fit,
            background=own.background,
            skip_bad=own.skip_bad,
        )
    given, named = load(dataclasses.replace(config, batch_size=1)), f"--data {config.data}"
    images, labels = given.test
    _check_shape(models, images.shape[1:], named)
    if given.classes > models.classes:
        raise InputError(f"{named} has {given.classes} classes, the model {models.classes}")
    if given.names and models.names not in (given.names, tuple(map(str, range(models.classes)))):
        raise InputError(
            f"{named} has the classes {', '.join(given.names):.100}, the model"
            f" {', '.join(models.names):.100}"
        )
    p = models.probabilities(images)
    singles = [float((own.argmax(-1) == labels).mean()) for own in p]
    right = p.mean(0).argmax(-1) == labels
    by_class = {
        name: float(right[labels == number].mean())
        for number, name in enumerate(models.names)
        if (labels == number).any()
    }
    result = {
        "data": given.name,
        "images": len(labels),
        "accuracy": float(right.mean()),
        "accuracy_by_model": singles,
        "accuracy_by_class": by_class,
    }
    if out is not None:
        write_json(out, result)
    lines = [f"{printable(given.name)}: {right.mean():.2%} of {len(labels):,} test images right"]
    if len(singles) > 1:
        lines += [
            f"  {len(singles)} models together; alone {', '.join(f'{a:.2%}' for a in singles)}"
            f" (mean {np.mean(singles):.2%}, standard deviation {np.std(singles, ddof=1):.2%})"
        ]
    shares = [(f"  {printable(name)}", f"{share:.2%}") for name, share in by_class.items()]
    return "\n".join([*lines, *columns(shares, right={1})])


def predict(
    path: Path, images: Sequence[Path], top: int, out: Path | None, *, resize: bool
) -> tuple[str, list[str]]:
    """The likeliest classes of each image, as a table; and what is to be said of files that could
    not be used."""
    if out is not None:
        claim_file("--json", out)
    models, found, bad, rows = open_models(path), [], [], []
    for image in images:
        try:
            pixels = models.read(image, resize=resize)
            _check_shape(models, pixels.shape, str(image), "; --resize changes the size")
            found.append((image, pixels))
        except (InputError, sets.DataError) as error:
            bad.append(str(error))
    p = models.probabilities(np.stack([pixels for _, pixels in found])).mean(0) if found else ()
    results: dict[str, Any] = {}
    for (image, _), own in zip(found, p, strict=True):
        best = np.argsort(-own, kind="stable")[:top]
        results[str(image)] = {models.names[number]: float(own[number]) for number in best}
        told = "  ".join(f"{models.names[number]} {own[number]:.1%}" for number in best)
        rows.append((printable(image), printable(told)))
    if out is not None:
        write_json(out, results)
    return "\n".join(columns(rows)), bad


def _check_shape(models: Trained, shape: tuple[int, ...], name: str, hint: str = "") -> None:
    shape = (*shape, 1) if len(shape) == 2 else tuple(shape)
    if shape != models.shape:
        wanted, got = ("×".join(map(str, s)) for s in (models.shape, shape))
        raise InputError(
            f"{name}: the model takes images of {wanted} (height, width, channels), got {got}{hint}"
        )
