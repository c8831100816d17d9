"""The market as a platform recorded it: a row a 5-minute step, with what was known when it began and what it settled at.

Made from ticks of the lake. A step without a price or without an index is left out, for everybody alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from hcp_pipelines.domain.ticks import BITCOIN, Stream
from hcp_pipelines.economics.mining import HASHPRICE, hashprice_usd_per_ph_day
from hcp_pipelines.economics.power import INTERVAL_MINUTES, STEP_MINUTES, with_decision_price
from hcp_pipelines.optimizer.backtest.series import Floats, Ints, SeriesError

STEP_H = STEP_MINUTES / 60
NETWORK = ("difficulty", "fees_btc_per_block", "height")
_EVERY, _INTERVAL = f"{STEP_MINUTES}m", f"{INTERVAL_MINUTES}m"


@dataclass(frozen=True)
class History:
    """`known`: the decision price after the LMP with which a step began; `settled`: the price of its 15-minute interval."""

    starts_us: Ints
    known_usd_per_mwh: Floats
    settled_usd_per_mwh: Floats
    day_ahead_usd_per_mwh: Floats  # NaN where none was recorded
    indices: Mapping[str, Floats]  # newest value as the step began

    def __len__(self) -> int:
        return len(self.starts_us)

    def row_at(self, instant_us: int) -> int:
        """The first row at or after an instant."""
        return int(np.searchsorted(self.starts_us, instant_us))

    def since(self, row: int) -> "History":
        """From a row on."""
        return History(
            self.starts_us[row:], self.known_usd_per_mwh[row:], self.settled_usd_per_mwh[row:],
            self.day_ahead_usd_per_mwh[row:], {name: values[row:] for name, values in self.indices.items()},
        )  # fmt: skip


def wanted_series(point: str, index_names: Sequence[str]) -> list[tuple[str, str]]:
    """(stream, series) of all that a history is made from."""
    power = (Stream.POWER_RT_LMP, Stream.POWER_RT_SPP, Stream.POWER_DA_SPP)
    wanted = [(stream.value, point) for stream in power]
    for name in index_names:
        if name == HASHPRICE:
            wanted += [(Stream.BTC_USD.value, BITCOIN), *((Stream.BTC_NETWORK.value, each) for each in NETWORK)]
        else:
            wanted.append((Stream.GPU_SPOT.value, name.removeprefix("gpu.")))
    return wanted


def history_of(ticks: pl.DataFrame, point: str, index_names: Sequence[str], start: datetime, end: datetime) -> History:
    """The steps of [start, end) from ticks: `stream`, `series`, `timestamp`, `revision`, `value`, nothing absurd among them.

    LMPs are as they first came, since that is what was decided on; all else as it was revised. A 15-minute interval without its
    settlement price settles at the mean of its LMPs.

    Raises:
        SeriesError: not one step has a price and all indices.
    """
    newest = ticks.sort("timestamp", "revision").unique(
        ["stream", "series", "timestamp"], keep="last", maintain_order=True
    )
    first = ticks.sort("timestamp", "revision").filter(pl.col("stream") == Stream.POWER_RT_LMP.value)
    lmps = _of(first, Stream.POWER_RT_LMP, point).with_columns(pl.col("start").dt.truncate(_EVERY))
    priced = with_decision_price(
        lmps.unique("start", keep="first", maintain_order=True).select(
            pl.lit(point).alias("settlement_point"), source_at="start", lmp_usd_per_mwh="value"
        )
    ).rename({"decision_price_usd_per_mwh": "known", "source_at": "start"})
    priced = priced.with_columns(interval=pl.col("start").dt.truncate(_INTERVAL))
    steps = _settled(priced, newest, point).filter(pl.col("start").is_between(start, end, closed="left"))
    for name in index_names:
        steps = steps.join_asof(index_of(newest, name), on="start", strategy="backward")
    whole = steps.drop_nulls([*index_names])
    if whole.is_empty():
        raise SeriesError(
            f"no recorded prices of {point} with {', '.join(index_names)} over {start:%Y-%m-%dT%H:%MZ} to "
            f"{end:%Y-%m-%dT%H:%MZ}: choose a window in which the platform ran"
        )
    return History(
        starts_us=whole["start"].dt.timestamp("us").to_numpy(),
        known_usd_per_mwh=_floats(whole, "known"),
        settled_usd_per_mwh=_floats(whole, "settled"),
        day_ahead_usd_per_mwh=_floats(whole, "day_ahead"),
        indices={name: _floats(whole, name) for name in index_names},
    )


def _settled(priced: pl.DataFrame, ticks: pl.DataFrame, point: str) -> pl.DataFrame:
    """With the price that each step's interval settled at, and the day-ahead price of its hour."""
    intervals = _of(ticks, Stream.POWER_RT_SPP, point).select(interval="start", spp="value")
    hours = _of(ticks, Stream.POWER_DA_SPP, point).select(hour="start", day_ahead="value")
    mean = pl.col("lmp_usd_per_mwh").mean().over("interval")
    return (
        priced.join(intervals, on="interval", how="left")
        .with_columns(settled=pl.coalesce("spp", mean), hour=pl.col("start").dt.truncate("1h"))
        .join(hours, on="hour", how="left")
        .sort("start")
    )


def index_of(ticks: pl.DataFrame, name: str) -> pl.DataFrame:
    """An index whenever one of its values came: `start` and a column of its name."""
    if name != HASHPRICE:
        return _of(ticks, Stream.GPU_SPOT, name.removeprefix("gpu.")).select("start", pl.col("value").alias(name))
    parts = [_of(ticks, Stream.BTC_USD, BITCOIN).rename({"value": "usd"})]
    parts += [_of(ticks, Stream.BTC_NETWORK, each).rename({"value": each}) for each in NETWORK]
    joined = (
        pl.concat(parts, how="diagonal")
        .sort("start")
        .group_by("start", maintain_order=True)
        .agg(pl.all().drop_nulls().last())
    )
    filled = joined.with_columns(pl.exclude("start").forward_fill()).drop_nulls()
    values = [
        hashprice_usd_per_ph_day(usd, difficulty, fees, int(height))
        for usd, difficulty, fees, height in filled.select("usd", *NETWORK).iter_rows()
    ]
    return filled.select("start").with_columns(pl.Series(name, values, dtype=pl.Float64))


def _of(ticks: pl.DataFrame, stream: Stream, series: str) -> pl.DataFrame:
    rows = ticks.filter((pl.col("stream") == stream.value) & (pl.col("series") == series))
    instant = pl.col("timestamp").dt.cast_time_unit("us").alias("start")
    return rows.select(instant, "value").sort("start", maintain_order=True)


def _floats(frame: pl.DataFrame, name: str) -> Floats:
    values: Floats = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return values
