"""An owner's obligations on a real server: read with the grid's word, written under a lease alone, nothing lost on the way."""

import math
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from hcp_pipelines.allocator.obligation_table import read_obligations, write_obligation
from hcp_pipelines.allocator.obligations import ObligationBook
from hcp_pipelines.allocator.site import site_of
from hcp_pipelines.domain.modes import DispatchRegime
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.inventory import load_inventory
from hcp_pipelines.policy.obligations import Status
from hcp_pipelines.storage.postgres import dsn
from hcp_pipelines.storage.roles import Role

AT = datetime(2025, 1, 1, 12, tzinfo=UTC)
NOW_S = AT.timestamp()
SITE, ME = "hou-1", "allocator-a"


@pytest.fixture
def fleet(settings, database):
    document = demo_facilities(1, 60)[0]
    apply(database, document.model_copy(update={"dispatch_regime": DispatchRegime.CLR_BASE_POINT}), "test")
    lease(database)
    return settings


@pytest.fixture
async def connection(fleet):
    async with await psycopg.AsyncConnection.connect(dsn(fleet, Role.ALLOCATOR), autocommit=True) as opened:
        yield opened


@pytest.fixture
def book(fleet, database):
    inventory = load_inventory(database, SITE)
    return ObligationBook(site_of(inventory, inventory.capacity_mw, "unix:/nowhere"))


def lease(database, owner=ME, epoch=3, for_s=60):
    database.execute("delete from facility_leases where facility_id = %s", (SITE,))
    database.execute(
        "insert into facility_leases (facility_id, owner, epoch, expires_at) values (%s, %s, %s, now() + %s)",
        (SITE, owner, epoch, timedelta(seconds=for_s)),
    )


def award(database, mw=0.05, hours=4):
    row = database.execute(
        """insert into grid_obligations (facility_id, programme, status, mw, during, baseline_rule, notice_s, duration_s,
               recovery_s) values (%s, 'ECRS', 'awarded', %s, tstzrange(%s, %s), 'meter', 60, 3600, 600) returning id""",
        (SITE, mw, AT, AT + timedelta(hours=hours)),
    )
    return row.fetchone()[0]


def signal(database, kind, payload, after_s):
    at = AT + timedelta(seconds=after_s)
    database.execute(
        """insert into grid_signals (kind, facility_id, payload, source, source_event_id, effective_at, received_at)
           values (%s, %s, %s, 'ercot', %s, %s, %s)""",
        (kind, SITE, psycopg.types.json.Jsonb(payload), f"{kind}-{after_s}", at, at),
    )


def row(database, number, columns="status, baseline_mw, delivered_fraction, reason"):
    return database.execute(f"select {columns} from grid_obligations where id = %s", (number,)).fetchone()


async def write_all(connection, book, monotonic_s=0.0, owner=ME, epoch=3):
    done = []
    for before, after in book.to_write(monotonic_s):
        done.append(await write_obligation(connection, owner, epoch, before, after))
        book.written(after)
    return done


async def read(connection):
    return (await read_obligations(connection, [SITE]))[SITE]


async def test_a_whole_event_is_in_the_books_from_award_to_armed_again(database, connection, book):
    number = award(database)
    book.take(await read(connection))
    assert book.advance(NOW_S, 0.20)[0].status is Status.ARMED
    signal(database, "deploy", {"obligation_id": number}, 100)
    book.take(await read(connection))
    book.advance(NOW_S + 100, 0.20)
    assert await write_all(connection, book) == [True], "two steps, one write"
    assert row(database, number) == ("deployed", 0.20, None, "")
    for after_s in range(160, 400, 30):
        book.advance(NOW_S + after_s, 0.148)
    assert await write_all(connection, book, monotonic_s=10.0) == [True]
    assert row(database, number)[2] == pytest.approx(1.04)
    signal(database, "recall", {"obligation_id": number}, 400)
    book.take(await read(connection))
    book.advance(NOW_S + 400, 0.148)
    book.advance(NOW_S + 1100, 0.20)
    await write_all(connection, book)
    assert row(database, number)[0::3] == ("armed", "met")
    version = database.execute("select obligations_version from facilities where id = %s", (SITE,)).fetchone()[0]
    assert version >= 3, "a policy solved before is told apart"


