"""What the generator makes, read by the platform's own specification: sound work is taken, malformed refused, rules classify."""

from functools import cache
from itertools import islice

import pytest
from pydantic import ValidationError

from hcp_pipelines.workloads.spec import WorkloadSpec, classify_by_rules
from simulators.workloads import assumed, fitted
from simulators.workloads.generator import Plan, submissions

START_S = 1_748_736_000.0


@cache
def stream():
    plan = Plan(11, 5.0, START_S, START_S + 1e6, is_flat=True, malformed=0.05, impossible=0.05, ambiguous=0.1)
    return list(islice(submissions(plan, assumed.load(), fitted.load()), 6000))


def test_what_is_well_formed_is_read_without_loss():
    well_formed = [each for each in stream() if not str(each.label["defect"]).startswith("malformed")]
    assert len(well_formed) > 5000
    for each in well_formed:
        spec = WorkloadSpec.model_validate(each.spec)
        told = spec.model_dump(mode="json", exclude_unset=True)
        assert told.keys() == each.spec.keys()
        assert told["labels"] == each.spec["labels"]


def test_what_is_malformed_is_refused():
    malformed = [each for each in stream() if str(each.label["defect"]).startswith("malformed")]
    assert len({each.label["defect"] for each in malformed}) > 8
    for each in malformed:
        with pytest.raises(ValidationError):
            WorkloadSpec.model_validate(each.spec)


def accuracy(of):
    right = [
        classify_by_rules(WorkloadSpec.model_validate(each.spec)).type == each.label["workload_type"] for each in of
    ]
    return sum(right) / len(right)


def test_rules_tell_plain_requests_and_are_fooled_by_ambiguous_ones():
    sound = [each for each in stream() if each.label["defect"] is None]
    plain = [each for each in sound if each.label["ambiguity"] is None]
    ambiguous = [each for each in sound if each.label["ambiguity"] is not None]
    assert accuracy(plain) > 0.99  # but for those that state a wrong class
    assert 0.2 < accuracy(ambiguous) < 0.8
