"""The gradient checker: it knows no op by name, and may differentiate, since it is the judge."""

from typing import TYPE_CHECKING

from jaxcnn._core.lazy import on_demand

if TYPE_CHECKING:
    from jaxcnn.verify._check import check
    from jaxcnn.verify._fuzz.search import Fuzzed, fuzz
    from jaxcnn.verify._judge import CHECKS, prove
    from jaxcnn.verify._report import Failure, Mismatch, Report, Verdict

__all__ = ["CHECKS", "Failure", "Fuzzed", "Mismatch", "Report", "Verdict"]
__all__ += ["check", "fuzz", "prove"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = on_demand(
        __name__,
        __all__,
        {
            "_check": ["check"],
            "_fuzz.search": ["Fuzzed", "fuzz"],
            "_judge": ["CHECKS", "prove"],
            "_report": ["Failure", "Mismatch", "Report", "Verdict"],
        },
    )
