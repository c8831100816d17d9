"""What holds for any sequence of ticks: nothing absurd moves the newest value, and repeating changes nothing."""

import math
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from hcp_pipelines.domain.ticks import ACTIONABLE, Stream, Tick
from hcp_pipelines.feed.quality import Memory, Rules, judge, same_value

START = datetime(2025, 1, 1, tzinfo=UTC)
NOW = START + timedelta(hours=2)
VALUES = st.one_of(st.floats(), st.floats(-200, 6000), st.sampled_from([45.0, 45.0, 45_000.0, math.nan]))
TICKS = st.lists(
    st.builds(
        lambda stream, step, value: Tick(stream, "x", START + timedelta(minutes=5 * step), value, "1", "test"),
        st.sampled_from([Stream.POWER_RT_LMP, Stream.BTC_USD]),
        st.integers(0, 20),
        VALUES,
    ),
    max_size=40,
)


@given(TICKS)
def test_the_newest_actionable_instant_never_goes_back_and_only_finite_values_are_acted_on(ticks):
    memory = Memory()
    for tick in ticks:
        before = memory.newest_at(tick.stream, tick.series)
        judged = judge(tick, memory, Rules(), NOW).tick
        after = memory.newest_at(tick.stream, tick.series)
        assert before is None or after >= before
        if judged is not None and judged.quality in ACTIONABLE:
            assert math.isfinite(judged.value)
            assert after == judged.source_at
        else:
            assert after == before


@given(TICKS)
def test_the_same_tick_again_is_a_duplicate(ticks):
    memory = Memory()
    for tick in ticks:
        judge(tick, memory, Rules(), NOW)
        assert judge(tick, memory, Rules(), NOW).is_duplicate


@given(st.floats(), st.floats())
def test_same_value_is_equality_with_nan_equal_to_itself(left, right):
    assert same_value(left, right) == same_value(right, left)
    assert same_value(left, left)
    assert same_value(left, right) == (left == right or (math.isnan(left) and math.isnan(right)))
