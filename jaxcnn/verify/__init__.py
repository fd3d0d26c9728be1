"""The gradient checker: it knows no op by name, and may differentiate, since it is the judge."""

from typing import TYPE_CHECKING

from jaxcnn.lazy import on_demand

if TYPE_CHECKING:
    from jaxcnn.verify.checking import CHECKS, check, prove
    from jaxcnn.verify.report import Failure, Mismatch, Report, Verdict
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            **dict.fromkeys(("CHECKS", "check", "prove"), "jaxcnn.verify.checking"),
            **dict.fromkeys(("Failure", "Mismatch", "Report", "Verdict"), "jaxcnn.verify.report"),
        },
    )

__all__ = ["CHECKS", "Failure", "Mismatch", "Report", "Verdict", "check", "prove"]
