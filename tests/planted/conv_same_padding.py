"""Where SAME pads an odd number of cells, the backward has the odd one in front."""

from jaxcnn._core.window import resolve
from jaxcnn.ops import conv


def backward(residuals, dy, /, **settings):
    x, w = residuals
    if settings["padding"] == "SAME":
        names = ("stride", "padding", "dilation")
        over = resolve(
            "conv", x.shape[1:-1], window=w.shape[:-2], **{n: settings[n] for n in names}
        )
        settings["padding"] = tuple(pair[::-1] for pair in over.padding)
    return conv.backward(residuals, dy, **settings)


op = conv.replace(backward=backward)
