"""jaxcnn: convolutional networks in JAX with explicit, proven gradients."""

from typing import TYPE_CHECKING

from jaxcnn.lazy import on_demand

if TYPE_CHECKING:
    from jaxcnn import explain, layers, models, ops, plan, rules, train, verify, weights
    from jaxcnn.gradient import activations, deltas, example_norms, value_and_grad
    from jaxcnn.memory import keep_memory
    from jaxcnn.op import Op
else:  # the pytest plugin and the command line load this package before anybody knows whether JAX will be needed
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            **{
                name: f"jaxcnn.{name}"
                for name in (
                    "explain",
                    "layers",
                    "models",
                    "ops",
                    "plan",
                    "rules",
                    "train",
                    "verify",
                    "weights",
                )
            },
            "activations": "jaxcnn.gradient",
            "deltas": "jaxcnn.gradient",
            "example_norms": "jaxcnn.gradient",
            "value_and_grad": "jaxcnn.gradient",
            "keep_memory": "jaxcnn.memory",
            "Op": "jaxcnn.op",
        },
    )

__version__ = "0.1.0"
__all__ = [
    "Op", "activations", "deltas", "example_norms", "explain", "keep_memory", "layers", "models", "ops", "plan", "rules", "train", "value_and_grad", "verify", "weights",
]  # fmt: skip
