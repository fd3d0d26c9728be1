"""The pytest fixture ``gradcheck``: a test that proves a gradient, or fails with the report.

pytest loads this module wherever jaxcnn is installed, so it loads nothing itself: whoever does not
ask for the fixture pays nothing for it.

    def test_swish(gradcheck):
        gradcheck(swish, jnp.linspace(-3.0, 3.0, 7), reference=lambda x: x * jax.nn.sigmoid(x))
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from jaxcnn.verify._report import Report


@pytest.fixture
def gradcheck() -> Callable[..., "Report"]:
    """``gradcheck(f, *args, reference=None, **settings)`` is ``jaxcnn.verify.check``, and fails the
    test unless all checks hold; returns the report."""

    def prove(
        f: Callable[..., Any],
        *args: Any,
        reference: Callable[..., Any] | None = None,
        **settings: Any,
    ) -> "Report":
        __tracebackhide__ = True
        from jaxcnn.verify._check import check

        report = check(f, *args, reference=reference, **settings)
        if not report:
            pytest.fail(str(report))
        return report

    return prove
