"""jaxcnn: convolutional networks in JAX with explicit, proven gradients."""

from typing import TYPE_CHECKING

from jaxcnn.lazy import on_demand

if TYPE_CHECKING:
    from jaxcnn import layers, models, ops, verify
    from jaxcnn.gradient import deltas, example_norms, value_and_grad
    from jaxcnn.memory import keep_memory
    from jaxcnn.op import Op
else:  # the pytest plugin and the command line load this package before anybody knows whether JAX will be needed
    __getattr__, __dir__ = on_demand(__name__, {
        **{name: f"jaxcnn.{name}" for name in ("layers", "models", "ops", "verify")},
        "deltas": "jaxcnn.gradient", "example_norms": "jaxcnn.gradient", "value_and_grad": "jaxcnn.gradient", "keep_memory": "jaxcnn.memory", "Op": "jaxcnn.op",
    })  # fmt: skip

__version__ = "0.1.0"
__all__ = ["Op", "deltas", "example_norms", "keep_memory", "layers", "models", "ops", "value_and_grad", "verify"]
