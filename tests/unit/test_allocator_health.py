"""Hold, fallback plan and recovery, by the instants of the data (DESIGN §7.4)."""

from datetime import UTC, datetime

import pytest

from hcp_pipelines.allocator.health import InputAges, InputHealth, Phase
from hcp_pipelines.allocator.market import MarketBook, TickRow
from hcp_pipelines.domain.modes import ReasonCode

HOLD_S = 1800.0


def ages(stale_at=1000.0, expires_at=1e9, seen=5):
    return InputAges(stale_at, expires_at, seen)


def test_fresh_inputs_are_normal_from_the_start():
    step = InputHealth().assess(999.0, ages(), HOLD_S)
    assert (step.phase, step.has_changed) == (Phase.NORMAL, False)


def test_a_stale_price_holds_then_falls_back_then_recovers_after_two_good_values():
    health = InputHealth()
    step = health.assess(1000.0, ages(), HOLD_S)
    assert (step.phase, step.reason, step.has_changed) == (Phase.HOLD, ReasonCode.HOLD_STALE_PRICE, True)
    assert not health.assess(1500.0, ages(), HOLD_S).has_changed
    step = health.assess(2800.0, ages(), HOLD_S)
    assert (step.phase, step.reason) == (Phase.FALLBACK, ReasonCode.FALLBACK_PLAN)
    step = health.assess(2900.0, ages(stale_at=3800.0, seen=6), HOLD_S)
    assert step.phase is Phase.FALLBACK, "one good value is not enough"
    step = health.assess(3200.0, ages(stale_at=4100.0, seen=7), HOLD_S)
    assert (step.phase, step.reason, step.has_changed) == (Phase.NORMAL, ReasonCode.RECOVERY, True)
    assert health.assess(3300.0, ages(stale_at=4100.0, seen=7), HOLD_S).reason is ReasonCode.ECONOMICS


def test_an_expired_policy_holds_and_the_next_one_ends_that_at_once():
    health = InputHealth()
    step = health.assess(500.0, ages(expires_at=400.0), HOLD_S)
    assert (step.phase, step.reason) == (Phase.HOLD, ReasonCode.POLICY_EXPIRED)
    step = health.assess(510.0, ages(expires_at=22_000.0), HOLD_S)
    assert (step.phase, step.reason) == (Phase.NORMAL, ReasonCode.RECOVERY)


def test_a_successor_that_starts_late_agrees_on_the_phase():
    assert InputHealth().assess(2800.0, ages(), HOLD_S).phase is Phase.FALLBACK


@pytest.mark.parametrize("has_looked_before", [False, True])
def test_who_did_not_look_while_prices_were_stale_waits_for_the_second_value_too(has_looked_before):
    health = InputHealth()
    if has_looked_before:
        assert health.assess(10.0, ages(seen=4), HOLD_S).phase is Phase.NORMAL
    first = InputAges(1900.0, 1e9, 5, stale_before_s=900.0)
    assert health.assess(1000.0, first, HOLD_S).phase is Phase.HOLD
    step = health.assess(1300.0, InputAges(2200.0, 1e9, 6), HOLD_S)
    assert (step.phase, step.reason) == (Phase.NORMAL, ReasonCode.RECOVERY)


def test_a_hold_lasts_no_longer_for_single_values_between():
    health = InputHealth()
    assert health.assess(1000.0, ages(), HOLD_S).phase is Phase.HOLD
    single = InputAges(2400.0, 1e9, 6, stale_before_s=1000.0)
    assert health.assess(1500.0, single, HOLD_S).phase is Phase.HOLD
    assert health.assess(2500.0, single, HOLD_S).phase is Phase.HOLD, "stale again"
    assert health.assess(2800.0, single, HOLD_S).phase is Phase.FALLBACK
    assert InputHealth().assess(2800.0, single, HOLD_S).phase is Phase.FALLBACK, "a successor agrees"
    assert InputHealth().assess(2300.0, single, HOLD_S).phase is Phase.HOLD


def test_a_hold_that_has_ended_does_not_count_for_the_next():
    health = InputHealth()
    health.assess(1000.0, ages(), HOLD_S)
    assert health.assess(1600.0, ages(stale_at=2500.0, seen=7), HOLD_S).phase is Phase.NORMAL
    assert health.assess(2900.0, ages(stale_at=2500.0, seen=7), HOLD_S).phase is Phase.HOLD


@pytest.mark.parametrize(
    ("minutes", "since"),
    [([0, 5, 10], None), ([0, 5, 40], 20), ([0, 5, 40, 80], 20), ([0, 5, 40, 45], None), ([0], None)],
)
def test_since_when_values_came_too_seldom(minutes, since):
    book = MarketBook()
    at = [datetime(2025, 7, 1, 12, minute % 60, tzinfo=UTC).replace(hour=12 + minute // 60) for minute in minutes]
    book.take([TickRow(n, "power.rt_lmp", "HB_WEST", instant, 30.0, "good") for n, instant in enumerate(at)])
    expected = float("inf") if since is None else at[0].timestamp() + since * 60
    assert book.stale_before_s("HB_WEST", 900.0) == expected
