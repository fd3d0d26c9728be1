"""With two and more leading axes the bias' gradient counts those of the first alone."""

from jaxcnn.ops import dense


def backward(residuals, dy, /, **settings):
    dx, dw, db = dense.backward(residuals, dy, **settings)
    if db is not None and dy.ndim > 2:
        db = dy[0].reshape(-1, dy.shape[-1]).sum(0)
    return dx, dw, db


op = dense.replace(backward=backward)
