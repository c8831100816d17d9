"""One series of ticks and history: power prices as they settle, the bitcoin network by day, GPU rental rates. By UTC days.

Precedence of power prices: what was fetched from the report (corrections are in it), then the settled price as the feed saw it,
then the mean of the 5-minute LMPs, which is what settles unless it is corrected.
"""

from datetime import datetime
from typing import Any

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.ticks import ACTIONABLE, OFFER_SEPARATOR, Stream
from hcp_pipelines.economics.mining import HASHES_PER_DIFFICULTY, HASHES_PER_TH, SECONDS_PER_DAY, hashprice_columns
from hcp_pipelines.markets.central import operating_day
from hcp_pipelines.orchestration.history.model import Model
from hcp_pipelines.orchestration.history.reading import Reader, reading
from hcp_pipelines.orchestration.history.tables import (
    BITCOIN_PRICE,
    BLOCKS,
    EXCHANGES,
    POWER_PRICE,
    RT_SPP,
    HistoryTable,
)
from hcp_pipelines.settings import Settings

Window = tuple[datetime, datetime]
TICKS = "raw.price_ticks"
ORIGINS = ("history", "tick", "lmp_mean")  # the first that has an interval is believed
SETTLED = Model(
    {
        "start_at": INSTANT, "settlement_point": pl.String, "price_usd_per_mwh": pl.Float64, "origin": pl.String,
        "operating_day": pl.Date,
    },
    ("start_at", "settlement_point"),
    bounds={"price_usd_per_mwh": POWER_PRICE},
    rules={f"origin is one of {', '.join(ORIGINS)}": pl.col("origin").is_in(ORIGINS)},
)  # fmt: skip
NETWORK = Model(
    {
        "start_at": INSTANT, "blocks": pl.Int64, "last_height": pl.Int64, "difficulty": pl.Float64,
        "fees_btc_per_block": pl.Float64, "issuance_btc": pl.Float64, "hashrate_th_per_s": pl.Float64,
        "price_usd": pl.Float64, "hashprice_usd_per_ph_day": pl.Float64, "is_over": pl.Boolean,
    },
    ("start_at",),
    nullable=frozenset({"price_usd", "hashprice_usd_per_ph_day"}),
    bounds={"blocks": (1, 400), "difficulty": (1.0, 1e18), "price_usd": BITCOIN_PRICE, "hashprice_usd_per_ph_day": (0.0, 1e5)},
)  # fmt: skip
RATES = Model(
    {"start_at": INSTANT, "gpu_type": pl.String, "rate_usd_per_gpu_hour": pl.Float64, "ticks": pl.Int64},
    ("start_at", "gpu_type"),
    bounds={"rate_usd_per_gpu_hour": (0.0, 1000.0), "ticks": (1, 1e6)},
)
MADE = {"core.power__settled_prices": SETTLED, "core.bitcoin__network": NETWORK, "core.gpu__rental_rates": RATES}
TICKS_SQL = f"""
select stream, series, "timestamp" as tick_at, value from lake.{TICKS}
where stream = any(?) and "timestamp" >= ? and "timestamp" < ? and quality in ({", ".join(f"'{q}'" for q in ACTIONABLE)})
qualify row_number() over (partition by stream, series, "timestamp" order by revision desc, id desc) = 1"""  # noqa: S608


