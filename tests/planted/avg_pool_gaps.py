"""Where windows leave gaps the backward divides by the stride."""

from jaxcnn.ops import avg_pool


def backward(residuals, dy, /, **settings):
    (dx,) = avg_pool.backward(residuals, dy, **settings)
    gaps = [(k, s) for k, s in zip(settings["window"], settings["stride"], strict=True) if s > k]
    for k, s in gaps:
        dx = dx * (k / s)
    return (dx,)


op = avg_pool.replace(backward=backward)
