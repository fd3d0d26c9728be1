"""One call that proves a function's gradient."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.verify import derivatives, transforms
from jaxcnn.verify.report import Failure, Report
from jaxcnn.verify.subject import Subject


def check(
    f: Callable[..., Any], *args: Any, reference: Callable[..., Any] | None = None, seed: int = 0, **settings: Any
) -> Report:
    """Prove the gradient of ``f`` at ``args``, in float64 whatever the process is set to.

    ``f`` is any JAX function of pytrees of arrays, wired with a hand-written rule or not. With a ``reference`` (the same function written plainly) value, gradient and second
    derivatives are compared elementwise with its own; without one, finite differences decide. Either way the backward must be linear in its cotangent, and
    ``jit``, ``vmap``, ``scan`` and ``checkpoint`` must not change the answer. ``settings`` are handed to both as keywords (``stride=2``). Raises ValueError where there is
    nothing to differentiate.

    >>> import jax, jax.numpy as jnp
    >>> from jaxcnn import Op, verify
    >>> wrong = Op("cube", lambda x: (x**3, x), lambda x, dy: (2 * x**2 * dy,))
    >>> report = verify.check(wrong, jnp.array([1.0, 2.0]), reference=lambda x: x * x * x)
    >>> report.ok, sorted({failure.check for failure in report.failures})
    (False, ['finite differences', 'forward over reverse', 'gradient', 'reverse over reverse'])
    >>> print(report.failures[0].where, report.failures[0].message.split("; ")[1])
    args[0] max |difference| / max |expected| = 0.333 > 1e-10
    """
    with jax.enable_x64(True):
        if settings:
            f, reference = functools.partial(f, **settings), reference and functools.partial(reference, **settings)
        subject = Subject(f, jax.tree.map(_as_array, args), reference)
        if not subject.leaves:
            raise ValueError(
                f"check: no argument holds a floating-point array, so there is no gradient to prove; got {args}"
            )
        subject = subject.astype(jnp.float64)
        runs: dict[str, Callable[[], list[Failure]]] = {
            "finite differences": lambda: derivatives.against_differences(subject, seed=seed),
            "linear in dy": lambda: derivatives.linear(subject, seed=seed),
            "jit": lambda: transforms.jit(subject, seed=seed),
            "vmap": lambda: transforms.vmap(subject, seed=seed),
            "scan, checkpoint": lambda: transforms.scan_and_checkpoint(subject, seed=seed),
        }
        if reference is not None:
            runs = {
                "gradient": lambda: derivatives.against_oracle(subject, seed=seed),
                "second order": lambda: derivatives.second_order(subject, seed=seed),
                **runs,
            }
        return Report({name: tuple(run()) for name, run in runs.items()})


def _as_array(leaf: Any) -> Any:
    return jnp.asarray(leaf) if isinstance(leaf, int | float | np.ndarray | np.generic) else leaf