async def test_a_deployment_and_its_recall_that_are_read_in_one_go_are_an_event_that_was_recalled(
    database, connection, book
):
    number = award(database)
    signal(database, "deploy", {"obligation_id": number}, 100)
    signal(database, "recall", {"obligation_id": number}, 101)
    book.take(await read(connection))
    assert [o.status for o in book.advance(NOW_S + 102, 0.20)] == [Status.RECOVERING]
    assert await write_all(connection, book) == [True]
    assert row(database, number, "status, recalled_at - deployed_at") == ("recovering", timedelta(seconds=1))
    book.take(await read(connection))
    book.advance(NOW_S + 800, 0.20)
    await write_all(connection, book)
    assert row(database, number)[0::3] == ("armed", "met")
    book.take(await read(connection))
    assert book.advance(NOW_S + 810, 0.20) == [], "what was recalled is not called again"


async def test_a_gateway_is_told_what_to_keep_on_should_it_be_cut_off(database, connection, book):
    assert not book.floors().floors
    number = award(database)
    for status in (Status.AWARDED, Status.ARMED):
        book.take(await read(connection))
        assert book.obligations[number].status is status
        told = book.floors()
        (floor,) = told.floors
        assert (floor.mw, floor.end_s) == (pytest.approx(0.05), NOW_S + 4 * 3600)
        assert floor.start_s < NOW_S, "its load is on when it begins"
        book.advance(NOW_S, 0.2)
    counts = {g for g, counts in zip(book._site.shape.group_ids, book.sheddable, strict=True) if counts}
    assert set(told.floors[0].sheddable) == counts != set()
    signal(database, "deploy", {"obligation_id": number}, 0)
    book.take(await read(connection))
    book.advance(NOW_S, 0.2)
    assert book.obligations[number].status is Status.DEPLOYED
    assert not book.floors().floors


@pytest.mark.parametrize(("owner", "epoch", "for_s"), [("allocator-b", 3, 60), (ME, 4, 60), (ME, 3, -1)])
async def test_without_a_lease_that_stands_nothing_is_written(database, connection, book, owner, epoch, for_s):
    number = award(database)
    book.take(await read(connection))
    book.advance(NOW_S, 0.2)
    lease(database, owner, epoch, for_s)
    assert await write_all(connection, book) == [False]
    assert row(database, number)[0] == "awarded"
    book.take(await read(connection))
    assert book.obligations[number].status is Status.AWARDED, "what is read next holds"


async def test_a_step_that_postgres_could_not_take_is_kept_and_written_later(database, connection, book, fleet):
    number = award(database)
    book.take(await read(connection))
    book.advance(NOW_S, 0.2)
    database.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'hcp_allocator'")
    with pytest.raises(psycopg.Error):
        await write_all(connection, book)
    async with await psycopg.AsyncConnection.connect(dsn(fleet, Role.ALLOCATOR), autocommit=True) as again:
        book.take(await read(again))
        assert book.obligations[number].status is Status.ARMED, "the row says awarded still, the step holds"
        assert book.floor_mw() == pytest.approx(0.05)
        assert await write_all(again, book) == [True]
    assert row(database, number)[0] == "armed"


async def test_samples_since_the_last_write_survive_what_is_read_and_a_successor_has_those_before(
    database, connection, book
):
    number = award(database)
    signal(database, "deploy", {"obligation_id": number}, 0)
    book.take(await read(connection))
    book.advance(NOW_S, 0.2)
    book.advance(NOW_S + 65, 0.2, metered_at_s=NOW_S + 55)
    assert book.obligations[number].delivery.least == math.inf, "read before the deadline, whenever it is told"
    book.advance(NOW_S + 70, 0.14)
    await write_all(connection, book)
    book.advance(NOW_S + 100, 0.16)
    book.take(await read(connection))
    assert book.obligations[number].delivery.least == pytest.approx(0.8)
    successor = (await read(connection)).obligations[0]
    assert (successor.status, successor.baseline_mw) == (Status.DEPLOYED, 0.2)
    assert successor.delivery.least == pytest.approx(1.2)


async def test_what_was_withdrawn_meanwhile_is_let_go(database, connection, book):
    number = award(database)
    book.take(await read(connection))
    book.advance(NOW_S, 0.2)
    database.execute("update grid_obligations set status = 'withdrawn' where id = %s", (number,))
    assert await write_all(connection, book) == [False]
    book.take(await read(connection))
    assert book.obligations == {}
    assert row(database, number)[0] == "withdrawn"


async def test_the_newest_base_point_holds_and_nonsense_is_none(database, connection, book):
    for after_s, mw in ((0, 0.1), (60, 0.08)):
        signal(database, "base_point", {"mw": mw}, after_s)
    book.take(await read(connection))
    assert [d.cap_mw for d in book.directives(NOW_S + 61)] == [0.08]
    assert book.wants_meter
    signal(database, "base_point", {"mw": -3}, 90)
    assert (await read(connection)).base_point is None
