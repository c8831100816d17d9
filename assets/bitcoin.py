"""Bitcoin history by UTC day: candles of each exchange, the chain's blocks, and what the network was on each day."""

import dagster as dg
import polars as pl

from assets.daily import fetched
from hcp_pipelines.orchestration.history import fetch, tables
from hcp_pipelines.orchestration.resources import Platform

GROUP, KINDS = "bitcoin", {"polars"}


@fetched(tables.COINBASE, GROUP, KINDS)
def raw_coinbase__candles(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """BTC-USD on Coinbase: one row an hour."""
    return fetch.coinbase_candles(platform.settings(), context.partition_time_window, platform.clock().now())


@fetched(tables.KRAKEN, GROUP, KINDS)
def raw_kraken__candles(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """XBT/USD on Kraken: one row every four hours; it keeps 720 of them, so that older days can't be fetched any more."""
    return fetch.kraken_candles(platform.settings(), context.partition_time_window, platform.clock().now())


@fetched(tables.BITSTAMP, GROUP, KINDS)
def raw_bitstamp__candles(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """BTC/USD on Bitstamp: one row an hour."""
    return fetch.bitstamp_candles(platform.settings(), context.partition_time_window, platform.clock().now())


@fetched(tables.BINANCE, GROUP, KINDS)
def raw_binance__candles(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """BTC/USDT on Binance: one row an hour."""
    return fetch.binance_candles(platform.settings(), context.partition_time_window, platform.clock().now())


@fetched(tables.GEMINI, GROUP, KINDS)
def raw_gemini__candles(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """BTC/USD on Gemini: one row an hour; it keeps 1,440 of them, so that older days can't be fetched any more."""
    return fetch.gemini_candles(platform.settings(), context.partition_time_window, platform.clock().now())


@fetched(tables.BLOCKS, GROUP, KINDS)
def raw_mempool__blocks(context: dg.AssetExecutionContext, platform: Platform) -> pl.DataFrame:
    """Blocks by their own stamp, with difficulty, fees and reward: one row a block."""
    return fetch.blocks(platform.settings(), context.partition_time_window)
