"""The kernel's gradient of a true convolution is not turned back where there are groups."""

import jax.numpy as jnp

from jaxcnn.ops import conv


def backward(residuals, dy, /, **settings):
    _, w = residuals
    dx, dw = conv.backward(residuals, dy, **settings)
    grouped = settings["flip"] and settings["groups"] > 1
    return dx, jnp.flip(dw, range(w.ndim - 2)) if grouped else dw


op = conv.replace(backward=backward)
