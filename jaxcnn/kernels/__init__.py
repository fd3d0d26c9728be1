"""Fast algorithms that an op may dispatch to, by platform and shape. README.md beside this file has
what was measured.

>>> from jaxcnn import kernels
>>> list(kernels.IMPLEMENTATIONS), kernels.IMPLEMENTATIONS["im2col"].takes
(['xla', 'im2col', 'winograd', 'depthwise'], 'one group')
"""

from jaxcnn.kernels._choice import IMPLEMENTATIONS
from jaxcnn.kernels._implementation import Implementation

__all__ = ["IMPLEMENTATIONS", "Implementation"]
