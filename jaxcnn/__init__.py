"""jaxcnn: convolutional networks in JAX with explicit, proven gradients."""

from typing import TYPE_CHECKING

from jaxcnn._core.lazy import on_demand
from jaxcnn._core.moved import keep_old_names

if TYPE_CHECKING:
    from jaxcnn import (
        data,
        explain,
        kernels,
        layers,
        models,
        ops,
        plan,
        precision,
        rules,
        runs,
        train,
        verify,
        weights,
    )
    from jaxcnn._core.op import Op
    from jaxcnn._gradient import activations, deltas, example_norms, value_and_grad
    from jaxcnn._io.memory import keep_memory

__version__ = "0.1.0"
__all__ = [
    "Op", "activations", "data", "deltas", "example_norms", "explain", "keep_memory", "kernels",
    "layers", "models", "ops", "plan", "precision", "rules", "runs", "train", "value_and_grad",
    "verify", "weights",
]  # fmt: skip

keep_old_names()

if not TYPE_CHECKING:  # the pytest plugin and the command line begin before JAX is needed
    __getattr__, __dir__ = on_demand(
        __name__,
        __all__,
        {
            "_io.memory": ["keep_memory"],
            "_core.op": ["Op"],
            "_gradient": ["activations", "deltas", "example_norms", "value_and_grad"],
        },
    )
