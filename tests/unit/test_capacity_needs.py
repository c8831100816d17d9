"""What a forecast of use recommends: of installed devices, with a buffer; and what daily use was."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.capacity.fleet_days import LEAST_HOURS, TABLE, by_group, by_type
from hcp_pipelines.forecasting.capacity.needs import forecast_capacity_needs
from hcp_pipelines.forecasting.capacity.targets import CAPACITY, TARGETS, UTILIZATION
from hcp_pipelines.forecasting.learnable.framing import Framing
from hcp_pipelines.forecasting.learnable.lessons import Learning
from hcp_pipelines.forecasting.learnable.models import Forest
from tests.support.fleet_hours import GROUPS, START, fleet_hours

DAYS = 60
END = START + timedelta(days=DAYS)


def test_daily_use_is_of_a_facility_s_devices_of_a_type():
    hours = fleet_hours(3)
    days = by_type(hours)
    one = days.in_use[days.entities.index("hou-1/GPU"), 1]
    day = hours.filter(
        pl.col("facility_id") == "hou-1", pl.col("type") == "GPU", pl.col("start_at").dt.date() == date(2024, 7, 2)
    )
    assert one == pytest.approx(day["in_use_h"].sum() / day["installed"].sum())
    assert days.in_use.shape == (4, 3)


def growing(hours):
    """The same hours, with a use that grows by half a point a day beyond anything that was there before."""
    day = (pl.col("start_at") - START).dt.total_days()
    return hours.with_columns(in_use_h=(0.3 + 0.005 * day) * pl.col("installed"))


def test_a_forest_follows_growth_since_it_learns_distances():
    hours = growing(fleet_hours(DAYS))
    examples = UTILIZATION.examples({TABLE: hours}, (START, END + timedelta(days=1)))
    own = examples.only(examples.asked_us < int((END - timedelta(days=10)).timestamp() * 1e6))
    asked = examples.only(examples.asked_us == int(END.timestamp() * 1e6))
    learning = Learning(least_days=14, held_days=7)
    shipped = next(model for model in UTILIZATION.models if model.name == "random_forest")
    assert (shipped.trees, shipped.framing.anchor) == (100, "use_level")
    told = {}
    for name, framing in (("level", shipped.framing), ("itself", Framing("", lowest=0.0, highest=1.0))):
        fitted = Forest(framing, learning, trees=20).fit(own, END - timedelta(days=1))
        rows = forecast_capacity_needs(fitted, asked).filter(facility_id="hou-1", type="GPU").sort("date")
        told[name] = rows["predicted_utilization"].to_numpy()
        assert rows["date"].to_list() == [(END + timedelta(days=n)).date() for n in range(30)]
        share = np.ceil(np.round(told[name] * 1.2 * 32, 6))
        assert rows["recommended_capacity"].to_list() == share.tolist()
    came = 0.3 + 0.005 * (DAYS + np.arange(30))
    assert np.abs(told["level"] - came)[:14].max() < 0.06
    assert told["itself"].max() < 0.3 + 0.005 * DAYS  # it knows nothing beyond what it has seen


def test_a_day_of_few_hours_is_not_known_and_an_entity_is_named():
    hours = fleet_hours(2)
    few = hours.filter(pl.col("start_at") < START + timedelta(days=1, hours=LEAST_HOURS - 1))
    assert by_group(few).days == 1
    with pytest.raises(ConfigError, match=f"no day with {LEAST_HOURS} hours yet"):
        by_group(hours.filter(pl.col("start_at") < START + timedelta(hours=LEAST_HOURS - 1)))
    window = (START, START + timedelta(days=3))
    for target in TARGETS:
        with pytest.raises(ConfigError, match="nowhere: there are hou-1/"):
            target.examples({TABLE: hours}, window, ["nowhere"])
        with pytest.raises(ConfigError, match="none is before a midnight from 2020"):
            target.examples({TABLE: hours}, (START.replace(year=2020), START.replace(year=2021)))
        with pytest.raises(ConfigError, match="lacks failures"):
            target.examples({TABLE: hours.drop("failures")}, window)
    name = "/".join(GROUPS[1][:2])
    found = CAPACITY.examples({TABLE: hours}, window, [name])
    assert {found.entities[n] for n in found.entity} == {name}


def test_an_inventory_that_changed_is_measured_by_what_was_known():
    hours = fleet_hours(10)
    later = START + timedelta(days=5)
    hours = hours.with_columns(
        installed=pl.when(pl.col("start_at") >= later).then(pl.col("installed") * 2).otherwise("installed")
    )
    found = CAPACITY.examples(
        {TABLE: hours.cast({"installed": pl.Int32})}, (START, START + timedelta(days=10)), ["hou-1/h100"]
    )
    before, after = (found.only(found.asked_us == int((later + timedelta(days=n)).timestamp() * 1e6)) for n in (0, 1))
    assert set(before.scale) == {32 * 24.0}
    assert set(after.scale) == {64 * 24.0}
