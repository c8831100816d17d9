"""Prices fetched as history: known since they were published, and a corrected one since it was corrected."""

from datetime import UTC, datetime, timedelta

import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.ticks import Stream
from hcp_pipelines.forecasting.known_prices import as_of, history_known

START = datetime(2025, 2, 20, tzinfo=UTC)
CORRECTED_AT = START + timedelta(days=2)
QUARTER = timedelta(minutes=15)


def told(*rows):
    """(quarters after the start, price, revision): first words are known whenever they were fetched, a week later."""
    frame = pl.DataFrame(
        [(START + n * QUARTER, "HB_TEST", usd, revision) for n, usd, revision in rows],
        schema={
            "start_at": INSTANT,
            "settlement_point": pl.String,
            "price_usd_per_mwh": pl.Float64,
            "revision": pl.Int32,
        },
        orient="row",
    )
    known = pl.when(pl.col("revision") == 0).then(START + timedelta(days=7)).otherwise(CORRECTED_AT)
    return frame.with_columns(known.cast(INSTANT).alias("known_at"))


def prices(frame, at):
    return dict(as_of(frame, at).select("start_at", "price_usd_per_mwh").sort("start_at").iter_rows())


def test_a_corrected_price_is_what_it_was_until_it_was_corrected():
    corrected = told((1, 55.0, 0), (1, 5.0, 1), (2, 60.0, 0), (2, None, 1))
    newest = told((0, 40.0, 0), (1, 5.0, 1)).select("start_at", "settlement_point", "price_usd_per_mwh")
    found = history_known(newest, corrected, Stream.POWER_RT_SPP)
    first, second, third = (START + n * QUARTER for n in range(3))
    assert prices(found, second) == {first: 40.0}
    assert prices(found, CORRECTED_AT - QUARTER) == {first: 40.0, second: 55.0, third: 60.0}
    assert prices(found, CORRECTED_AT) == {first: 40.0, second: 5.0}, "the third was withdrawn"


def test_without_corrections_prices_are_known_when_their_interval_or_the_publication_is_over():
    newest = told((0, 40.0, 0)).select("start_at", "settlement_point", "price_usd_per_mwh")
    real_time, day_ahead = (
        history_known(newest, told(), stream)["known_at"].item()
        for stream in (Stream.POWER_RT_SPP, Stream.POWER_DA_SPP)
    )
    assert real_time == START + QUARTER
    assert day_ahead == datetime(2025, 2, 18, 19, 30, tzinfo=UTC), "13:30 Central of the day before the local one"
