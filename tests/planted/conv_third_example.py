"""The kernel's gradient counts the first two examples alone."""

from jaxcnn.ops import conv


def backward(residuals, dy, /, **settings):
    x, w = residuals
    dx, _ = conv.backward((x, w), dy, **settings)
    _, dw = conv.backward((x[:2], w), dy[:2], **settings)
    return dx, dw


op = conv.replace(backward=backward)
