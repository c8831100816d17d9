"""A recorded market and journal for the tests of the replay: ticks in the lake's columns, and rows of switches."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from hcp_pipelines.wire.slots import encode_slots
from tests.support.fleet import MARKET, POINT

START = datetime(2025, 1, 1, tzinfo=UTC)
STEP = timedelta(minutes=5)
TICKS = {
    "stream": pl.String, "series": pl.String, "timestamp": pl.Datetime("us", "UTC"), "revision": pl.Int32, "value": pl.Float64,
}  # fmt: skip
JOURNAL = {
    "event": pl.String, "command_id": pl.String, "assignment": pl.Int32, "from_state": pl.Int16, "to_state": pl.Int16,
    "devices": pl.Int32, "deferred": pl.Int32, "failed": pl.Int32, "slots": pl.Binary, "mw_delta": pl.Float64,
    "reason": pl.String, "simulated_at": pl.Datetime("us", "UTC"),
}  # fmt: skip


def ticks(lmps, start=START, market=MARKET):
    """An LMP each five minutes, and the rest of the market once, just before the first."""
    rows = [(stream, series, start - STEP, 0, value) for stream, series, value in market]
    rows += [("power.rt_lmp", POINT, start + n * STEP, 0, float(lmp)) for n, lmp in enumerate(lmps)]
    return pl.DataFrame(rows, schema=TICKS, orient="row")


def switch(command, minutes, slots, states, *, acked=None, failed=0, reason="economics", start=START):
    """Rows of a switch `minutes` after the start: told, acked by as many devices at once, and, where some failed, settled."""
    at, (old, new), devices = start + timedelta(minutes=minutes), states, len(slots)
    named = encode_slots(np.array(slots, dtype=np.uint32))
    took = devices if acked is None else acked
    rows = [
        ("commanded", command, 0, old, new, devices, 0, 0, named, -0.01, reason, at),
        ("acked", command, 0, old, new, took, 0, 0, None, 0.0, reason, at),
    ]
    if failed:
        later = at + timedelta(minutes=5)
        rows.append(("settled", command, 0, old, new, took - failed, 0, failed, None, 0.0, reason, later))
    return rows


def journal(*switches):
    """The rows of some switches."""
    return pl.DataFrame([row for rows in switches for row in rows], schema=JOURNAL, orient="row")
