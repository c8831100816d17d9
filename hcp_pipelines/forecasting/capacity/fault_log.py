"""A recorded fault log of servers as hours of a fleet: what was up of them, a facility's row a class of servers and hour.

The log names the servers that failed, in days since its first event. Those that never did are known by how many there were.
Which server stands in which group is drawn, so that groups are alike. A fault whose end is not there lasts for a day, about the
median.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.capacity.fleet_days import FLEET_HOURS
from hcp_pipelines.forecasting.hours import Floats

COLUMNS = ("node_id", "event_time_days", "event_type", "fault_class", "fault_desc")
SERVERS, GROUPS = 400, 8  # the log's own figure; so many groups of them are made
OPEN_END_DAYS = 1.0
BEGINS = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday: the log has no dates, and no weekday of its own
_HOUR_DAYS = 1 / 24


@dataclass(frozen=True)
class Downtimes:
    """`[fault]` whose server, and when it began and ended, in hours since the log's first event."""

    server: npt.NDArray[np.int64]
    start_h: Floats
    end_h: Floats
    servers: int


def read_downtimes(path: Path, servers: int = SERVERS) -> Downtimes:
    """Starts paired with their ends: same server, class and description.

    Raises:
        ConfigError: the file can't be read, lacks columns, or names more servers than there were.
    """
    try:
        events = pl.read_csv(path, columns=list(COLUMNS), schema_overrides={"event_time_days": pl.Float64})
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ConfigError(
            f"{path} is no fault log: {str(error).splitlines()[0]}; it needs {', '.join(COLUMNS)}"
        ) from error
    key = ["node_id", "fault_class", "fault_desc"]
    events = events.sort("event_time_days", maintain_order=True).with_columns(
        turn=pl.int_range(pl.len()).over([*key, "event_type"])
    )
    starts, ends = (events.filter(event_type=kind) for kind in ("fault_start", "fault_end"))
    if starts.is_empty():
        raise ConfigError(f"{path} has no fault_start: nothing ever failed there, or it is another log")
    both = starts.join(ends, on=[*key, "turn"], how="left", suffix="_end", maintain_order="left")
    end = pl.col("event_time_days_end").fill_null(pl.col("event_time_days") + OPEN_END_DAYS)
    names = sorted(both["node_id"].unique())
    if len(names) > servers:
        raise ConfigError(f"{path} names {len(names)} servers that failed: there can't have been {servers} in all")
    server = both["node_id"].replace_strict(names, range(len(names)), return_dtype=pl.Int64).to_numpy()
    return Downtimes(
        server, both["event_time_days"].to_numpy() / _HOUR_DAYS, both.select(end).to_series().to_numpy() / _HOUR_DAYS, servers
    )  # fmt: skip


def hours_of(faults: Downtimes, groups: int = GROUPS, seed: int = 0) -> pl.DataFrame:
    """Rows of `FLEET_HOURS` from the first whole day to the last one in which something happened."""
    hours = int(faults.start_h.max() // 24) * 24
    up = np.ones((hours, faults.servers), dtype=np.float32)
    began = np.zeros((hours, faults.servers), dtype=np.int32)
    for server, start_h, end_h in zip(
        faults.server.tolist(), faults.start_h.tolist(), faults.end_h.tolist(), strict=True
    ):
        first, last = int(start_h), min(int(np.ceil(end_h)), hours)
        if first < hours:
            began[first, server] += 1
        rows = np.arange(first, last)
        up[rows, server] -= (np.minimum(end_h, rows + 1) - np.maximum(start_h, rows)).clip(0, 1)
    group = np.random.default_rng(seed).permutation(faults.servers) % groups
    starts = pl.Series([BEGINS + timedelta(hours=n) for n in range(hours)], dtype=INSTANT)
    frames = []
    for n in range(groups):
        own = group == n
        available = up[:, own].clip(0, 1).sum(axis=1, dtype=np.float64)
        frames.append(
            pl.DataFrame({"start_at": starts, "available_h": available, "failures": began[:, own].sum(axis=1)}).with_columns(
                facility_id=pl.lit("recorded"), group_id=pl.lit(f"servers-{n + 1}"), type=pl.lit("GPU"),
                installed=pl.lit(int(own.sum())), in_use_h=pl.col("available_h"), hottest_celsius=None, outdoor_celsius=None,
                price_usd_per_mwh=None, known_at=pl.col("start_at") + timedelta(hours=1), outdoor_known_at=None,
            )
        )  # fmt: skip
    return pl.concat(frames).select(pl.col(name).cast(kind) for name, kind in FLEET_HOURS.items())
