"""What the assets of `tick_job` do: newest prices, scores, forecast, policies, each from Postgres as of one tick.

Puts together the lower rooms' functions; the arithmetic is theirs. Later steps look at nothing past the first one's
newest tick, so that a run is one consistent answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import psycopg

from hcp_pipelines.fleet.solve_sites import load_sites
from hcp_pipelines.forecasting.plain import forecast_power
from hcp_pipelines.optimizer.inputs import FacilityInputs, InputsNotReadyError, SiteInputs
from hcp_pipelines.optimizer.learnt import with_learnt
from hcp_pipelines.optimizer.load import load_inputs, load_markets
from hcp_pipelines.optimizer.peaks import with_peaks
from hcp_pipelines.optimizer.publish import PublishResult, Status, publish_all, write_scores
from hcp_pipelines.optimizer.queue.live import with_queue
from hcp_pipelines.optimizer.scores import score_facilities
from hcp_pipelines.optimizer.solve import solve_facility
from hcp_pipelines.orchestration.alerts import SOLVE_FAILED, record_alert
from hcp_pipelines.policy.schema import Policy
from hcp_pipelines.settings import Settings

FORECAST_HORIZON = timedelta(hours=24)

PRICE_SCHEMA = {
    "stream": pl.String(),
    "series": pl.String(),
    "tick_id": pl.Int64(),
    "source_at": pl.Datetime("us", "UTC"),
    "value": pl.Float64(),
    "age_s": pl.Float64(),
}
DAY_AHEAD_SCHEMA = {
    "settlement_point": pl.String(),
    "interval_start": pl.Datetime("us", "UTC"),
    "price_usd_per_mwh": pl.Float64(),
    "available_at": pl.Datetime("us", "UTC"),
}
POLICY_SCHEMA = {
    "facility_id": pl.String(),
    "policy_id": pl.Int64(),
    "is_new": pl.Boolean(),
    "basis_tick_id": pl.Int64(),
    "decision_price_usd_per_mwh": pl.Float64(),
    "blocks": pl.Int64(),
    "lowest_on_usd_per_mwh": pl.Float64(),
    "highest_off_usd_per_mwh": pl.Float64(),
    "strikes_from": pl.String(),
    "room_by": pl.String(),
    "failed": pl.String(),
}
DAY_AHEAD_SQL = """
select series, "timestamp", value, received_at from price_data
where stream = 'power.da_spp' and quality in ('good', 'unusual') and series = any(%s)
  and "timestamp" >= %s and "timestamp" < %s and id <= %s
"""

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Context:
    """As of when a run answers: the world's instant and the newest tick it looks at."""

    now: datetime
    tick_id: int


def latest_prices(connection: Connection, now: datetime) -> pl.DataFrame:
    """Newest actionable value of each series that some facility needs: one row each, with its tick and age."""
    markets = load_markets(connection, load_sites(connection), now)
    rows = [
        (stream, series, values[-1].tick_id, values[-1].source_at, values[-1].value, markets.age_s(values[-1]))
        for (stream, series), values in sorted(markets.values.items())
    ]
    return pl.DataFrame(rows, schema=PRICE_SCHEMA, orient="row")


def context_of(prices: pl.DataFrame, now: datetime) -> Context:
    """The run's context: nothing past the newest tick among these prices."""
    newest = prices["tick_id"].max()
    return Context(now, newest if isinstance(newest, int) else 0)


def score_fleet(connection: Connection, settings: Settings, context: Context) -> pl.DataFrame:
    """Scores of every group and use, also written to `profitability_scores`."""
    inputs, _ = _inputs(connection, context, {})
    limits = {"power.rt_lmp": settings.price_staleness_s, "btc.usd": settings.btc_staleness_s}
    scores = score_facilities(inputs, limits)
    write_scores(connection, scores, max(one.basis_tick_id for one in inputs), context.now)
    return scores


