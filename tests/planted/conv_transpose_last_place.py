"""With a stride, the kernel's gradient leaves out the cells behind the first tap of the last place."""

from jaxcnn.ops import conv_transpose


def backward(residuals, dy, /, **settings):
    x, w = residuals
    dx, dw = conv_transpose.backward((x, w), dy, **settings)
    if settings["padding"] == "VALID" and settings["stride"][-1] > 1:
        places = (x.shape[-2] - 1) * settings["stride"][-1] + 1
        dw = conv_transpose.backward((x, w), dy.at[..., places:, :].set(0), **settings)[1]
    return dx, dw


op = conv_transpose.replace(backward=backward)