def settled_prices(settings: Settings, window: Window) -> pl.DataFrame:
    """Settled power prices, USD/MWh, of the best origin there is: one row a 15-minute interval and point."""
    with reading(settings) as reader:
        ticks = _ticks(reader, (Stream.POWER_RT_SPP, Stream.POWER_RT_LMP), window)
        history = _rows(reader, RT_SPP, window)
    point, price = pl.col("series").alias("settlement_point"), pl.col("value").alias("price_usd_per_mwh")
    is_settled = pl.col("stream") == Stream.POWER_RT_SPP.value
    settled = ticks.filter(is_settled).select(pl.col("tick_at").alias("start_at"), point, price)
    lmps = ticks.filter(~is_settled)
    means = lmps.group_by(pl.col("tick_at").dt.truncate("15m").alias("start_at"), point).agg(price.mean())
    columns = ["start_at", "settlement_point", "price_usd_per_mwh"]
    ranked = [
        frame.select(columns).with_columns(origin=pl.lit(origin), rank=pl.lit(rank))
        for rank, (origin, frame) in enumerate(zip(ORIGINS, (history, settled, means), strict=True))
    ]
    found = pl.concat(ranked).sort("start_at", "settlement_point", "rank")
    best = found.unique(["start_at", "settlement_point"], keep="first", maintain_order=True).drop("rank")
    day = pl.col("start_at").map_elements(operating_day, return_dtype=pl.Date)
    return best.with_columns(operating_day=day).select(*SETTLED.columns)


def network_days(settings: Settings, window: Window, now: datetime) -> pl.DataFrame:
    """The bitcoin network by UTC day from its blocks; price and hashprice from closes, null where there are none."""
    day = pl.col("start_at").dt.truncate("1d")
    with reading(settings) as reader:
        blocks = _rows(reader, BLOCKS, window).sort("height")
        candles = [_rows(reader, table, window) for table in EXCHANGES]
    closes = [frame.group_by(day).agg(pl.col("close_usd").mean()) for frame in candles]
    prices = pl.concat(closes).group_by("start_at").agg(price_usd=pl.col("close_usd").median())
    days = blocks.group_by(day).agg(
        blocks=pl.len().cast(pl.Int64),
        last_height=pl.col("height").last(),
        difficulty=pl.col("difficulty").mean(),
        fees_btc_per_block=pl.col("fees_btc").mean(),
        issuance_btc=(pl.col("reward_btc") - pl.col("fees_btc")).sum(),
    )
    joined = days.join(prices, on="start_at", how="left").sort("start_at")
    work_th = pl.col("blocks") * pl.col("difficulty") * (HASHES_PER_DIFFICULTY / HASHES_PER_TH)
    hashprice = hashprice_columns(
        pl.col("price_usd"), pl.col("difficulty"), pl.col("fees_btc_per_block"), pl.col("last_height")
    )
    told = joined.with_columns(
        hashrate_th_per_s=work_th / SECONDS_PER_DAY,
        hashprice_usd_per_ph_day=hashprice,
        is_over=pl.col("start_at") + pl.duration(days=1) <= now,
    )
    return told.select(pl.col(name).cast(kind) for name, kind in NETWORK.columns.items())


def rental_rates(settings: Settings, window: Window) -> pl.DataFrame:
    """GPU rental rates as the feed recorded them, USD per GPU-hour: one row an hour and GPU type. No service tells past ones.

    The market's rate alone: a single cloud's offers are series of their own.
    """
    with reading(settings) as reader:
        ticks = _ticks(reader, (Stream.GPU_SPOT,), window).filter(
            ~pl.col("series").str.contains(OFFER_SEPARATOR, literal=True)
        )
    hours = ticks.group_by(
        pl.col("tick_at").dt.truncate("1h").alias("start_at"), pl.col("series").alias("gpu_type")
    ).agg(rate_usd_per_gpu_hour=pl.col("value").median(), ticks=pl.len())
    return hours.sort("start_at", "gpu_type").select(pl.col(name).cast(kind) for name, kind in RATES.columns.items())


def _ticks(reader: Reader, streams: tuple[Stream, ...], window: Window) -> pl.DataFrame:
    """The newest actionable word on each instant of some streams."""
    schema: dict[str, Any] = {"stream": pl.String, "series": pl.String, "tick_at": INSTANT, "value": pl.Float64}
    return reader.table(TICKS, TICKS_SQL, [[stream.value for stream in streams], *window], schema)


def _rows(reader: Reader, table: HistoryTable, window: Window) -> pl.DataFrame:
    """Good rows of a window."""
    sql = f"from lake.{table.name} where start_at >= ? and start_at < ?"
    return table.model.believed(reader.table(table.name, sql, window, table.model.columns))
