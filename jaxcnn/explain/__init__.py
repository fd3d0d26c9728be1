"""What a network sees: everything here is made of forwards, hand-written backwards and δ; nothing
is differentiated automatically.

    class_gradient        how the score of a class moves with each pixel; with other rules guided,
                          deconvolution
    grad_cam              where in a layer the evidence for a class is (Selvaraju et al. 2017)
    occlusion             how the score falls where a patch is covered (Zeiler and Fergus 2013)
    maximise              an image that excites a channel, by climbing its gradient (Erhan et al.
                          2009)
    top_patches, seen_by  the patches of real images that excite a channel most; the cells that a
                          unit reads
    Graph                 a small expression, node by node, with values and gradients
"""

from jaxcnn.explain._evidence import class_gradient, grad_cam, occlusion
from jaxcnn.explain._graph import Graph
from jaxcnn.explain._units import maximise, seen_by, top_patches, until

__all__ = [
    "Graph",
    "class_gradient",
    "grad_cam",
    "maximise",
    "occlusion",
    "seen_by",
    "top_patches",
    "until",
]
