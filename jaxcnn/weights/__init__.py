"""Weights in files that other programs read, and the weights of other programs.

>>> import jax
>>> from jaxcnn import models
>>> model = models.mlp((8, 2))
>>> params, state = model.init(jax.random.key(0), (4,))
>>> weights = to_torch(model, params, state, (4,))
>>> {name: array.shape for name, array in weights.items()}
{'dense1.weight': (8, 4), 'dense1.bias': (8,), 'dense2.weight': (2, 8), 'dense2.bias': (2,)}
>>> params, state = from_torch(weights, model, params, state, (4,))
"""

from jaxcnn.weights._pytorch import from_torch, load_torch, to_torch
from jaxcnn.weights._store import WeightsError, load_safetensors, read_about, save_safetensors

__all__ = [
    "WeightsError",
    "from_torch",
    "load_safetensors",
    "load_torch",
    "read_about",
    "save_safetensors",
    "to_torch",
]
