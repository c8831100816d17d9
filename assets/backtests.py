"""Back-tests and replays as assets: a run's configuration says what of. `orchestration.backtesting` and `.replaying` do it."""

from typing import Any

import dagster as dg
from pydantic import Field

from assets.daily import plain_schema
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.optimizer.backtest.finished import Finished
from hcp_pipelines.optimizer.backtest.record import BACKTESTS, REPLAYS, SCHEMA, Run, store
from hcp_pipelines.orchestration.backtesting import Asked, instant, markdown, run_backtest, write_page
from hcp_pipelines.orchestration.replaying import AskedReplay, run_replay
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.settings import Settings

GROUP = "backtests"


class BacktestConfig(dg.Config):
    """[start, end) in UTC; a bare date is midnight. `facility` is one of the platform's, and goes before the preset."""

    start: str
    end: str
    preset: str = "asic-1mw"
    facility: str = ""
    point: str = "HB_HUBAVG"
    known: str = "at-start"
    hashprice: str = "previous-day"
    relearn: str = ""  # or month, quarter
    response: dict[str, Any] = Field(
        default_factory=dict
    )  # terms of a demand response programme, as docs/decisions.md has them
    strategies: list[str] = Field(default_factory=list)
    efficiencies_j_per_th: list[float] = Field(default_factory=list)


@dg.asset(
    group_name=GROUP,
    owners=["team:decisions"],
    kinds={"python", "plotly", "ducklake"},
    metadata=plain_schema(SCHEMA),
)
def raw_hcp__backtests(
    context: dg.AssetExecutionContext, config: BacktestConfig, platform: Platform
) -> dg.MaterializeResult[Any]:
    """What strategies would have earned on recorded series, against perfect foresight: one row a strategy."""
    settings = platform.settings()
    run = Run(context.run.run_id, config.facility or config.preset, SystemClock().real_now())
    with platform.connection() as connection:
        done = run_backtest(connection, settings, Asked(**config.model_dump()), run)
    return _materialized(settings, done, run, BACKTESTS)


class ReplayConfig(dg.Config):
    """[start, end) of the platform's own time, UTC; no strategies named: all that can be run."""

    facility: str
    start: str
    end: str
    strategies: list[str] = Field(default_factory=list)


@dg.asset(
    group_name=GROUP,
    owners=["team:decisions"],
    kinds={"python", "plotly", "ducklake"},
    deps=["raw_hcp__price_ticks", "raw_hcp__switch_journal", "core_hcp__policies"],
    metadata=plain_schema(SCHEMA),
)
def raw_hcp__replays(
    context: dg.AssetExecutionContext, config: ReplayConfig, platform: Platform
) -> dg.MaterializeResult[Any]:
    """What strategies would have earned on what the platform recorded, beside what it did earn: one row a strategy."""
    settings = platform.settings()
    run = Run(context.run.run_id, config.facility, SystemClock().real_now())
    window = instant("start", config.start), instant("end", config.end)
    with platform.connection() as connection:
        done = run_replay(connection, settings, AskedReplay(config.facility, *window, config.strategies), run)
    return _materialized(settings, done, run, REPLAYS)


def _materialized(settings: Settings, done: Finished, run: Run, table: str) -> dg.MaterializeResult[Any]:
    """Rows into the lake, the page into a file; both are said in the materialization."""
    page = write_page(settings.at("reports", table.removeprefix("raw.")), run.run_id, done.html())
    rows = store(settings, done.results, table)
    return dg.MaterializeResult(
        metadata={
            "results": dg.MetadataValue.md(markdown(done.columns, done.rows, [done.title, *done.lines])),
            "page": dg.MetadataValue.path(page),
            "dagster/row_count": rows,
        }
    )
