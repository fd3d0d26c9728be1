"""Parameters, images and op inputs, drawn once by NumPy in one canonical layout, and handed to the
peers as files without pickles.

Canonical: images (height, width, channels), kernels (height, width, in, out) and (in, out), rows of
the kernel behind a flatten in the order height, width, channel."""

import math
import zlib
from pathlib import Path

import numpy as np

from experiments.bench.cases import OpCase
from experiments.bench.networks import CLASSES, Network, parameters, places
from jaxcnn._io.outside import opened

Arrays = dict[str, np.ndarray]
PARAMS = "params/"
NUDGE = 1e-6
GRADIENT = "gradient/"  # before the name of each gradient that a peer hands over


def save(path: Path, arrays: Arrays) -> None:
    """As .npz."""
    np.savez(path, allow_pickle=False, **arrays)


def load(path: Path) -> Arrays:
    """What :func:`save` wrote."""
    with (
        opened(path, "arrays, as np.savez writes them") as whole,
        np.load(whole, allow_pickle=False) as file,
    ):
        return dict(file)


def draw_network(
    network: Network, batch: int, seed: int, *, batches: int = 1, models: int = 1
) -> Arrays:
    """``params/NAME`` (models, …), ``images`` (batches, batch, h, w, c), ``labels`` (batches,
    batch)."""
    rng = _rng(seed, network.name)
    found: Arrays = {}
    last = f"{places(network)[-1].path}/kernel"
    for path, shape in parameters(network).items():
        values = rng.standard_normal((models, *shape), np.float32)
        if path.endswith(
            "kernel"
        ):  # He et al. 2015; the scores begin small, so that training does not begin with a leap
            found[PARAMS + path] = values * np.float32(
                math.sqrt(2 / math.prod(shape[:-1])) * (0.1 if path == last else 1)
            )
        else:
            found[PARAMS + path] = np.float32(path.endswith("scale")) + np.float32(0.1) * values
    found["images"] = rng.standard_normal((batches, batch, *network.input_shape), np.float32)
    found["labels"] = rng.integers(0, CLASSES, (batches, batch), np.int32)
    return found


def nudge(arrays: Arrays) -> Arrays:
    """The same with every parameter moved by about a millionth of itself, ten times what float32
    rounds."""
    rng = _rng(0, "nudge")
    moved = {
        name: array * (1 + NUDGE * rng.standard_normal(array.shape))
        for name, array in arrays.items()
        if name.startswith(PARAMS)
    }
    return arrays | moved


def draw_op(case: OpCase, batch: int, seed: int) -> Arrays:
    """``0`` (x), ``1`` and so on (weights), and ``dy``."""
    rng = _rng(seed, case.name)
    inputs = {
        str(number): rng.standard_normal(shape, np.float32)
        for number, shape in enumerate((case.input_shape(batch), *case.weights))
    }
    return inputs | {"dy": rng.standard_normal(case.output_shape(batch), np.float32)}


def _rng(seed: int, name: str) -> np.random.Generator:
    """The same whatever else is drawn in a run."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def params_of(arrays: Arrays, model: int = 0) -> Arrays:
    """The parameters of one model by canonical name."""
    return {
        name.removeprefix(PARAMS): array[model]
        for name, array in arrays.items()
        if name.startswith(PARAMS)
    }


def op_inputs(arrays: Arrays) -> list[np.ndarray]:
    """x and the weights."""
    return [arrays[str(number)] for number in range(len(arrays) - 1)]
