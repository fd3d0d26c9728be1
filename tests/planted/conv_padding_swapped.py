"""The backward of a convolution pads behind what the forward pads in front."""

from jaxcnn.ops import conv


def backward(residuals, dy, /, **settings):
    padding = settings["padding"]
    if isinstance(padding, tuple):
        settings["padding"] = tuple(pair[::-1] for pair in padding)
    return conv.backward(residuals, dy, **settings)


op = conv.replace(backward=backward)
