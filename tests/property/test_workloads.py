"""Whatever is asked for, the stream is in order, within its time, sendable, and says the same again."""

import json
from datetime import datetime
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.workloads import assumed, fitted
from simulators.workloads.generator import Plan, submissions
from simulators.workloads.requests import WORKLOAD_TYPES
from simulators.workloads.shapes import Shape

ASSUMED, FITTED = assumed.load(), fitted.load()
SHAPES = ("steady", "step:at=30,times=8", "spike:at=5,for=5,times=30", "ramp:for=600,times=4")
PLANS = st.builds(
    Plan,
    seed=st.integers(0, 2**40),
    rate_per_s=st.floats(0.001, 500.0),
    from_s=st.floats(0.0, 4e9),
    to_s=st.just(0.0),
    customers=st.integers(1, 300),
    mix=st.dictionaries(st.sampled_from(sorted(ASSUMED.families)), st.floats(0.01, 1.0), max_size=3),
    shape=st.sampled_from(SHAPES).map(Shape.parse),
    is_flat=st.booleans(),
    ambiguous=st.floats(0.0, 0.5),
    malformed=st.floats(0.0, 0.25),
    impossible=st.floats(0.0, 0.25),
)


@settings(max_examples=25, deadline=None)
@given(plan=PLANS, lasts_s=st.floats(1.0, 20_000.0))
def test_any_stream_is_in_order_within_its_time_and_can_be_sent(plan, lasts_s):
    plan = Plan(**(vars(plan) | {"to_s": plan.from_s + lasts_s}))
    stream = list(islice(submissions(plan, ASSUMED, FITTED), 300))
    assert stream == list(islice(submissions(plan, ASSUMED, FITTED), 300))
    at = [each.at_s for each in stream]
    assert at == sorted(at)
    assert all(plan.from_s <= each < plan.to_s for each in at)
    assert len({each.idempotency_key for each in stream}) == len(stream)
    for each in stream:
        line = json.loads(json.dumps(each.line(), allow_nan=False))
        assert abs(datetime.fromisoformat(line["submitted_at"]).timestamp() - each.at_s) < 1e-3
        assert each.label["workload_type"] in WORKLOAD_TYPES
        assert each.label["value_usd"] >= 0
        assert each.label["duration_s"] > 0
        assert each.label["defect"] is None or each.label["ambiguity"] is None
