"""Sensors of the lake's tables: days of history that are missing (`history.plan`), and what daemons have written."""

from collections.abc import Sequence
from datetime import datetime

import dagster as dg

from hcp_pipelines.orchestration.alerts import record_alert
from hcp_pipelines.orchestration.history import daemon_models, watch
from hcp_pipelines.orchestration.history.plan import Order, assets_by_source, gaps
from hcp_pipelines.orchestration.history.pool import configured
from hcp_pipelines.orchestration.history.reading import reading
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.runs import is_under_way
from jobs.history import KIND, history_job

MOST_DAYS = 14  # of the world, back from today
MOST_ATTEMPTS = 3  # for the same days of a source: then a person is needed
TELL_AGAIN_S = 600.0  # real: an event is an open alert for a quarter of an hour
FIRST_TICK_SQL = "select received_at from price_data order by id limit 1"


@dg.sensor(
    job=history_job, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING,
    description="Fetches days of history that a source lacks since the first tick; in observe it only names them.",
)  # fmt: skip
def history_gaps_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
    """Request the days since the platform's first tick that a source lacks, one run at a time; in `observe` only name them."""
    settings = platform.settings()
    with platform.connection() as connection:
        row = connection.execute(FIRST_TICK_SQL).fetchone()
    if row is None or row[0] is None:
        return dg.SensorResult(
            skip_reason="no tick was recorded yet: what is older than the first one is an operator's backfill"
        )
    more = configured(settings)
    names = [name for each in assets_by_source(more).values() for name in each]
    there = {name: context.instance.get_materialized_partitions(dg.AssetKey(name)) for name in names}
    missing = gaps(there, row[0], platform.clock().now(), MOST_DAYS, more)
    if not missing:
        return dg.SensorResult(skip_reason="no day that is over is missing")
    told = "; ".join(f"{order.source} {order.days[0]} to {order.days[-1]}" for order in missing)
    if settings.history_gaps == "observe":
        return dg.SensorResult(skip_reason=f"missing, and only named (HCP_HISTORY_GAPS=observe): {told}")
    if is_under_way(context.instance, tags={"hcp/kind": KIND}):
        return dg.SensorResult(skip_reason=f"a run is under way; missing: {told}")
    for order in missing:
        for attempt in range(MOST_ATTEMPTS):
            key = f"{order.source}-{order.days[0]}-{order.days[-1]}-{attempt}"
            if not context.instance.get_run_records(dg.RunsFilter(tags={"dagster/run_key": key}), limit=1):
                return dg.SensorResult(run_requests=[_request(order, key)])
    cursor = _alert(context.cursor, missing, platform)
    return dg.SensorResult(
        skip_reason=f"failed {MOST_ATTEMPTS} times, see the runs of history_job: {told}", cursor=cursor
    )


@dg.sensor(
    minimum_interval_seconds=300, default_status=dg.DefaultSensorStatus.RUNNING,
    description="Observes what daemons write: rows, the newest instant, how far behind the world it is.",
)  # fmt: skip
def daemon_tables_sensor(platform: Platform) -> dg.SensorResult:
    """Observe what daemons write: rows, the newest instant, how far behind the world it is."""
    now = platform.clock().now()
    with reading(platform.settings()) as reader:
        found = {table.key: watch.observe_daemon(reader, table, now) for table in daemon_models.ALL}
    events = [dg.AssetObservation(key, metadata=told) for key, told in found.items() if told]
    return dg.SensorResult(asset_events=events, skip_reason=None if events else "the collector has made no table yet")


def _alert(cursor: str | None, missing: Sequence[Order], platform: Platform) -> str:
    """Say for the alerts which days a source does not give, again while that is so; the cursor: when that was, real time."""
    now = platform.clock().real_now()
    if cursor is not None and (now - datetime.fromisoformat(cursor)).total_seconds() < TELL_AGAIN_S:
        return cursor
    with platform.connection() as connection:
        for order in missing:
            days = {"first_day": order.days[0], "last_day": order.days[-1], "days": len(order.days)}
            record_alert(connection, "alert.data_gap", order.source, days)
    return now.isoformat()


def _request(order: Order, run_key: str) -> dg.RunRequest:
    """One run for all days of a source."""
    span = {"dagster/asset_partition_range_start": order.days[0], "dagster/asset_partition_range_end": order.days[-1]}
    return dg.RunRequest(
        run_key=run_key,
        asset_selection=[dg.AssetKey(name) for name in order.assets],
        tags=span | {"hcp/source": order.source},
    )
