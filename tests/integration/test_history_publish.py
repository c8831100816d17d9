"""Write, audit, publish on a real lake: revisions, what was known when, bad rows kept beside; real corrected days."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from hcp_pipelines.domain.errors import MarketError, StorageError
from hcp_pipelines.markets.central import operating_day
from hcp_pipelines.orchestration.history import tables
from hcp_pipelines.orchestration.history.publish import PUBLISHED, REJECTED, Run, publish
from hcp_pipelines.storage import lake

DAY = datetime(2024, 1, 15, tzinfo=UTC)
HOUR, DAYS = timedelta(hours=1), timedelta(days=1)
WINDOW = (DAY, DAY + DAYS)
RECORDED = Path(__file__).parents[3] / "shared" / "data" / "ercot"
TABLE = tables.DA_SPP


@pytest.fixture
def ours(postgres):
    yield postgres
    with lake.attach(postgres) as connection:
        connection.execute(f"drop view if exists lake.{TABLE.known}")
        for name in (TABLE.name, TABLE.revisions, REJECTED, PUBLISHED):
            connection.execute(f"drop table if exists lake.{name}")


def prices(*values, start=DAY, point="HB_HUBAVG"):
    rows = [(start + n * HOUR, point, value, "ERCOT") for n, value in enumerate(values)]
    return pl.DataFrame(rows, schema=dict(TABLE.model.columns), orient="row")


def told(settings, frame, hours_later=0, window=WINDOW, run="one"):
    return publish(settings, TABLE, frame, window, Run(run, DAY + DAYS + hours_later * HOUR))


def ask(settings, sql, *parameters):
    with lake.attach(settings, read_only=True) as connection:
        return connection.execute(sql, list(parameters)).fetchall()


def latest(settings):
    return [row[0] for row in ask(settings, f"select price_usd_per_mwh from lake.{TABLE.name} order by start_at")]


def known(settings, at):
    sql = f"""select price_usd_per_mwh from lake.{TABLE.known}
              where known_at <= $1 and (known_until is null or known_until > $1) order by start_at"""
    return [row[0] for row in ask(settings, sql, at)]


def test_a_re_run_replaces_and_what_it_replaced_is_known_still(ours):
    assert told(ours, prices(10, 20, 30)).rows == 3
    done = told(ours, prices(10, 25, 30), hours_later=2)
    assert (done.rows, done.revised, done.withdrawn) == (3, 1, 0)
    assert latest(ours) == [10, 25, 30]
    assert known(ours, DAY + DAYS + HOUR) == [10, 20, 30]
    assert known(ours, DAY + DAYS + 2 * HOUR) == [10, 25, 30]
    assert known(ours, DAY) == []
    before = ask(ours, f"from lake.{TABLE.revisions} order by all")
    assert told(ours, prices(10, 25, 30), hours_later=3).revised == 0
    assert ask(ours, f"from lake.{TABLE.revisions} order by all") == before, "the same again is no revision"


def test_what_a_source_takes_back_is_withdrawn_and_may_come_again(ours):
    told(ours, prices(10, 20, 30))
    assert told(ours, prices(10, 20), hours_later=1).withdrawn == 1
    assert (latest(ours), known(ours, DAY + DAYS)) == ([10, 20], [10, 20, 30])
    assert told(ours, prices(10, 20), hours_later=2).withdrawn == 0
    told(ours, prices(10, 20, 30), hours_later=3)
    assert (latest(ours), known(ours, DAY + DAYS + 2 * HOUR)) == ([10, 20, 30], [10, 20])


def test_a_source_that_says_nothing_of_a_known_day_empties_nothing(ours):
    both = (DAY, DAY + 2 * DAYS)
    told(ours, pl.concat([prices(10, 20), prices(5, start=DAY + DAYS)]), window=both)
    with pytest.raises(MarketError, match=r"tells nothing of 1 days .* the first is 2024-01-16: nothing was replaced"):
        told(ours, prices(11, 21), window=both)
    assert latest(ours) == [10, 20, 5]


def test_bad_rows_reach_no_reader_and_are_kept_with_the_reason(ours):
    told(ours, prices(10, 20, 30))
    bad = pl.concat(
        [prices(10, 25, float("nan"), 1e6), prices(1.0, start=DAY + timedelta(minutes=20)), prices(2, start=DAY - HOUR)]
    )
    done = told(ours, bad, hours_later=1, run="two")
    assert (done.rows, done.rejected, done.revised, done.withdrawn) == (3, 4, 1, 0)
    assert latest(ours) == [10, 25, 30], "the last good value of the hour stays"
    rows = ask(ours, f'select "row", reason, run_id from lake.{REJECTED} where "table" = ? order by reason', TABLE.name)
    assert len(rows) == 4
    assert {json.loads(row)["settlement_point"] for row, *_ in rows} == {"HB_HUBAVG"}
    reasons = " / ".join(reason for _, reason, _ in rows)
    for said in ("not_nullable", "in_range(-1000.0, 10000.0)", "starts every 1:00:00", "not of the days"):
        assert said in reasons
    told(ours, bad, hours_later=2, run="three")
    assert len(ask(ours, f"from lake.{REJECTED}")) == 4, "the same row for the same reason is kept once"
    days = ask(ours, f"select run_id, rows, rejected, revised from lake.{PUBLISHED} order by published_at")
    assert days == [("one", 3, 0, 0), ("two", 3, 4, 1), ("three", 3, 4, 0)]


def test_two_prices_for_one_hour_are_both_refused(ours):
    done = told(ours, pl.concat([prices(10, 20), prices(10, 21)]))
    assert (latest(ours), done.rejected) == ([10], 2)


def test_another_table_s_columns_change_nothing(ours):
    told(ours, prices(10))
    with pytest.raises(
        StorageError, match=r"not the table's columns: price_usd_per_mwh: dtype.*Has the source changed"
    ):
        told(ours, prices(10).with_columns(pl.col("price_usd_per_mwh").cast(pl.String)))
    with pytest.raises(StorageError, match="column_in_dataframe"):
        told(ours, prices(10).drop("source"))
    assert latest(ours) == [10]


@pytest.mark.shared_data
def test_real_prices_first_posted_then_corrected(ours):
    """Day-ahead prices of January 2024 as one copy has them, then as another does: 166 hours of eight days differ."""
    first, later = (RECORDED / name for name in ("ercot_da_hourly_hubavg.parquet", "ercot_da_rt_hourly_3hubs.parquet"))
    if not (first.exists() and later.exists()):
        pytest.skip(f"no recorded prices in {RECORDED}")
    window = (datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC))
    posted, corrected = (recorded(path, window) for path in (first, later))
    assert told(ours, posted, window=window).rows == len(posted) == 30 * 24
    done = told(ours, corrected, hours_later=24 * 30, window=window)
    assert (done.rejected, done.withdrawn) == (0, 0)
    changed = posted.join(corrected, on="start_at").filter(
        pl.col("price_usd_per_mwh") != pl.col("price_usd_per_mwh_right")
    )
    assert done.revised == len(changed) > 100
    large = changed.filter((pl.col("price_usd_per_mwh") - pl.col("price_usd_per_mwh_right")).abs() > 0.011)
    days = {f"{operating_day(at):%d}" for at in large["start_at"]}
    assert days == {"10", "15", "17", "18", "19", "20", "23", "25"}
    assert latest(ours) == corrected["price_usd_per_mwh"].to_list()
    assert known(ours, DAY + DAYS) == posted["price_usd_per_mwh"].to_list()


def recorded(path, window):
    frame = pl.read_parquet(path).filter(
        (pl.col("settlement_point") == "HB_HUBAVG") & pl.col("interval_start_utc").is_between(*window, closed="left")
    )
    return frame.sort("interval_start_utc").select(
        pl.col("interval_start_utc").alias("start_at"), "settlement_point",
        pl.col("da_price_usd_per_mwh").round(2).alias("price_usd_per_mwh"), pl.lit("ERCOT").alias("source"),
    )  # fmt: skip
