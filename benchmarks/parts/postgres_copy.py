"""Plain Postgres beside the lake: the same rows by binary COPY into a table partitioned by the minute, as fast as they go in."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

COPY_ROWS = 300_000  # of one commit: a second of the fleet
_EPOCH_US = round(datetime(2000, 1, 1, tzinfo=UTC).timestamp() * 1e6)  # Postgres counts from there
_HEAD, _TAIL = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
_KINDS = """simulated_at >i8, sampled_at >i8, facility_id S5, group_id S5, generation >i8, slot >i4, seq >i8, power_kw >f4,
    hashrate_th_per_s >f4, temperature_celsius >f4, state >i2, flags >i2"""
_FIELDS = [(name, kind) for name, _, kind in (part.strip().partition(" ") for part in _KINDS.split(","))]
_TABLE = """
    create table copied (
        simulated_at timestamptz not null, sampled_at timestamptz not null, facility_id text not null, group_id text not null,
        generation bigint not null, slot integer not null, seq bigint not null, power_kw real, hashrate_th_per_s real,
        temperature_celsius real, state smallint, flags smallint
    ) partition by range (simulated_at)"""
_PARTITION = "create table copied_{n} partition of copied for values from ('{a}') to ('{b}')"


def copy_rows_per_s(settings: Settings, seconds: float) -> float:
    """Rows a second that one session copies for so long, a commit a second of the fleet; no index, as the lake has none."""
    start = datetime(2025, 1, 1, tzinfo=UTC)
    with connect(settings, Role.ADMIN) as connection:
        connection.execute(_TABLE)
        for n in range(60):
            a = start + timedelta(minutes=n)
            connection.execute(_PARTITION.format(n=n, a=a, b=a + timedelta(minutes=1)))
        rows, began_s = 0, time.monotonic()
        while time.monotonic() < began_s + seconds:
            at = start + timedelta(seconds=rows // COPY_ROWS)
            _copy(connection, _body(at, rows // COPY_ROWS))
            rows += COPY_ROWS
        took_s = time.monotonic() - began_s
        connection.execute("drop table copied")
    return rows / took_s


def _copy(connection: psycopg.Connection[Any], body: bytes) -> None:
    with connection.cursor().copy("copy copied from stdin (format binary)") as copy:
        copy.write(_HEAD + body + _TAIL)


def _body(at: datetime, seq: int) -> bytes:
    """A second of the fleet as COPY's binary rows: a field count, and each field's length before it."""
    layout: list[tuple[str, str]] = [("count", ">i2")]
    for name, kind in _FIELDS:
        layout += [(f"{name}_length", ">i4"), (name, kind)]
    rows = np.zeros(COPY_ROWS, dtype=layout)
    rows["count"] = len(_FIELDS)
    for name, kind in _FIELDS:
        rows[f"{name}_length"] = np.dtype(kind).itemsize
    random, at_us = np.random.default_rng(seq), round(at.timestamp() * 1e6) - _EPOCH_US
    constant = {
        "simulated_at": at_us,
        "sampled_at": at_us,
        "facility_id": b"hou-1",
        "group_id": b"s21-1",
        "generation": 1,
        "seq": seq,
    }
    for name, value in constant.items():
        rows[name] = value
    rows["slot"] = np.arange(COPY_ROWS)
    for name, level in (("power_kw", 3.3), ("hashrate_th_per_s", 200.0), ("temperature_celsius", 65.0)):
        rows[name] = level * (1 + 0.02 * random.standard_normal(COPY_ROWS, dtype=np.float32))
    rows["state"], rows["flags"] = 3, 1
    return rows.tobytes()
