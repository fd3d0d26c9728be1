"""Training: pure pieces around a model, a loss and an optax optimizer."""

from jaxcnn.train.epoch import make_epoch, make_steps, shuffled
from jaxcnn.train.step import TrainState, create, make_predict, make_step

__all__ = ["TrainState", "create", "make_epoch", "make_predict", "make_step", "make_steps", "shuffled"]
