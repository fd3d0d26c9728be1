"""Training: pure pieces around a model, a loss and an optax optimizer, and :func:`fit`, a run made
of them.

Schedules, clipping and weight decay are optax's:
``optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_onecycle_schedule(steps, 1e-3)))``. Label smoothing is ``prepare_target=lambda labels: optax.smooth_labels(jax.nn.one_hot(labels, classes), 0.1)``; gradient accumulation is ``microbatch``.
"""

from jaxcnn.precision import Policy
from jaxcnn.train.autopsy import Finding, autopsy
from jaxcnn.train.callbacks import EarlyStopping
from jaxcnn.train.epoch import make_epoch, make_steps, shuffled
from jaxcnn.train.evaluate import accuracy, make_evaluate
from jaxcnn.train.fit import DivergedError, Report, fit
from jaxcnn.train.layout import Layout
from jaxcnn.train.logs import JsonLines
from jaxcnn.train.step import TrainState, create, make_predict, make_step
from jaxcnn.train.watch import Norms, make_norms

__all__ = ["DivergedError", "EarlyStopping", "Finding", "JsonLines", "Layout", "Norms", "Policy", "Report", "TrainState", "accuracy", "autopsy", "create", "fit", "make_epoch", "make_evaluate", "make_norms", "make_predict", "make_step", "make_steps", "shuffled"]  # fmt: skip
