"""The tables of fetched history: their source, their key, and what a good row is. All are by UTC day of `start_at`.

Bounds are what is plausible, not what is usual: prices cross zero, and real ones were 9,000 $/MWh.
"""

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.feed.quality import DEFAULT_CAP_USD_PER_MWH, DEFAULT_FLOOR_USD_PER_MWH
from hcp_pipelines.orchestration.history.model import Bounds, Model

START = "start_at"
POWER_PRICE = (DEFAULT_FLOOR_USD_PER_MWH, 2 * DEFAULT_CAP_USD_PER_MWH)
BITCOIN_PRICE = (1.0, 1e8)


@dataclass(frozen=True, slots=True, eq=False)
class HistoryTable:
    """A table `raw.NAME`: rows of a source, one a key, which holds the start; `step` is how long a row holds, where all do alike.

    `keeps` is how far back the source itself remembers: older days are never asked for again, since it would answer that there
    is nothing.
    """

    name: str
    source: str
    key: tuple[str, ...]
    model: Model
    step: timedelta | None = None
    keeps: timedelta | None = None

    @property
    def values(self) -> tuple[str, ...]:
        """The columns that may be revised: all that are not the key."""
        return tuple(column for column in self.model.columns if column not in self.key)

    @property
    def revisions(self) -> str:
        """The table of everything that was ever told of a key."""
        return f"{self.name}_revisions"

    @property
    def known(self) -> str:
        """The view that says what was known from when to when."""
        return f"{self.name}_known"


def key_of(table: str) -> str:
    """The asset of a table.

    >>> key_of("raw.ercot__rt_spp")
    'raw_ercot__rt_spp'
    """
    return table.replace(".", "_", 1)


HOUR, QUARTER = timedelta(hours=1), timedelta(minutes=15)
_PRICES = {START: INSTANT, "settlement_point": pl.String, "price_usd_per_mwh": pl.Float64, "source": pl.String}
_POINT_KEY = (START, "settlement_point")
_CANDLES = {
    START: INSTANT, "candle_s": pl.Int32, "open_usd": pl.Float64, "high_usd": pl.Float64, "low_usd": pl.Float64,
    "close_usd": pl.Float64, "volume_btc": pl.Float64, "source": pl.String,
}  # fmt: skip


def _on(step: timedelta) -> dict[str, pl.Expr]:
    """Starts lie on the clock's own steps."""
    return {f"starts every {step}": pl.col(START).dt.truncate(step) == pl.col(START)}


def _power(name: str, step: timedelta) -> HistoryTable:
    model = Model(_PRICES, _POINT_KEY, bounds={"price_usd_per_mwh": POWER_PRICE}, rules=_on(step))
    return HistoryTable(name, "ercot", _POINT_KEY, model, step)


def _series(name: str, source: str, kind: str, value: str, bounds: Bounds) -> HistoryTable:
    """An hourly series by one other column."""
    columns = {START: INSTANT, kind: pl.String, value: pl.Float64, "source": pl.String}
    model = Model(columns, (START, kind), bounds={value: bounds}, rules=_on(HOUR))
    return HistoryTable(name, source, (START, kind), model, HOUR)


def _candles(exchange: str, step: timedelta, keeps: timedelta | None = None) -> HistoryTable:
    spans = {
        "low is lowest": pl.col("low_usd") <= pl.min_horizontal("open_usd", "close_usd", "high_usd"),
        "high is highest": pl.col("high_usd") >= pl.max_horizontal("open_usd", "close_usd"),
    }
    prices = dict.fromkeys(("open_usd", "high_usd", "low_usd", "close_usd"), BITCOIN_PRICE)
    model = Model(_CANDLES, (START,), bounds={**prices, "volume_btc": (0.0, 1e7)}, rules=_on(step) | spans)
    return HistoryTable(f"raw.{exchange}__candles", exchange, (START,), model, step, keeps)


