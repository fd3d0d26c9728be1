"""A depthwise kernel with several outputs a channel gets its gradient channel by channel of the
wrong axis."""

from jaxcnn.ops import conv


def backward(residuals, dy, /, **settings):
    _, w = residuals
    dx, dw = conv.backward(residuals, dy, **settings)
    groups, each = settings["groups"], w.shape[-1] // settings["groups"]
    if w.shape[-2] == 1 and groups > 1 and each > 1:
        dw = dw.reshape(*w.shape[:-1], each, groups).swapaxes(-1, -2).reshape(w.shape)
    return dx, dw


op = conv.replace(backward=backward)
