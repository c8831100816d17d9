"""One series of ticks and history by UTC day. What comes before what, and why: `hcp_pipelines.orchestration.history.joined`."""

import dagster as dg
import polars as pl

from assets.bitcoin import (
    raw_binance__candles,
    raw_bitstamp__candles,
    raw_coinbase__candles,
    raw_gemini__candles,
    raw_kraken__candles,
    raw_mempool__blocks,
)
from assets.daily import joined
from assets.ercot import raw_ercot__rt_spp
from hcp_pipelines.orchestration.history.joined import network_days, rental_rates, settled_prices
from hcp_pipelines.orchestration.resources import Platform


@joined("market", [raw_ercot__rt_spp, "raw_hcp__price_ticks"])
def core_power__settled_prices(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Settled power prices of the best origin there is (history, tick, mean of LMPs): one row a 15-minute interval and point."""
    found = settled_prices(platform.settings(), context.partition_time_window)
    counts = dict(found.group_by("origin").len().iter_rows())
    context.add_output_metadata({f"from_{origin}": count for origin, count in counts.items()})
    return found


CANDLES = [
    raw_coinbase__candles, raw_kraken__candles, raw_bitstamp__candles, raw_binance__candles, raw_gemini__candles,
]  # fmt: skip


@joined("bitcoin", [raw_mempool__blocks, *CANDLES])
def core_bitcoin__network(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """The bitcoin network by day: blocks, difficulty, fees, issuance, hashrate, price, hashprice. One row a day."""
    return network_days(platform.settings(), context.partition_time_window, platform.clock().now())


@joined("market", ["raw_hcp__price_ticks"])
def core_gpu__rental_rates(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """GPU rental rates as the feed recorded them: one row an hour and GPU type."""
    return rental_rates(platform.settings(), context.partition_time_window)
