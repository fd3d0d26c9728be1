"""Training: a :class:`Recipe` says what is learned and how; pure pieces that take one, and
:func:`fit`, a run made of them.

Schedules, clipping and weight decay are optax's:
``optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))``. Label smoothing is
``prepare_target=lambda labels: optax.smooth_labels(jax.nn.one_hot(labels, classes), 0.1)``;
gradient accumulation is ``microbatch``.
"""

from typing import TYPE_CHECKING

from jaxcnn._core.lazy import on_demand
from jaxcnn.precision import Policy
from jaxcnn.train._autopsy import Finding, autopsy
from jaxcnn.train._callbacks import EarlyStopping
from jaxcnn.train._epoch import Epoch, Steps, make_epoch, make_steps, shuffled
from jaxcnn.train._evaluate import Evaluate, make_evaluate
from jaxcnn.train._fit import DivergedError, Report, fit
from jaxcnn.train._layout import Layout
from jaxcnn.train._logs import JsonLines
from jaxcnn.train._measures import accuracy
from jaxcnn.train._recipe import Recipe
from jaxcnn.train._step import Predict, Step, TrainState, create, make_predict, make_step
from jaxcnn.train._watch import Norms, make_norms

if TYPE_CHECKING:
    from jaxcnn.train._checkpoint import CheckpointError, Checkpoints
    from jaxcnn.train._draw import learning_curves
    from jaxcnn.train._progress import Plain, Progress
    from jaxcnn.train._tensorboard import TensorBoard

__all__ = [
    "CheckpointError", "Checkpoints", "DivergedError", "EarlyStopping", "Epoch", "Evaluate",
    "Finding", "JsonLines", "Layout", "Norms", "Plain", "Policy", "Predict", "Progress", "Recipe",
    "Report", "Step", "Steps", "TensorBoard", "TrainState", "accuracy", "autopsy", "create", "fit",
    "learning_curves", "make_epoch", "make_evaluate", "make_norms", "make_predict", "make_step",
    "make_steps", "shuffled",
]  # fmt: skip

if not TYPE_CHECKING:  # those that need an extra
    __getattr__, __dir__ = on_demand(
        __name__,
        __all__,
        {
            "_checkpoint": ["CheckpointError", "Checkpoints"],
            "_draw": ["learning_curves"],
            "_progress": ["Plain", "Progress"],
            "_tensorboard": ["TensorBoard"],
        },
    )
