"""The checker on the corpus: every wrong rule is rejected for the right reason, every right one accepted, in a process that has x64 off."""

import jax
import numpy as np
import pytest
from corpus import RIGHT, WRONG

from jaxcnn import verify

WITHOUT = [rule for rule in WRONG if rule.needs != "reference"]


def named(rules):
    return [pytest.param(rule, id=rule.name) for rule in rules]


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


@pytest.mark.parametrize("rule", named(WRONG))
def test_wrong_rules_are_rejected(rule):
    for_the_right_reason(rule, verify.check(rule.f, *rule.args, reference=rule.reference), cause=True)


@pytest.mark.parametrize("rule", named(WITHOUT))
def test_wrong_rules_are_rejected_without_a_reference(rule):
    for_the_right_reason(rule, verify.check(rule.f, *rule.args), cause=False)


@pytest.mark.parametrize("rule", named(RIGHT))
def test_right_rules_are_accepted(rule):
    report = verify.check(rule.f, *rule.args, reference=rule.reference)
    assert report.ok, str(report)


@pytest.mark.parametrize("rule", named(r for r in RIGHT if r.needs != "reference"))
def test_right_rules_are_accepted_without_a_reference(rule):
    report = verify.check(rule.f, *rule.args)
    assert report.ok, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("rule", named(RIGHT))
def test_right_rules_are_accepted_in_float64(rule):
    report = verify.check(rule.f, *widened(rule.args), reference=rule.reference)
    assert report.ok, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("rule", named(WRONG))
def test_wrong_rules_are_rejected_in_float64(rule):
    for_the_right_reason(rule, verify.check(rule.f, *widened(rule.args), reference=rule.reference), cause=False)
