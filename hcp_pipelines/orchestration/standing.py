"""What operators have ordered, as the tick's run shows it: beside its policies stands what overrules them."""

from datetime import datetime
from typing import Any

import polars as pl
import psycopg

from hcp_pipelines.operators.listing import what_stands

COLUMNS = ("name", "facility_id", "what", "status", "by", "reason", "until")


def standing_directives(connection: "psycopg.Connection[Any]", now: datetime) -> pl.DataFrame:
    """Orders, locks and what waits for approval at a simulated instant, all as text: one row each."""
    stands = what_stands(connection, now)
    rows = [
        (d.name, d.facility_id, d.says, d.status, d.actor, d.reason, _text(d.valid_until)) for d in stands.directives
    ]
    rows += [(x.name, x.facility_id, x.feeder_id or x.scope, x.status, x.holder, x.reason, "") for x in stands.lockouts]
    rows += [
        (f"approval/{a.approval_id}", a.facility_id, a.subject, "waits", a.requested_by, a.detail, _text(a.expires_at))
        for a in stands.approvals
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")


def _text(at: datetime | None) -> str:
    return at.isoformat(timespec="minutes") if at else ""
