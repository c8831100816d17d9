"""EC-09: prices are stored once and announced, the latest are found, the history is read back in order."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from hcp_pipelines.domain.ticks import Quality, Stream, Tick
from hcp_pipelines.storage import statements
from hcp_pipelines.storage.postgres import connect, dsn
from hcp_pipelines.storage.prices import (
    MAX_BATCH_ROWS,
    get_latest_prices,
    get_price_history,
    recent_ticks,
    settlement_points,
    split_revisions,
    store_price_data,
)
from hcp_pipelines.storage.roles import Role

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


def power(value, minutes=0, series="HB_HOUSTON", source="ERCOT", **more):
    return Tick(Stream.POWER_RT_LMP, series, NOON + timedelta(minutes=minutes), value, "USD/MWh", source, **more)


def gpu(value, kind, source, minutes=0):
    return Tick(Stream.GPU_SPOT, kind, NOON + timedelta(minutes=minutes), value, "USD/h", source)


@pytest.fixture
async def feed(settings):
    """A connection with the rights of the feed."""
    async with await psycopg.AsyncConnection.connect(dsn(settings, Role.FEED), autocommit=True) as connection:
        yield connection


@pytest.fixture
def reader(settings):
    with connect(settings, Role.OPERATOR) as connection:
        yield connection


def values(ticks):
    return [(tick.series, tick.value) for tick in ticks]


async def test_what_is_stored_comes_back_as_it_was(feed, reader):
    tick = power(
        float("1234567.875"), quality=Quality.UNUSUAL, metadata={"quality_reason": "above the cap", "market": "RT"}
    )
    [stored] = await store_price_data(feed, [tick])
    [found] = get_latest_prices(reader)
    assert (found.stream, found.series, found.source_at, found.value) == (tick.stream, tick.series, NOON, 1234567.875)
    assert (found.unit, found.source, found.quality, found.revision) == ("USD/MWh", "ERCOT", Quality.UNUSUAL, 0)
    assert found.metadata == tick.metadata
    assert found.id == stored.id
    row = reader.execute("select price_type, region, received_at from price_data").fetchone()
    assert row == ("electricity", "HB_HOUSTON", NOON)


async def test_a_repeated_batch_changes_nothing(feed, reader):
    batch = [power(20.0), power(21.0, 5), power(19.0, series="HB_NORTH")]
    assert len(await store_price_data(feed, batch)) == 3
    assert await store_price_data(feed, batch) == []
    assert await store_price_data(feed, []) == []
    assert reader.execute("select count(*) from price_data").fetchone() == (3,)


async def test_another_value_of_an_instant_is_its_next_revision(feed, reader):
    for value, revision in ((20.0, 0), (22.0, 1), (20.0, 2)):
        [stored] = await store_price_data(feed, [power(value)])
        assert stored.revision == revision
    assert await store_price_data(feed, [power(20.0)]) == []
    assert values(get_latest_prices(reader)) == [("HB_HOUSTON", 20.0)]
    assert [
        (t.value, t.revision) for t in get_price_history(reader, "electricity", NOON, NOON + timedelta(hours=1))
    ] == [(20.0, 2)]


async def test_two_feeds_at_once_record_a_value_once(settings, feed, database):
    waiting = "select count(*) from pg_stat_activity where usename = 'hcp_feed' and wait_event_type = 'Lock'"
    async with await psycopg.AsyncConnection.connect(dsn(settings, Role.FEED), autocommit=True) as other:
        async with asyncio.timeout(120), other.transaction():
            first = await store_price_data(other, [power(20.0)])
            second = asyncio.create_task(store_price_data(feed, [power(20.0)]))
            while database.execute(waiting).fetchone() == (0,):
                await asyncio.sleep(0.005)
        assert (len(first), await second) == (1, [])
    assert database.execute("select count(*) from price_data").fetchone() == (1,)


def test_revisions_are_split_into_batches_in_order():
    ticks = [power(1.0), power(2.0, 5), power(3.0), power(4.0), power(5.0, 5)]
    assert [[t.value for t in batch] for batch in split_revisions(ticks)] == [[1.0, 2.0], [3.0], [4.0, 5.0]]


async def test_a_batch_beyond_the_limit_is_refused_by_number(feed):
    ticks = [power(1.0, n) for n in range(MAX_BATCH_ROWS + 1)]
    with pytest.raises(ValueError, match="5001 ticks in one batch, the limit is 5000"):
        await store_price_data(feed, ticks)


async def test_the_latest_is_by_source_and_gpu_type_and_never_absurd(feed, reader):
    await store_price_data(feed, [gpu(2.0, "H100", "a"), gpu(1.0, "A100", "a"), gpu(2.5, "H100", "b", 1)])
    await store_price_data(feed, [gpu(2.2, "H100", "a", 2), power(20.0)])
    await store_price_data(feed, [power(9e9, 5, quality=Quality.ABSURD), power(1.0, -5, quality=Quality.OUT_OF_ORDER)])
    found = [(t.series, t.source, t.value) for t in get_latest_prices(reader, "gpu_spot")]
    assert found == [("A100", "a", 1.0), ("H100", "a", 2.2), ("H100", "b", 2.5)]
    assert values(get_latest_prices(reader, "electricity")) == [("HB_HOUSTON", 20.0)]
    assert len(get_latest_prices(reader)) == 4
    assert get_latest_prices(reader, "btc") == []


async def test_the_history_is_ascending_half_open_and_of_one_type(feed, reader):
    await store_price_data(feed, [power(float(n), n) for n in (10, 0, 5, 15)])
    await store_price_data(feed, [gpu(2.0, "H100", "a", 5), power(9e9, 7, quality=Quality.ABSURD)])
    found = get_price_history(reader, "electricity", NOON, NOON + timedelta(minutes=15))
    assert [t.value for t in found] == [0.0, 5.0, 10.0]


async def test_a_history_beyond_the_limit_is_refused_rather_than_cut(feed, reader, monkeypatch):
    monkeypatch.setattr(statements, "HISTORY_ROW_LIMIT", 3)
    await store_price_data(feed, [power(float(n), n) for n in range(4)])
    assert len(get_price_history(reader, "electricity", NOON, NOON + timedelta(minutes=3))) == 3
    with pytest.raises(ValueError, match="more than 3 rows of electricity: read a shorter window"):
        get_price_history(reader, "electricity", NOON, NOON + timedelta(minutes=9))


async def test_actionable_ticks_are_announced_once_a_batch(settings, feed):
    async with await psycopg.AsyncConnection.connect(dsn(settings, Role.ALLOCATOR), autocommit=True) as listener:
        await listener.execute("listen hcp_tick")
        await store_price_data(feed, [power(9e9, quality=Quality.ABSURD)])
        await store_price_data(feed, [power(1.0, 5), gpu(2.0, "H100", "a")])
        await store_price_data(feed, [power(1.0, 5)])
        newest = (await store_price_data(feed, [power(2.0, 10)]))[0].id
        told = [n.payload async for n in listener.notifies(timeout=60, stop_after=2)]
    assert len(told) == 2, "the absurd one and the repeated one are not announced"
    assert '"gpu.spot"' in told[0]
    assert '"power.rt_lmp"' in told[0]
    assert f'"id" : {newest}' in told[1]


async def test_what_a_restarted_feed_remembers(feed, database):
    await store_price_data(feed, [power(float(n), n) for n in range(6)] + [gpu(2.0, "H100", "a")])
    remembered = await recent_ticks(feed, rows_per_series=2)
    assert sorted(values(remembered)) == [("H100", 2.0), ("HB_HOUSTON", 4.0), ("HB_HOUSTON", 5.0)]
    assert await settlement_points(feed) == []
