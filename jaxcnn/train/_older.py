"""Functions that take a :class:`jaxcnn.train.Recipe` may be given its parts instead, as they were
before there was one; for one release.

>>> from jaxcnn import models
>>> @or_its_parts("model", "prepare")
... def show(recipe, *, times=1):
...     print(type(recipe.model).__name__, recipe.prepare, times)
>>> show(Recipe(models.mlp((2,))), times=2)
Serial None 2
>>> show(models.mlp((2,)), abs, times=2)
Serial <built-in function abs> 2
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from jaxcnn.train._recipe import Recipe

F = TypeVar("F", bound=Callable[..., Any])
FIELDS = tuple(field.name for field in dataclasses.fields(Recipe))


def or_its_parts(*order: str) -> Callable[[F], F]:
    """The function also takes ``order`` by position, and what is a recipe's by name. Its signature
    stays that of the recipe alone."""
    first = order.index("model")

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def either(*args: Any, **named: Any) -> Any:
            if "recipe" in named or isinstance(args[first] if len(args) > first else None, Recipe):
                return function(*args, **named)
            if len(args) > len(order):
                return function(*args, **named)  # whose error says how many it takes
            given = dict(zip(order[first:], args[first:], strict=False)) | named
            own = {name: given.pop(name) for name in FIELDS if name in given}
            if isinstance(own.get("average"), bool):  # whether there is one: `create` asked no more
                own["average"] = 0.0 if own["average"] else None
            if own.get("measures", ...) is None:
                del own["measures"]
            return function(*args[:first], recipe=Recipe(**own), **given)

        return cast(F, either)

    return decorate
