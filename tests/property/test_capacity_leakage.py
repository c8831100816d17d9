"""Targets over the fleet look not ahead: what was not known when a question was asked is shuffled, blanked or taken away."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.forecasting.capacity.fleet_days import TABLE
from hcp_pipelines.forecasting.capacity.targets import TARGETS
from hcp_pipelines.forecasting.hours import instant, microseconds
from tests.support.fleet_hours import START, fleet_hours

DAYS, DRAWS = 45, 3
VALUES = ("available_h", "in_use_h", "failures", "hottest_celsius", "outdoor_celsius", "price_usd_per_mwh", "installed")


def changed(hours, until, how, random):
    """The table with everything that became known after an instant changed."""
    known, later = hours.filter(pl.col("known_at") <= until), hours.filter(pl.col("known_at") > until)
    if how == "gone":
        return known
    if how == "blank":
        new = later.with_columns(pl.lit(None).cast(hours.schema[name]).alias(name) for name in VALUES)
    else:
        order = random.permutation(len(later))
        new = later.with_columns(later[name].gather(order) * 3 + 1 for name in VALUES)
    whole = pl.concat([known, new.select(hours.columns)])
    is_later = pl.col("outdoor_known_at") > until  # weather is told apart from the hour that it was of
    moved = pl.lit(None, pl.Float64) if how != "shuffle" else pl.col("outdoor_celsius") * 3 + 1
    return whole.with_columns(outdoor_celsius=pl.when(is_later).then(moved).otherwise("outdoor_celsius"))


@pytest.mark.parametrize("how", ["shuffle", "blank", "gone"])
@pytest.mark.parametrize("target", TARGETS, ids=lambda each: each.name)
def test_what_was_not_known_changes_nothing(target, how):
    random = np.random.default_rng(3)
    for n in range(DRAWS):
        hours = fleet_hours(DAYS, seed=n)
        late = pl.lit(timedelta(hours=int(random.integers(0, 40))))  # some days are known later than they are over
        hours = hours.with_columns(
            known_at=pl.col("known_at")
            + pl.when(pl.col("start_at").dt.day() % 5 == 0).then(late).otherwise(timedelta())
        )
        until = START + timedelta(days=int(random.integers(8, DAYS - 1)))
        window = (START, START + timedelta(days=DAYS))
        one, two = (target.examples({TABLE: each}, window) for each in (hours, changed(hours, until, how, random)))
        asked, other = one.only(one.asked_us <= microseconds(until)), two.only(two.asked_us <= microseconds(until))
        assert len(asked) > 0
        assert (asked.asked_us.tolist(), asked.wanted_us.tolist()) == (
            other.asked_us.tolist(),
            other.wanted_us.tolist(),
        )
        for name in ("features", "naive", "scale", "entity"):
            assert getattr(asked, name).tobytes() == getattr(other, name).tobytes(), name
        learnt, again = one.known_by(until), two.known_by(until)
        for name in ("features", "target", "known_us"):
            assert getattr(learnt, name).tobytes() == getattr(again, name).tobytes(), name


@pytest.mark.parametrize("target", TARGETS, ids=lambda each: each.name)
def test_what_was_known_does_change_something(target):
    hours = fleet_hours(DAYS)
    until = START + timedelta(days=20)
    other = changed(hours, until - timedelta(days=1), "shuffle", np.random.default_rng(1))
    asked = (until, until + timedelta(days=1))
    one, two = (target.examples({TABLE: each}, asked) for each in (hours, other))
    moved = [name for n, name in enumerate(one.names) if one.features[:, n].tobytes() != two.features[:, n].tobytes()]
    assert {"last", "share_last", "failures_last"} <= set(moved)


def test_an_hour_that_comes_after_its_day_is_never_told():
    hours, day = fleet_hours(20), START + timedelta(days=10)
    is_of_day = (pl.col("start_at") >= day) & (pl.col("start_at") < day + timedelta(days=1))
    for late_hours, is_told in ((24, False), (12, True)):
        is_late = is_of_day & (pl.col("start_at").dt.hour() < late_hours)
        known = pl.when(is_late).then(pl.lit(day + timedelta(days=1, hours=1))).otherwise("known_at")
        late = hours.with_columns(known_at=known)
        without = late.filter(pl.col("known_at") <= pl.col("start_at").dt.truncate("1d") + timedelta(days=1))
        for target in TARGETS:
            one, two = (target.examples({TABLE: each}, (START, START + timedelta(days=20))) for each in (late, without))
            assert one.features.tobytes() == two.features.tobytes()
            rows = one.only(one.wanted_us == microseconds(day))
            assert np.isfinite(rows.target).all() == is_told
            if is_told:
                assert {instant(int(us)) for us in rows.known_us} == {day + timedelta(days=1)}
