"""Other ways back: ops with the same forward and another backward, to be put into a model with
``model.map_ops``.

    guided               an activation  its own, of dy where dy > 0; pictures (Springenberg et al.
                                        2014)
    deconvolution        an activation  dy where dy > 0, whatever the forward did; pictures (Zeiler
                                        and Fergus 2013)
    straight_through     an activation  dy, as if it were the identity; steps and signs (Bengio et
                                        al. 2013), S3.3
    feedback_alignment   dense, conv    carried by fixed random weights instead of w; learning
                                        without weight transport (Lillicrap et al. 2016)
    sign_symmetric       dense, conv    carried by the signs of w alone; the same (Liao et al. 2016)

Parameters' cotangents are the true ones for the dy that arrives. A rule acts at first order.

>>> import jax.numpy as jnp
>>> from jaxcnn import layers, ops
>>> guide = lambda path, op: guided(op) if op.name == "relu" else op
>>> model = layers.serial(relu=layers.relu()).map_ops(guide)
>>> _, residuals = model.forward({}, {}, jnp.array([[1.0, 1.0, -1.0]]))
>>> model.backward(residuals, jnp.array([[2.0, -2.0, 2.0]]))[1]
Array([[2., 0., 0.]], dtype=float32)
"""

from jaxcnn.rules._activation import deconvolution, guided, straight_through
from jaxcnn.rules._feedback import feedback_alignment, fixed_weights, sign_symmetric

__all__ = [
    "deconvolution",
    "feedback_alignment",
    "fixed_weights",
    "guided",
    "sign_symmetric",
    "straight_through",
]
