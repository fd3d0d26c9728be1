"""Shape contracts: jaxtyping's names where it is loaded, arrays with a note where it is not.

The core depends on jax, numpy and optax alone. The test suite imports jaxtyping first and
instruments the package, so that every annotation is checked on every call; a user pays nothing for
them and still reads them."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

from jax import Array

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Integer, Shaped
else:

    class _Unchecked:
        def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
            array, shape = item
            return Annotated[array, shape]

    Bool = Float = Integer = Shaped = _Unchecked

__all__ = ["Array", "Bool", "Float", "Integer", "Shaped"]
