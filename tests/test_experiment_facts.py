"""What the experiments show, on a small scale: each learns, and each measures what it says."""

import importlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from idx_files import write_folder

from experiments import command
from experiments.edges.kernels import gaussian, learn, sobel
from experiments.images import Images
from experiments.recurrent import tasks
from experiments.seesaw.training import NETWORKS, PATTERNS, SIDES, WEIGHTS, program
from experiments.vanishing.measure import before_and_after
from jaxcnn import ops
from jaxcnn._io.command import BAD_INPUT, FAILED

RNG = np.random.default_rng(0)


def epochs_by_hand(weights: np.ndarray, rate: float) -> int:
    """The softmax MLP of the seesaw, pattern by pattern, in NumPy."""
    hidden, scores = weights[:10].reshape(5, 2), weights[10:14].reshape(2, 2)
    x, targets = np.asarray(PATTERNS)[:, :, 0], np.eye(2)[np.asarray(SIDES)]

    def forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        h = 1 / (1 + np.exp(-x @ hidden))
        e = np.exp(h @ scores)
        return h, e / e.sum(-1, keepdims=True)

    for epoch in range(1, 5001):
        for pattern, target in zip(x, targets, strict=True):
            h, p = forward(pattern)
            df = p - target
            dh = scores @ df * h * (1 - h)
            scores = scores - rate * np.outer(h, df)
            hidden = hidden - rate * np.outer(pattern, dh)
        if ((forward(x)[1] - targets) ** 2).sum() < 0.005:
            return epoch
    return 5001


def test_the_seesaws_networks_arrive_when_a_loop_in_numpy_does() -> None:
    noise = RNG.standard_normal((3, 40, WEIGHTS)).astype(np.float32)
    found = program(40, 400)(jnp.array([1.0, 0.0, 0.5]), jnp.asarray(noise))
    epochs = {name: np.asarray(counts) for name, (counts, _) in found.items()}
    share = {name: (counts <= 400).mean() for name, counts in epochs.items()}
    assert share["MLP, softmax"] > 0.8
    assert share["MLP, sigmoid"] > 0.8
    assert 0.3 < share["CNN, softmax"] < 0.8  # row S3.4: 59 %
    which = list(NETWORKS).index("MLP, softmax")
    for start in range(5):
        got, wanted = (
            int(epochs["MLP, softmax"][start]),
            epochs_by_hand(0.5 * noise[which, start].astype(float), 1.0),
        )
        assert abs(min(got, 401) - min(wanted, 401)) <= 1


@pytest.mark.parametrize("true", [sobel(), gaussian()], ids=["Sobel", "Gaussian"])
def test_a_layer_learns_a_kernel_from_what_it_makes_of_images(true: jax.Array) -> None:
    image = jnp.asarray(RNG.random((64, 48)), jnp.float32)
    kernel, losses = learn(image, true, 300, jax.random.key(0))
    assert np.abs(kernel - true).max() < 0.05
    assert losses[-1] < 1e-2 * losses[0]


def test_delta_fades_behind_sigmoids_and_not_behind_rectifiers() -> None:
    x = jnp.asarray(RNG.standard_normal((200, 6, 6, 1)), jnp.float32)
    labels = jnp.asarray(RNG.integers(0, 3, 200))
    data, scales = Images((x, labels), (x, labels), 3), jnp.array([1.0, 1.4142135])
    norms: dict[str, Any] = {}
    for name in ("sigmoid", "relu"):
        start, _ = before_and_after(name, 12, scales, 0, data, jax.random.key(0))
        norms[name] = np.asarray(start.norms)
        assert norms[name].dtype == np.float64
    # the largest that σ′ is
    assert ops.sigmoid.pull(ops.sigmoid.run(jnp.zeros(()))[1], jnp.ones(()))[0] == 0.25
    # with weights of variance 1/inputs, a layer multiplies ‖δ‖ by about σ′(0) = ¼
    ratios = norms["sigmoid"][0, :-1] / norms["sigmoid"][0, 1:]
    assert np.all((ratios > 0.1) & (ratios < 0.4))
    assert 0.2 < norms["relu"][1, 0] / norms["relu"][1, -1] < 5


@pytest.mark.slow
def test_sums_over_a_short_span_are_learned() -> None:
    model, steps, loss = tasks.adder(), 400, ops.squared_error
    update = tasks.optimizer(1e-3, steps, clip=True)
    params, _ = model.init(jax.random.key(0), (6, 2))
    go = tasks.trainer(model, loss, update, lambda key: tasks.draw_sums(key, 64, 6))
    _, (losses, norms) = go(
        (params, update.init(params)), jax.random.split(jax.random.key(1), steps)
    )
    assert losses[-20:].mean() < 1 / 6 / 10  # a tenth of what guessing 1 gives
    assert np.isfinite(norms).all()


def test_sums_are_of_one_number_in_each_half() -> None:
    x, total = tasks.draw_sums(jax.random.key(0), 50, 9)
    marks = np.asarray(x[..., 1])
    assert (marks[:, :4].sum(1) == 1).all()
    assert (marks[:, 4:].sum(1) == 1).all()
    np.testing.assert_allclose(total[:, 0], (x[..., 0] * marks).sum(1), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "flags", "train", "size", "words"),
    [
        ("features", [], 300, 3, "the model does not take images of 3×3 pixels"),
        (
            "walkthrough",
            ["--model", "vgg6", "--smoke"],
            300,
            3,
            "the model does not take images of 3×3 pixels",
        ),
        ("feedback", [], 60, 28, "a batch takes 128 images, and"),
        ("digits", [], 60, 28, "a batch takes 128 images, and"),
        ("recurrent", [], 60, 28, "a batch takes 128 images, and"),
        ("vanishing", [], 60, 28, "a batch takes 100 images, and"),
    ],
)
def test_images_that_do_not_fit_are_refused_and_old_results_stay(
    name: str,
    flags: list[str],
    train: int,
    size: int,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = write_folder(tmp_path / "images", train=train, test=20, size=size, classes=2)
    out = tmp_path / "out"
    out.mkdir()
    (out / "result.json").write_text("old")
    config = importlib.import_module(f"experiments.{name}.config").Config
    assert (
        command.main(config, name, ["--out", str(out), "--data-dir", str(images), *flags])
        == BAD_INPUT
    )
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert (out / "result.json").read_text() == "old"


def test_a_run_that_diverges_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from experiments.feedback.config import Config

    images = write_folder(tmp_path / "images", train=64, test=20, size=28)
    flags = [
        "--smoke",
        "--learning-rate",
        "1e30",
        "--data-dir",
        str(images),
        "--out",
        str(tmp_path / "out"),
    ]
    assert command.main(Config, "feedback", flags) == FAILED
    assert capsys.readouterr().err.startswith("error: fit: ")
