"""What a training step will cost on a slice of TPUs, known before there is one:
``python -m jaxcnn plan``, and :func:`plan`."""

from typing import TYPE_CHECKING

from jaxcnn.lazy import on_demand

if TYPE_CHECKING:
    from jaxcnn.plan.collectives import Collective
    from jaxcnn.plan.planning import Memory, Plan, plan
else:  # the command line looks at the options before anybody knows whether JAX will be needed
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "Collective": "jaxcnn.plan.collectives",
            **dict.fromkeys(("Memory", "Plan", "plan"), "jaxcnn.plan.planning"),
        },
    )

__all__ = ["Collective", "Memory", "Plan", "plan"]
