"""Telemetry for tests: samples of one's own, and the collector's part in this loop on a real lake."""

import asyncio
import contextlib

import numpy as np
import structlog

from hcp_pipelines.collector.telemetry.rows import BATCHES, METERS, TABLE
from hcp_pipelines.collector.telemetry.service import Telemetry
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.storage import lake
from hcp_pipelines.wire.telemetry import Part, Sample

ROLLED = ("core.telemetry_1min", "core.telemetry_1h", "core.telemetry_group_1min")
VIEWS = ("core.metrics", "core.metrics_1min")
START_US = 1_735_732_800_000_000  # 2025-01-01 12:00
PARTS = (Part("asic", 0, 4), Part("gpu", 10, 2))


def sample(seq, facility="one", at_s=None, parts=PARTS, power_kw=None, **changes):
    """A sample `seq` seconds after 12:00 of the first of January, unless it is said otherwise."""
    n = sum(part.devices for part in parts)
    at_us = START_US + round(1e6 * (seq if at_s is None else at_s))
    power = np.full(n, 3.0, dtype=np.float32) if power_kw is None else np.asarray(power_kw, dtype=np.float32)
    columns = {
        "hashrate_th_per_s": None, "temperature_celsius": None,
        "state": np.full(n, 3, dtype=np.uint8), "flags": np.ones(n, dtype=np.uint8),
    }  # fmt: skip
    return Sample(facility, 1, seq, at_us, at_us, parts, power, **columns | changes)


def clear(settings):
    """The lake without telemetry."""
    tables = (TABLE, BATCHES, METERS, *ROLLED)
    with lake.attach(settings) as connection:
        connection.execute("begin")
        for view in VIEWS:
            connection.execute(f"drop view if exists lake.{view}")
        for table in tables:
            connection.execute(f"drop table if exists lake.{table}")
            connection.execute(f'delete from lake.{lake.BATCHES} where "table" = ?', [table])
        connection.execute("commit")


@contextlib.asynccontextmanager
async def collecting(settings, batch_every_s=0.2):
    """The collector's telemetry; ends as a stopped collector does."""
    context = ProcessContext("collector", settings, SystemClock(), structlog.get_logger("collector"))
    telemetry = Telemetry(context, batch_every_s)
    running = asyncio.create_task(telemetry.run())
    try:
        yield telemetry
    finally:
        context.stop.set()
        await running
