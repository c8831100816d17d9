"""Tables that models of prices and of GPU demand learn from, each row with the instant since which it is known.

Made anew as a whole before a model is learnt: prices of 780 days are some hundred thousand rows a point.
"""

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from hcp_pipelines.domain.workloads import WorkloadType
from hcp_pipelines.forecasting.horizon_features import LONGEST_AHEAD_H
from hcp_pipelines.forecasting.hours import HOUR_US, microseconds
from hcp_pipelines.forecasting.known_prices import grid_rows
from hcp_pipelines.forecasting.learnable.targets.demand import CHANGES, COLUMNS
from hcp_pipelines.forecasting.learnable.targets.price import GRID, PRICES
from hcp_pipelines.orchestration.forecasting import LESSONS, read_prices, recorded_grid
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.settings import Settings

YEAR_BACK = timedelta(days=380)  # before each question: what the price's autoregression learns from as it is asked
BACK = LESSONS + YEAR_BACK  # the first lesson has as much of the past as what is asked where it serves
AHEAD = timedelta(hours=LONGEST_AHEAD_H)
WORK = "raw.workload_events"
DEMAND_SQL = f"""
with work as (
    select type as demand_class, workload_id, any_value(gpu_count)::double as gpus, min(occurred_at) as began_at,
      max(occurred_at) filter (where new_status in ('completed', 'failed', 'cancelled')) as ended_at
    from lake.{WORK} where occurred_at <= ? and gpu_count > 0 and type <> '{WorkloadType.BITCOIN_MINING}'
    group by all)
select demand_class, gpus, began_at, began_at as known_at from work
union all
select demand_class, -gpus, began_at, ended_at from work where ended_at is not null
order by all"""  # noqa: S608 - our constants


def as_known_now(settings: Settings, table: str, since: datetime, now: datetime) -> pl.DataFrame | None:
    """One of these tables with what has come by now, in memory: the lake's is as old as the last training. None of any other."""
    if table == PRICES:
        return known_prices(settings, now, now - since)
    if table == GRID:
        return known_grid(settings, now, now - since)
    return gpu_demand_changes(settings, now) if table == CHANGES else None


def known_prices(settings: Settings, now: datetime, back: timedelta = BACK) -> pl.DataFrame:
    """Rows of `known_prices.PRICES` of the last 780 days, 400 that are learnt from and 380 before, as far as they are known."""
    return read_prices(settings, (now - back, now + AHEAD)).filter(pl.col("known_at") <= now)


def known_grid(settings: Settings, now: datetime, back: timedelta = BACK) -> pl.DataFrame:
    """Rows of `known_prices.GRID_ROWS`: what the replayed folder records of the grid; none where the world is no replay."""
    first, end = (microseconds(at) // HOUR_US * HOUR_US for at in (now - back, now + AHEAD))
    starts = np.arange(first, end, HOUR_US, dtype=np.int64)
    return grid_rows(recorded_grid(settings, starts), starts).filter(pl.col("known_at") <= now)


def gpu_demand_changes(settings: Settings, now: datetime) -> pl.DataFrame:
    """Rows of `demand.COLUMNS`: customers' GPU work as it was submitted and as it ended, by its type."""
    from hcp_pipelines.storage import lake  # duckdb's import starts threads

    if not has_tables(settings, [WORK]):
        return pl.DataFrame(schema=COLUMNS)
    with lake.attach(settings, read_only=True) as connection:
        rows = connection.execute(DEMAND_SQL, [now]).pl()
    return rows.select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())
