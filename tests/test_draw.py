"""Pictures of a run stand what a run may bring: NaN, zeros, many layers, no scores."""

import math
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from jaxcnn._io.drawing import save
from jaxcnn.train._draw import heat_map, learning_curves
from jaxcnn.train._watch import Table


def size(path: Path) -> tuple[int, int]:
    return matplotlib.image.imread(path).shape[:2]


@pytest.mark.parametrize(
    "values",
    [
        [[1e-30, 1.0], [np.nan, 0.0], [np.inf, 2.0]],
        [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]],
        [[np.nan, np.nan]] * 3,
        [[1.0, 1.0]] * 3,
        [[1e-45, 3e38]],
    ],
)
def test_a_map_stands_what_a_run_may_bring(tmp_path: Path, values: list[list[float]]) -> None:
    table = Table(np.array([1, 10, 50])[: len(values)], ["conv", "dense"], np.array(values))
    save(heat_map(table, "‖δ‖"), tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert size(tmp_path / "map.png") == (round(130 * (1.6 + 0.22 * 12)), 11 * 130)


def test_a_map_names_the_layers_from_the_bottom() -> None:
    names = [f"layer{n}" for n in range(130)]
    figure = heat_map(Table(np.array([1, 2]), names, np.ones((2, 130))), "‖δ‖")
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == names[::3]
    low, high = ax.get_ylim()
    assert low < high


def test_curves_of_any_scores(tmp_path: Path) -> None:
    scores = {4: {"accuracy": 0.5, "loss": 1.0}, 8: {"accuracy": 0.75, "loss": math.nan}}
    losses = [math.nan, 3.0, 2.0, math.inf, 1.0, 0.5, 0.0, 1.0]
    figure = learning_curves(losses, scores, per_epoch=4, reference={"accuracy": ("a paper", 0.99)})
    save(figure, tmp_path / "curves.png")
    assert size(tmp_path / "curves.png") == (572, 2145)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "Training loss: 1 at the end",
        "Test accuracy: 75.00 % at the end",
        "Test loss: nan at the end",
    ]
    assert len(learning_curves([1.0], {}).axes) == 2
