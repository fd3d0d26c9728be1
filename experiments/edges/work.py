"""A photograph, its edges, and the kernels that a layer learned."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import cbook, image
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure

from experiments.edges.config import Config
from experiments.edges.kernels import PIECE, edges, gaussian, learn, sobel
from experiments.files import clear_folder
from experiments.progress import track
from jaxcnn._io.command import InputError
from jaxcnn._io.drawing import ACCENT, REFERENCE, save, style
from jaxcnn._io.files import write_json

FILES = "result.json", "edges.png", "learned.png"
SIDE = 320  # a larger photograph is thinned to about this


def run(config: Config) -> str:
    grey = jnp.asarray(photograph(config.image))
    clear_folder(config.out, FILES)
    magnitude, angle = edges(grey)
    steps = 20 if config.smoke else config.steps
    jobs = {"Sobel, across": (sobel(), 0), "Sobel, down": (sobel(), 1), "Gaussian": (gaussian(), 0)}
    learned, losses, found = {}, {}, {}
    for name, true in track(
        [("Sobel", sobel()), ("Gaussian", gaussian())], lambda item: f"learning {item[0]}"
    ):
        found[name], losses[name] = learn(grey, true, steps, jax.random.key(config.seed))
    for name, (true, channel) in jobs.items():
        learned[name] = (
            np.asarray(true[:, :, 0, channel]),
            np.asarray(found[name.split(",")[0]][:, :, 0, channel]),
        )
    errors = {name: float(np.abs(true - own).max()) for name, (true, own) in learned.items()}
    write_json(
        config.out / "result.json",
        {
            "seed": config.seed,
            "steps": steps,
            "kernel_errors": errors,
            "kernels": {n: own.tolist() for n, (_, own) in learned.items()},
        },
    )
    save(shown(grey, magnitude, angle), config.out / "edges.png")
    save(compared(learned, errors, losses), config.out / "learned.png")
    lines = [
        f"{name:<15}largest error of a number of the learned kernel: {error:.1e}"
        for name, error in errors.items()
    ]
    return "\n".join(
        [
            *lines,
            f"Results and pictures are in {config.out}: {', '.join(FILES)}",
            "Next: python -m experiments.features",
        ]
    )


def photograph(path: Path | None) -> np.ndarray:
    """Grey, (h, w), from 0 to 1."""
    try:
        source = image.imread(
            path or str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
        )
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"--image {path} cannot be read as a picture ({error}); give a PNG or JPEG"
        ) from None
    pixels = np.asarray(source, np.float32) / (255 if source.dtype == np.uint8 else 1)
    grey = (
        pixels[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
        if pixels.ndim == 3
        else pixels
    )
    step = max(1, min(grey.shape) // SIDE)
    grey = grey[::step, ::step]
    if grey.std() == 0:
        raise InputError(f"--image {path} is of one grey; there are no edges in it")
    if min(grey.shape) <= PIECE:
        raise InputError(
            f"--image {path} is {grey.shape[1]}×{grey.shape[0]} pixels; more than {PIECE} each way"
            " are needed"
        )
    return grey


def shown(grey: jax.Array, magnitude: jax.Array, angle: jax.Array) -> Figure:
    """The photograph, the magnitude of its edges, and their direction as a colour."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    strength = np.asarray(magnitude / magnitude.max()) ** 0.6
    hue = np.asarray(angle) / (2 * np.pi) % 1
    colours = hsv_to_rgb(np.stack([hue, np.ones_like(hue), strength], -1))
    titles = (
        "The photograph",
        "√(Gx² + Gy²) of the blurred photograph",
        "arctan2(Gy, Gx) as a colour",
    )
    for ax, title, pixels in zip(
        figure.subplots(1, 3), titles, (grey, strength, colours), strict=True
    ):
        ax.imshow(pixels, cmap="gray")
        ax.set_title(title, loc="left", fontsize=12)
        ax.set_axis_off()
    return figure


def compared(learned: dict, errors: dict[str, float], losses: dict) -> Figure:
    """Each learned kernel beside the true one, and the loss on the way there."""
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    axes = figure.subplots(2, 4)
    for column, (name, pair) in enumerate(learned.items()):
        for ax, kernel, kind in zip(axes[:, column], pair, ("true", "learned"), strict=True):
            _numbers(ax, kernel, float(np.abs(pair[0]).max()))
            said = f"\nlargest error {errors[name]:.0e}" if kind == "learned" else ""
            ax.set_title(f"{name}: {kind}{said}", loc="left", fontsize=11)
    for ax in axes[:, 3]:
        ax.set_axis_off()
    ax = figure.add_subplot(axes[0, 3].get_subplotspec())
    style(ax, "Loss an output pixel", "step")
    for (name, values), colour in zip(losses.items(), (ACCENT, REFERENCE), strict=True):
        ax.plot(values, color=colour, linewidth=1, label=name)
    ax.set_yscale("log")
    ax.legend(frameon=False)
    return figure


def _numbers(ax: Axes, kernel: np.ndarray, bound: float) -> None:
    ax.imshow(kernel, cmap="RdBu_r", vmin=-bound, vmax=bound)
    small = kernel.shape[0] <= 3
    for (i, j), value in np.ndenumerate(kernel):
        ax.text(
            j,
            i,
            f"{value:.3f}",
            ha="center",
            va="center",
            fontsize=11 if small else 5.5,
            color="white" if abs(value) > 0.6 * bound else "black",
        )
    ax.set_axis_off()