def forecast_prices(connection: Connection, prices: pl.DataFrame, context: Context) -> pl.DataFrame:
    """Expected power price by settlement point and quarter hour of the next day, the plain forecast."""
    lmps = prices.filter(pl.col("stream") == "power.rt_lmp").select(
        settlement_point="series", source_at="source_at", lmp_usd_per_mwh="value", available_at="source_at"
    )
    points = lmps["settlement_point"].to_list()
    window = (context.now - timedelta(hours=2), context.now + FORECAST_HORIZON, context.tick_id)
    rows = connection.execute(DAY_AHEAD_SQL, (points, *window)).fetchall()
    day_ahead = pl.DataFrame(rows, schema=DAY_AHEAD_SCHEMA, orient="row")
    return forecast_power(day_ahead, lmps, context.now, FORECAST_HORIZON)


def publish_policies(
    connection: Connection, settings: Settings, context: Context, run_id: str, status: Status
) -> pl.DataFrame:
    """Solve every facility, publish and announce: one row a facility, with its policy's range of strikes, or why it has none.

    What one facility's solve trips over costs the others nothing. It keeps the policy that it has, and an alert goes out.

    Raises:
        InputsNotReadyError: no facility at all can be solved yet.
    """
    options = {
        "refresh_after_s": settings.policy_refresh_s,
        "expires_after_s": settings.policy_expires_s,
        "run_id": run_id,
    }
    inputs, failed = _inputs(connection, context, options)
    policies: list[Policy] = []
    learnt = with_learnt(connection, inputs, context.now, context.tick_id)
    charged = with_peaks(connection, learnt, context.now)
    for each in with_queue(connection, charged, context.now, settings.expected_work):
        try:
            policies.append(solve_facility(each))
        except Exception as error:  # noqa: BLE001 - whatever it is, the others get their policies
            failed[each.site.facility_id] = f"{type(error).__name__}: {error}"
    published = publish_all(connection, policies, status)
    if status == "live":
        for facility_id, reason in failed.items():
            record_alert(
                connection, SOLVE_FAILED, facility_id, {"reason": reason, "run_id": run_id, "tick_id": context.tick_id}
            )
    return policy_table(policies, published, failed)


def policy_table(
    policies: Sequence[Policy], published: Sequence[PublishResult], failed: Mapping[str, str]
) -> pl.DataFrame:
    """One row a facility: basis tick, decision price, lowest on- and highest off-strike in $/MWh; or why it `failed`."""
    rows = []
    for policy, result in zip(policies, published, strict=True):
        indices = policy.anchor.indices
        ons = [block.on.at(indices.get(block.index, 0.0)) for block in policy.blocks]
        offs = [block.off.at(indices.get(block.index, 0.0)) for block in policy.blocks]
        rows.append(
            {
                "facility_id": policy.facility_id,
                "policy_id": result.policy_id,
                "is_new": not result.already_there,
                "basis_tick_id": policy.basis_tick_id,
                "decision_price_usd_per_mwh": round(policy.anchor.decision_price_usd_per_mwh, 2),
                "blocks": len(policy.blocks),
                "lowest_on_usd_per_mwh": round(min(ons, default=0.0), 2),
                "highest_off_usd_per_mwh": round(max(offs, default=0.0), 2),
                "strikes_from": policy.strikes_from.words if policy.strikes_from else "",
                "room_by": policy.expected.words if policy.expected else "",
            }
        )
    rows += [{"facility_id": facility_id, "failed": reason} for facility_id, reason in sorted(failed.items())]
    return pl.DataFrame(rows, schema=POLICY_SCHEMA)


def _inputs(
    connection: Connection, context: Context, options: dict[str, Any]
) -> tuple[list[FacilityInputs], dict[str, str]]:
    """Inputs of the facilities that have all of theirs, and of the others what is missing."""
    sites = load_sites(connection)
    try:
        return load_inputs(connection, sites, context.now, options, context.tick_id), {}
    except InputsNotReadyError:
        ready, failed = _one_by_one(connection, sites, context, options)
        if not ready:
            raise
        return ready, failed


def _one_by_one(
    connection: Connection, sites: Sequence[SiteInputs], context: Context, options: dict[str, Any]
) -> tuple[list[FacilityInputs], dict[str, str]]:
    ready: list[FacilityInputs] = []
    failed: dict[str, str] = {}
    for site in sites:
        try:
            ready += load_inputs(connection, [site], context.now, options, context.tick_id)
        except InputsNotReadyError as error:
            failed[site.facility_id] = str(error)
    return ready, failed
