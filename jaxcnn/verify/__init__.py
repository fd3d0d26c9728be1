"""The gradient checker: it knows no op by name, and may differentiate, since it is the judge."""

from jaxcnn.verify.check import check
from jaxcnn.verify.report import Failure, Report
from jaxcnn.verify.subject import Subject

__all__ = ["Failure", "Report", "Subject", "check"]
