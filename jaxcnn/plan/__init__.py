"""What a training step will cost on a slice of TPUs, known before there is one:
``python -m jaxcnn plan``, and :func:`plan`."""

from typing import TYPE_CHECKING

from jaxcnn._core.lazy import on_demand

if TYPE_CHECKING:
    from jaxcnn.plan._collectives import Collective
    from jaxcnn.plan._planning import Memory, Plan, plan

__all__ = ["Collective", "Memory", "Plan", "plan"]

if not TYPE_CHECKING:  # the command line reads its options before JAX is needed
    __getattr__, __dir__ = on_demand(
        __name__,
        __all__,
        {"_collectives": ["Collective"], "_planning": ["Memory", "Plan", "plan"]},
    )
