"""Publishing: policies (idempotent per facility and basis tick, announced in the same transaction) and profitability scores.

What a policy says is made in `solve.py`; whether it is taken up is the allocator's to decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl
import psycopg
from psycopg.types.json import Jsonb

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.policy.schema import Policy

Status = Literal["live", "candidate"]

_INSERT_POLICY = """
    insert into policies (facility_id, status, basis_tick_id, solved_at, refresh_due_at, expires_at, inventory_generation,
                          obligations_version, schema_version, digest, body, run_id, trigger)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    on conflict (facility_id, basis_tick_id) where status = 'live' do nothing returning id"""
_SCORE_COLUMNS = (
    "timestamp", "tick_id", "resource_id", "workload_type", "score", "expected_revenue", "estimated_cost", "net_profit",
    "usd_per_mwh", "confidence", "recommendation",
)  # fmt: skip

_INSERT_SCORE = """
    insert into profitability_scores ("timestamp", tick_id, resource_id, workload_type, score, expected_revenue,
        estimated_cost, net_profit, usd_per_mwh, confidence, recommendation)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (tick_id, resource_id, workload_type) do nothing"""


@dataclass(frozen=True, slots=True)
class PublishResult:
    """The row's id; `already_there`: a live policy of that facility and basis tick had been published before."""

    facility_id: str
    policy_id: int
    already_there: bool


def publish(
    connection: psycopg.Connection,
    policy: Policy,
    status: Status = "live",
    trigger: str = "tick",
    run_id: str | None = None,
) -> PublishResult:
    """Insert the policy and announce it on `hcp_policy`. Candidates are not announced.

    Publishing the same basis tick again leaves the first row and sends nothing.
    """
    body = policy if run_id is None else policy.model_copy(update={"run_id": run_id})
    values = (
        body.facility_id, status, body.basis_tick_id, body.solved_at, body.refresh_due_at, body.expires_at,
        body.inventory_generation, body.obligations_version, body.schema_version, body.digest(),
        Jsonb(body.model_dump(mode="json")), body.run_id, trigger,
    )  # fmt: skip
    with connection.transaction():
        row = connection.execute(_INSERT_POLICY, values).fetchone()
        if row is not None:
            if status == "live":
                connection.execute("select pg_notify('hcp_policy', %s)", (str(row[0]),))
            return PublishResult(body.facility_id, row[0], already_there=False)
        found = connection.execute(
            "select id from policies where facility_id = %s and basis_tick_id = %s and status = 'live'",
            (body.facility_id, body.basis_tick_id),
        ).fetchone()
    if found is None:
        raise StorageError(f"{body.facility_id}: policy of tick {body.basis_tick_id} neither inserted nor found; retry")
    return PublishResult(body.facility_id, found[0], already_there=True)


def publish_all(
    connection: psycopg.Connection, policies: Sequence[Policy], status: Status = "live", trigger: str = "tick"
) -> list[PublishResult]:
    """All of them in one transaction: one commit, one wake-up a policy."""
    with connection.transaction():
        return [publish(connection, policy, status, trigger) for policy in policies]


def write_scores(connection: psycopg.Connection, scores: pl.DataFrame, tick_id: int, simulated_at: datetime) -> int:
    """Write scored rows (`economics.profitability.SCORE_COLUMNS`) to `profitability_scores`; rows newly written.

    Rows of the same tick, resource and use stay as first written.
    """
    rows = scores.with_columns(pl.lit(simulated_at).alias("timestamp"), pl.lit(tick_id).alias("tick_id"))
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(_INSERT_SCORE, rows.select(_SCORE_COLUMNS).rows())
        return cursor.rowcount
