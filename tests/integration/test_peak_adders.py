"""Coincident peaks in live policies: what is forecast is kept, and a facility that is charged for peaks decides with it."""

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.orchestration.forecasting import PEAKS, upcoming_chances
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.policy.schema import Policy
from hcp_pipelines.storage import peak_chances
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.integration.test_dagster_tick_job import AT, dg, fleet, power, run_tick_job, store
from tests.support.mixed import hourly_grid, write_grid

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from assets.forecasts import core_power__coincident_peak_probability

__all__ = ["fleet"]
HOUR = timedelta(hours=1)
FIRST, DAY = datetime(2023, 4, 1, 5, tzinfo=UTC), datetime(2024, 6, 10, tzinfo=UTC)
NOW = AT + HOUR / 2  # of the fleet's clock


@dataclass(frozen=True)
class Charged:
    facility_id: str
    usd_per_mwh_at_one: float


@pytest.fixture
def charged(fleet):
    """One facility pays 65 $/kW and year on its load in four peaks, the others nothing."""
    document = demo_facilities(3, 120)[0]
    contract = document.contract.model_copy(update={"peak_usd_per_kw_year": 65.0})
    with connect(fleet, Role.ADMIN) as connection:
        apply(connection, document.model_copy(update={"contract": contract}), "test")
    return Charged(document.facility_id, 16_250.0)


def keep(settings, known_at, **chances):
    """Chances by hours after noon, as `h1=0.02`."""
    hours = {AT + int(name[1:]) * HOUR: chance for name, chance in chances.items()}
    with connect(settings, Role.CONTROL) as connection:
        peak_chances.keep(connection, hours, known_at)


def published(settings):
    with connect(settings, Role.OPERATOR) as connection:
        rows = connection.execute("select body::text from policies where status = 'live' order by id").fetchall()
    return {policy.facility_id: policy for policy in (Policy.model_validate_json(body) for (body,) in rows)}


def test_a_policy_has_the_chance_of_each_hour_of_its_life_times_the_charge_where_peaks_are_charged_for(fleet, charged):
    keep(fleet, NOW - 2 * HOUR, h0=0.5, h1=0.02, h2=0.0, h3=0.001, h9=0.9)
    keep(fleet, NOW - HOUR, h0=0.01)
    keep(fleet, NOW - 3 * HOUR, h1=0.7)  # an older word that comes in late
    keep(fleet, NOW + HOUR, h4=0.5)  # nobody knows that yet
    tick = max(store(fleet, *power(0, 40.0)))
    with dg.DagsterInstance.ephemeral() as instance:
        assert run_tick_job(fleet, instance, **{"hcp/tick_id": str(tick)}).success
    policies = published(fleet)
    found = [
        ((a.start - AT) / HOUR, (a.end - a.start) / HOUR, a.usd_per_mwh) for a in policies[charged.facility_id].adders
    ]
    each = charged.usd_per_mwh_at_one
    assert found == [
        (0, 1, pytest.approx(0.01 * each)),
        (1, 1, pytest.approx(0.02 * each)),
        (3, 1, pytest.approx(0.001 * each)),
    ]
    assert [p.adders for name, p in policies.items() if name != charged.facility_id] == [(), ()]
    asked = policies[charged.facility_id].anchor.target_by_state
    assert all("mining" not in state for states in asked.values() for state in states), "at 40 + 162.50 $/MWh"
    others = (p.anchor.target_by_state for name, p in policies.items() if name != charged.facility_id)
    assert all(any("mining" in state for states in each.values() for state in states) for each in others)


def test_the_newest_word_on_the_running_hour_and_those_to_come_is_kept():
    table = pl.DataFrame(
        {
            "start_at": [AT - HOUR, AT, AT + HOUR, AT + 2 * HOUR], "is_charged": True,
            "probability_day_ahead": [0.1, 0.2, 0.3, None], "probability": [0.4, 0.5, None, None],
        }
    ).with_columns(trained_until=pl.lit(AT), is_charged=pl.lit(value=True)).cast({"start_at": PEAKS["start_at"]})  # fmt: skip
    assert upcoming_chances(table, NOW) == {AT: 0.5, AT + HOUR: 0.3}


def test_the_asset_keeps_what_a_solve_reads(fleet, monkeypatch, tmp_path):
    """Fifteen months of demand in a replayed folder; it is half past nine on a day of June."""
    monkeypatch.setenv("HCP_WORLD", f"replay:{write_grid(tmp_path, hourly_grid(24 * 460, FIRST))}")
    fleet.at("run", "clock.json").write_text(Anchor(SystemClock().real_now(), DAY + 9.5 * HOUR, 1.0).dump())
    context = dg.build_asset_context(partition_key=f"{DAY:%Y-%m-%d}")
    table = core_power__coincident_peak_probability(context, platform=Platform(state_dir=str(fleet.state_dir)))
    with connect(fleet, Role.CONTROL) as connection:
        kept = peak_chances.chances(connection, DAY + 9.6 * HOUR, DAY + 25 * HOUR)
    chances = zip(table["start_at"], table["probability"], table["probability_day_ahead"], strict=True)
    upcoming = [(at, begun if begun is not None else ahead) for at, begun, ahead in chances][9:]
    assert kept == [(at, chance) for at, chance in upcoming if chance > 0]
    assert len(kept) > 2
