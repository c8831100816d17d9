"""Back-tests as an asset: a run's configuration says what of. The work is in `orchestration.backtesting`."""

from typing import Any

import dagster as dg
from pydantic import Field

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.optimizer.backtest.record import Run, store
from hcp_pipelines.orchestration.backtesting import Asked, markdown, run_backtest, write_page
from hcp_pipelines.orchestration.resources import Platform

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
    strategies: list[str] = Field(default_factory=list)
    efficiencies_j_per_th: list[float] = Field(default_factory=list)


@dg.asset(group_name=GROUP, owners=["team:decisions"], kinds={"python", "plotly", "ducklake"})
def raw_hcp__backtests(
    context: dg.AssetExecutionContext, config: BacktestConfig, platform: Platform
) -> dg.MaterializeResult[Any]:
    """What strategies would have earned on recorded series, against perfect foresight: one row a strategy."""
    settings = platform.settings()
    run = Run(context.run_id, config.facility or config.preset, SystemClock().real_now())
    with platform.connection() as connection:
        done = run_backtest(connection, settings, Asked(**config.model_dump()), run)
    page = write_page(settings.at("reports", "backtest"), run.run_id, done.html())
    rows = store(settings, done.results)
    return dg.MaterializeResult(
        metadata={
            "results": dg.MetadataValue.md(markdown(done.columns, done.rows, [done.title, *done.lines])),
            "page": dg.MetadataValue.path(page),
            "dagster/row_count": rows,
        }
    )
