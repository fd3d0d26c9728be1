"""Layers: pairs that own parameters, and the compositions that make a model of them."""

from jaxcnn.layers._chain import (
    activation,
    avg_pool,
    bias,
    conv,
    conv_transpose,
    dense,
    flatten,
    global_avg_pool,
    group_norm,
    last,
    layer_norm,
    max_pool,
    of,
    relu,
)
from jaxcnn.layers._compose import Serial, repeat, residual, serial
from jaxcnn.layers._direct import direct
from jaxcnn.layers._layer import Layer
from jaxcnn.layers._stateful import batch_norm, dropout, rnn

__all__ = [
    "Layer", "Serial", "activation", "avg_pool", "batch_norm", "bias", "conv", "conv_transpose",
    "dense", "direct", "dropout", "flatten", "global_avg_pool", "group_norm", "last",
    "layer_norm", "max_pool", "of", "relu", "repeat", "residual", "rnn", "serial",
]  # fmt: skip
