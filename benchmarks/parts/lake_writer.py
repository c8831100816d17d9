"""One writer of the bench of writers, a process of its own: `python -m benchmarks.parts.lake_writer STATE TABLE KIND TIMES`."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake

START, DAY = datetime(2025, 1, 1, tzinfo=UTC), timedelta(days=1)
DAYS = 3  # that are made again in turn
BATCH_ROWS = 3
SENT_TWICE_EACH = 10
BACKFILL, TICK_RUN, COLLECTOR = KINDS = ("backfill", "tick_run", "collector")


def day_rows(n: int) -> int:
    """Rows of a day the `n`-th time that one is made."""
    return 5 + n % 7


def frame(kind: str, begin: datetime, count: int, n: int) -> pl.DataFrame:
    """`count` rows of the `n`-th batch, a minute apart."""
    at = [begin + timedelta(minutes=m) for m in range(count)]
    return pl.DataFrame(
        {"writer": kind, "at": at, "n": n}, schema={"writer": pl.String, "at": pl.Datetime("us", "UTC"), "n": pl.Int64}
    )


def write(settings: Settings, table: str, kind: str, times: int) -> None:
    """A backfill replaces the same days in turn; the others append, and send each tenth batch twice."""
    with lake.attach(settings, threads=1) as connection:
        for n in range(times):
            batch = f"{kind}/{n}"
            if kind == BACKFILL:
                window = lake.Window("at", begin := START + (n % DAYS) * DAY, begin + DAY)
                rows = frame(kind, begin, day_rows(n), n)
                lake.write(connection, table, rows, batch, "replace", window, settings=settings)
                continue
            rows = frame(kind, START + 30 * DAY, BATCH_ROWS, n)
            for _ in range(2 if n % SENT_TWICE_EACH == 0 else 1):
                lake.write(connection, table, rows, batch, settings=settings)


if __name__ == "__main__":
    write(Settings(state_dir=Path(sys.argv[1])), sys.argv[2], sys.argv[3], int(sys.argv[4]))