RT_SPP = _power("raw.ercot__rt_spp", QUARTER)
DA_SPP = _power("raw.ercot__da_spp", HOUR)
DA_CAPACITY = _series("raw.ercot__da_capacity", "ercot", "product", "price_usd_per_mw_h", (0.0, POWER_PRICE[1]))
ZONE_LOAD = _series("raw.ercot__zone_load", "ercot", "zone", "load_mw", (0.0, 150_000.0))
TEMPERATURE = _series("raw.open_meteo__temperature", "open_meteo", "place", "temperature_celsius", (-60.0, 60.0))
COINBASE = _candles("coinbase", HOUR)
KRAKEN = _candles(
    "kraken", 4 * HOUR, keeps=119 * 24 * HOUR
)  # the last 720 candles; a day less, so that no day is half there
BITSTAMP = _candles("bitstamp", HOUR)
BINANCE = _candles("binance", HOUR)
GEMINI = _candles("gemini", HOUR, keeps=59 * 24 * HOUR)  # the last 1,440 candles, less a day
EXCHANGES = (COINBASE, KRAKEN, BITSTAMP, BINANCE, GEMINI)
BLOCKS = HistoryTable(
    "raw.mempool__blocks",
    "mempool",
    (START, "height"),
    Model(
        {
            START: INSTANT, "height": pl.Int64, "difficulty": pl.Float64, "fees_btc": pl.Float64, "reward_btc": pl.Float64,
            "tx_count": pl.Int64, "source": pl.String,
        },
        ("height",),
        bounds={"height": (0, 1e8), "difficulty": (1.0, 1e18), "fees_btc": (0.0, 1000.0), "reward_btc": (0.0, 1050.0)},
        rules={"fees are part of the reward": pl.col("fees_btc") <= pl.col("reward_btc")},
    ),
)  # fmt: skip
SIGNALS = HistoryTable(
    "raw.hcp__grid_signals",
    "hcp",
    (START, "signal_id"),
    Model(
        {
            START: INSTANT, "signal_id": pl.Int64, "kind": pl.String, "level": pl.String, "market": pl.String,
            "facility_id": pl.String, "end_at": INSTANT, "payload": pl.String, "received_at": INSTANT, "source": pl.String,
        },
        ("signal_id",),
        nullable=frozenset({"facility_id", "end_at"}),
        rules={"ends after it starts": pl.col("end_at").is_null() | (pl.col("end_at") >= pl.col(START))},
    ),
)  # fmt: skip
OBLIGATIONS = HistoryTable(
    "raw.hcp__grid_obligations",
    "hcp",
    (START, "obligation_id"),
    Model(
        {
            START: INSTANT, "obligation_id": pl.Int64, "facility_id": pl.String, "programme": pl.String, "status": pl.String,
            "mw": pl.Float64, "tranche": pl.String, "end_at": INSTANT, "delivered_fraction": pl.Float64, "reason": pl.String,
            "source": pl.String,
        },
        ("obligation_id",),
        nullable=frozenset({"end_at", "delivered_fraction"}),
        bounds={"mw": (0.0, 1e5)},
        rules={"ends after it starts": pl.col("end_at").is_null() | (pl.col("end_at") > pl.col(START))},
    ),
)  # fmt: skip

_DAY = timedelta(days=1)
POOL_CREDITS = HistoryTable(
    "raw.pool__credits",
    "pool",
    (START, "worker"),
    Model(
        {
            START: INSTANT, "worker": pl.String, "facility_id": pl.String, "slot": pl.Int32, "hashrate_th_per_s": pl.Float64,
            "valid_shares": pl.Int64, "stale_shares": pl.Int64, "rejected_shares": pl.Int64, "source": pl.String,
        },
        (START, "worker"),
        nullable=frozenset({"facility_id", "slot", "valid_shares", "stale_shares", "rejected_shares"}),
        bounds={
            "hashrate_th_per_s": (0.0, 1e5), "slot": (0, 1e7), "valid_shares": (0, 1e12), "stale_shares": (0, 1e12),
            "rejected_shares": (0, 1e12),
        },
        rules=_on(_DAY),
    ),
    _DAY,
)  # fmt: skip

POOL_STATEMENTS = HistoryTable(
    "raw.pool__statements",
    "pool",
    (START,),
    Model(
        {
            START: INSTANT, "earned_btc": pl.Float64, "fee_fraction": pl.Float64, "luck_of_10_blocks": pl.Float64,
            "luck_of_50_blocks": pl.Float64, "luck_of_250_blocks": pl.Float64, "told_at": INSTANT, "source": pl.String,
        },
        (START,),
        nullable=frozenset({"fee_fraction", "luck_of_10_blocks", "luck_of_50_blocks", "luck_of_250_blocks"}),
        bounds={
            "earned_btc": (0.0, 1e5), "fee_fraction": (0.0, 1.0),
            **dict.fromkeys(("luck_of_10_blocks", "luck_of_50_blocks", "luck_of_250_blocks"), (0.0, 1e3)),
        },
        rules=_on(_DAY),
    ),
    _DAY,
)  # fmt: skip

ALL = (    RT_SPP, DA_SPP, DA_CAPACITY, ZONE_LOAD, TEMPERATURE, *EXCHANGES, BLOCKS, SIGNALS, OBLIGATIONS,
)  # fmt: skip
OPTIONAL = (POOL_CREDITS, POOL_STATEMENTS)  # of services that a platform may have none of
BY_NAME = {table.name: table for table in (*ALL, *OPTIONAL)}
