"""A mixed facility for tests: made-up days with hourly figures, and a model that notices all that it is shown."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from hcp_pipelines.forecasting.horizon_features import PowerSeries
from hcp_pipelines.forecasting.hours import HOUR_US, hours_of, microseconds
from hcp_pipelines.optimizer.ai_work import DailyJob, InferenceClass, SyntheticWork
from hcp_pipelines.optimizer.backtest.case import Known
from hcp_pipelines.optimizer.backtest.mixed.response.terms import Terms
from hcp_pipelines.optimizer.backtest.mixed.run import with_programme
from hcp_pipelines.optimizer.backtest.mixed.site import MinerGroup, MixedSite
from hcp_pipelines.optimizer.backtest.mixed.world import World
from hcp_pipelines.optimizer.backtest.strategies import AlwaysOn, BreakEven, Hysteresis
from tests.support.recorded import plain_case, random_prices

START = datetime(2024, 3, 1, 6, tzinfo=UTC)  # midnight in Texas
SITE = MixedSite(
    (MinerGroup("one", 30.0, 15.0), MinerGroup("two", 20.0, 29.5)),
    SyntheticWork(
        (InferenceClass(1000.0, 4.0), InferenceClass(100.0, 2.0)),
        (DailyJob("long", 0, 12.0, 3.0, 900.0), DailyJob("short", 8, 9.0, 3.0, 900.0)),
    ),
)


def hourly_grid(hours, start=START, seed=0):
    """Hours of demand with a daily rhythm, its forecast, capacity prices and a temperature."""
    random = np.random.default_rng(seed)
    n = np.arange(hours)
    load = 50_000 + 10_000 * np.sin((n - 8) / 24 * 2 * np.pi) + random.normal(0, 1500, hours)
    forecast = load * (1 + random.normal(0, 0.02, hours))
    starts = microseconds(start) + n.astype(np.int64) * HOUR_US
    temperature = 25 + 8 * np.sin((n - 8) / 24 * 2 * np.pi)
    return hours_of(starts, random.exponential(6.0, (3, hours)), load, forecast, temperature)


def wandering_hours(days, start):
    """Days from a local midnight on whose level wanders, highest at 13 or 14 h, and forecasts that miss it."""
    random, grid = np.random.default_rng(7), hourly_grid(24 * days, start)
    level = np.zeros(days)
    for day in range(1, days):
        level[day] = 0.7 * level[day - 1] + random.normal(0, 0.03)
    shape = 50_000 + 10_000 * np.sin((np.arange(len(grid)) - 7.5) / 24 * 2 * np.pi)
    load = shape * np.repeat(1 + level, 24) * (1 + random.normal(0, 0.001, len(grid)))
    missed = np.repeat(random.normal(0, 0.015, days), 24) + random.normal(0, 0.002, len(grid))
    return replace(grid, load_mw=load, forecast_mw=load * (1 + missed))


def write_grid(folder, hours):
    """Demand, its forecast and the temperature of some hours, as a recorded folder has them."""
    starts = pl.Series(hours.starts_us).cast(pl.Datetime("us", "UTC"))
    columns = {
        "ercot_load_mw": hours.load_mw, "da_demand_forecast_mw": hours.forecast_mw, "temperature_c": hours.temperature_c,
    }  # fmt: skip
    for name, values in columns.items():
        pl.DataFrame({"interval_start_utc": starts, name: values}).write_parquet(folder / f"{name}.parquet")
    return folder


def power_series(hours, start=START, seed=0):
    """Prices that follow demand, with spikes, day-ahead prices that see half of it, and wind."""
    random, grid = np.random.default_rng(seed), hourly_grid(hours, start, seed)
    usual = 20 + (grid.load_mw - 45_000) / 800
    real_time = usual * random.uniform(0.7, 1.3, hours) + np.where(random.random(hours) < 0.02, 200.0, 0.0)
    return PowerSeries(
        "HB_TEST", grid, real_time, real_time * random.uniform(0.8, 1.2, hours), usual, random.uniform(2e3, 2e4, hours)
    )


def bound(site=SITE, limit_mw=45.0, **feeders):
    """A site with a limit, and feeders of one group each."""
    groups = tuple(replace(group, feeder=group.name) for group in site.groups)
    return replace(site, groups=groups, limit_mw=limit_mw, feeder_limits_mw=feeders)


def world(days=10, seed=0, revenues=(70.0, 45.0), model=Known.AT_START, charges=()):
    """A world of made-up prices; `charges` are hours with a peak's charge."""
    random, hours = np.random.default_rng(seed), 24 * days
    prices = random_prices(hours * 4, seed)
    seen = prices if model is Known.AT_START else np.r_[np.nan, prices[:-1]]
    cases = tuple(plain_case(prices, revenue, 12.0 + revenue / 6, seen, model) for revenue in revenues)
    charge = np.zeros(hours)
    charge[list(charges)] = SITE.peaks.usd_per_mw
    strikes = {
        each.name: tuple(each.strikes(case) for case in cases) for each in (AlwaysOn(), BreakEven(), Hysteresis())
    }
    strikes["mpc"] = strikes["hysteresis"]
    n = np.arange(hours)
    forgone = random.exponential(5.0, (2, len(cases), hours))
    return World(
        SITE, cases, strikes, 4, random.exponential(6.0, hours), n % 24, n // 24, np.where(charge > 0, 0.3, 0.0),
        np.where(charge > 0, 0.2, 0.0), charge > 0, charge, forgone + 0.2 * charge, forgone,
    )  # fmt: skip


def terms(**more):
    """A programme of January afternoons: 20 MW, told two hours before, for up to three hours."""
    return Terms.model_validate(
        {
            "version": 1, "mw": 20.0, "months": [1], "from_hour": 13, "to_hour": 21, "notice_minutes": 120,
            "response_minutes": 45, "longest_hours": 3, "recovery_hours": 12, "most_calls_a_season": 6,
            "capacity_usd_per_mw_month": 3000.0, "energy_usd_per_mwh": 40.0, "penalty_usd_per_mwh": 500.0,
            "calls": {"chosen": "list", "starts": []},
        }
        | more
    )  # fmt: skip


def responding(here, asked):
    """A world whose second group, all of it, is in a programme."""
    enrolled = replace(here.site.groups[1], is_enrolled=True)
    return with_programme(replace(here, site=replace(here.site, groups=(here.site.groups[0], enrolled))), asked)


def called(*hours, days=10, seed=0, charges=(), **more):
    """Such a world, called at these hours of it, at day-ahead prices of $30."""
    here = world(days=days, seed=seed, charges=charges)
    here = replace(here, cases=tuple(replace(case, day_ahead=np.full(len(here), 30.0)) for case in here.cases))
    starts = [datetime.fromtimestamp(here.cases[0].starts_us[0] / 1e6, UTC) + timedelta(hours=h) for h in hours]
    return responding(here, terms(calls={"chosen": "list", "starts": starts}, **more))
