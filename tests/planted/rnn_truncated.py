"""Backpropagation through time is cut off after four steps."""

from jaxcnn.ops import rnn


def backward(residuals, dy, /, **settings):
    x, _, wx, wh, y = residuals
    first, t = rnn.backward(residuals, dy, **settings), x.shape[1]
    if t <= 4:
        return first
    cut = x[:, t - 4 :], y[:, t - 5], wx, wh, y[:, t - 4 :]
    return first[0], *rnn.backward(cut, dy[:, t - 4 :], **settings)[1:]


op = rnn.replace(backward=backward)
