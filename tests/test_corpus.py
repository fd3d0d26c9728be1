"""The checker on the corpus: every wrong rule is rejected for the right reason, every right one
accepted, in a process that has x64 off."""

import jax
import numpy as np
import pytest
from corpus import RIGHT, WRONG

from jaxcnn import verify

pytestmark = pytest.mark.usefixtures("promoting")


def cases(rules, *, every, double=False):
    """Each rule with its reference and without: the ordinary run takes every forty-eighth of the
    two, the slow tier all."""
    found = []
    for rule in (r for r in rules if not (double and r.single)):
        for way, with_reference in (("with", True), ("without", False)):
            if with_reference or rule.needs != "reference":
                marks = [] if every or len(found) % 48 == 1 else [pytest.mark.slow]
                against = rule.reference if with_reference else None
                found.append(
                    pytest.param(rule, against, id=f"{rule.name}, {way} reference", marks=marks)
                )
    return found


def widened(args):
    """The arguments as NumPy float64, as a user hands them over."""

    def widen(leaf):
        if not hasattr(leaf, "dtype") or not jax.numpy.issubdtype(leaf.dtype, jax.numpy.inexact):
            return leaf
        return np.asarray(leaf).astype(np.result_type(leaf.dtype, np.float64))

    return jax.tree.map(widen, args)


def for_the_right_reason(rule, report, *, cause):
    assert not report.ok, str(report)
    first = report.failures[0]
    assert first.check in rule.check, report.reason
    if cause:
        assert rule.cause.lower() in f"{first.cause} {first.message}".lower(), report.reason


def test_it_is_as_large_as_it_should_be():
    assert len(WRONG) >= 40
    assert len(RIGHT) >= 40


@pytest.mark.parametrize(("rule", "reference"), cases(WRONG, every=False))
def test_wrong_rules_are_rejected(rule, reference):
    for_the_right_reason(
        rule, verify.check(rule.f, *rule.args, reference=reference), cause=reference is not None
    )


@pytest.mark.parametrize(("rule", "reference"), cases(RIGHT, every=False))
def test_right_rules_are_accepted(rule, reference):
    report = verify.check(rule.f, *rule.args, reference=reference)
    assert report.ok, str(report)


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "reference"), cases(RIGHT, every=True, double=True))
def test_right_rules_are_accepted_in_float64(rule, reference):
    report = verify.check(rule.f, *widened(rule.args), reference=reference)
    assert report.ok, str(report)


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "reference"), cases(WRONG, every=True, double=True))
def test_wrong_rules_are_rejected_in_float64(rule, reference):
    for_the_right_reason(
        rule, verify.check(rule.f, *widened(rule.args), reference=reference), cause=False
    )
