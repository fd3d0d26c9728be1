"""Training: pure pieces around a model, a loss and an optax optimizer."""

from jaxcnn.train.step import TrainState, create, make_predict, make_step

__all__ = ["TrainState", "create", "make_predict", "make_step"]
