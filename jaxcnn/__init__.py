"""jaxcnn: convolutional networks in JAX with explicit, proven gradients."""

from jaxcnn import layers, models, ops, verify
from jaxcnn.gradient import deltas, value_and_grad
from jaxcnn.op import Op

__version__ = "0.1.0"
__all__ = ["Op", "deltas", "layers", "models", "ops", "value_and_grad", "verify"]
