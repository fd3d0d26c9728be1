"""Cells at the end of a row that no window reaches get a gradient."""

from jaxcnn._core.window import resolve
from jaxcnn.ops import conv


def backward(residuals, dy, /, **settings):
    x, w = residuals
    dx, dw = conv.backward(residuals, dy, **settings)
    over = resolve(
        "conv",
        x.shape[1:-1],
        window=w.shape[:-2],
        **{name: settings[name] for name in ("stride", "padding", "dilation")},
    )
    reach = (over.places[-1] - 1) * over.stride[-1] + over.extent[-1] - over.padding[-1][0]
    return (dx.at[..., reach:, :].add(dy.mean()) if reach < over.cells[-1] else dx), dw


op = conv.replace(backward=backward)
