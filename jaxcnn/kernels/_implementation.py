"""What an implementation of convolution is: a name, what it takes, where it pays, and its three
products, each linear in both of its sides."""

import dataclasses
from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import jax

from jaxcnn._core.window import Window

Name = Literal["xla", "im2col", "winograd", "depthwise"]
Kind = Literal["correlate", "input_gradient", "weight_gradient"]


@runtime_checkable
class Product(Protocol):
    """(x, w) → y, (dy, w) → dx or (x, dy) → dw."""

    def __call__(
        self, left: jax.Array, right: jax.Array, /, *, window: Window, groups: int
    ) -> jax.Array: ...


@dataclasses.dataclass(frozen=True)
class Implementation:
    """One way to convolve.

    Attributes:
        name: what ``ops.conv(…, implementation=name)`` calls it.
        takes: what it can compute, in words.
        can: ``(window, inputs, groups) -> `` whether it can.
        suits: ``(kind, images, window, inputs, outputs, groups) -> `` whether it can, and is faster
            on a CPU than what stands behind it in the registry; ``kind`` names the product.
        correlate, input_gradient, weight_gradient: y, dx and dw.
    """

    name: Name
    takes: str
    can: Callable[[Window, int, int], bool]
    suits: Callable[[Kind, jax.Array, Window, int, int, int], bool]
    correlate: Product
    input_gradient: Product
    weight_gradient: Product

    def product(self, kind: Kind) -> Product:
        """The product of that name."""
        return getattr(self, kind)
