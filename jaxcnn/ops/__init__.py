"""The ops: each a forward and a hand-written backward in a file of its own. ``OPS`` lists them all.

>>> from jaxcnn import ops
>>> ops.conv in ops.OPS, len({op.name for op in ops.OPS}) == len(ops.OPS)
(True, True)
"""

from jaxcnn.ops._activations import elu, gelu, leaky_relu, relu, sigmoid, silu, softplus, step, tanh
from jaxcnn.ops._avg_pool import avg_pool
from jaxcnn.ops._bias import bias
from jaxcnn.ops._conv import conv
from jaxcnn.ops._conv_transpose import conv_transpose
from jaxcnn.ops._dense import dense
from jaxcnn.ops._dropout import dropout
from jaxcnn.ops._global_avg_pool import global_avg_pool
from jaxcnn.ops._losses import (
    kl_divergence,
    l2,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    squared_error,
)
from jaxcnn.ops._max_pool import max_pool
from jaxcnn.ops._norm import batch_norm, frozen_norm, group_norm, layer_norm
from jaxcnn.ops._patches import patches
from jaxcnn.ops._rnn import rnn
from jaxcnn.ops._softmax import log_softmax, softmax

LINEAR = (dense, conv, conv_transpose, bias, patches)
POOLS = (max_pool, avg_pool, global_avg_pool)
ACTIVATIONS = (relu, leaky_relu, elu, step, sigmoid, tanh, softplus, silu, gelu)
NORMS = (softmax, log_softmax, batch_norm, layer_norm, group_norm, frozen_norm)
LOSSES = (softmax_cross_entropy, sigmoid_cross_entropy, kl_divergence, squared_error, l2)
OPS = (*LINEAR, *POOLS, *ACTIVATIONS, *NORMS, dropout, rnn, *LOSSES)

__all__ = ["ACTIVATIONS", "LINEAR", "LOSSES", "NORMS", "OPS", "POOLS"]
__all__ += [
    "avg_pool",
    "batch_norm",
    "bias",
    "conv",
    "conv_transpose",
    "dense",
    "dropout",
    "elu",
    "frozen_norm",
    "gelu",
    "global_avg_pool",
    "group_norm",
    "kl_divergence",
    "l2",
    "layer_norm",
    "leaky_relu",
    "log_softmax",
    "max_pool",
    "patches",
    "relu",
    "rnn",
    "sigmoid",
    "sigmoid_cross_entropy",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "squared_error",
    "step",
    "tanh",
]
