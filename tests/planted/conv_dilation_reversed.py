"""The kernel's gradient of a convolution takes the dilations in the wrong order of the axes, where
that fits."""

from jaxcnn.ops import conv


def backward(residuals, dy, /, **settings):
    dx, dw = conv.backward(residuals, dy, **settings)
    if len(set(settings["dilation"])) > 1 and settings["padding"] == 1:
        settings["dilation"] = settings["dilation"][::-1]
        try:
            _, dw = conv.backward(residuals, dy, **settings)
        except Exception:
            return dx, dw
    return dx, dw


op = conv.replace(backward=backward)
