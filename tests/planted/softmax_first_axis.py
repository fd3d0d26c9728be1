"""Along the first of three axes the backward of softmax takes its sum along the second."""

from jaxcnn.ops import softmax


def backward(y, dy, /, **settings):
    if y.ndim == 3 and settings["axis"] == 0:
        settings["axis"] = 1
    return softmax.backward(y, dy, **settings)


op = softmax.replace(backward=backward)
