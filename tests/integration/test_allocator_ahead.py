"""A gateway ahead of Postgres, after a hostile announcement or a restored backup: its owner catches up by itself."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import psycopg
import pytest
from structlog.testing import capture_logs

from hcp_pipelines.allocator.lease_table import HIGHEST, PostgresLeases
from hcp_pipelines.allocator.locks import REASON, Locks
from hcp_pipelines.domain.fencing import CATCH_UP_MAX, JUMP_MAX
from hcp_pipelines.wire import edge_v1_pb2 as pb
from tests.integration.test_allocator_journal import fleet, owned_by  # noqa: F401 - a fixture
from tests.support.cli import hcp
from tests.support.edge import Owner, bits, until
from tests.support.gateway_site import bitmap
from tests.support.operated_site import FACILITY, OperatedSite

__all__ = ["hcp"]


@pytest.fixture
async def site(hcp, settings, database):
    path = Path(tempfile.mkdtemp(prefix="a", dir="/tmp"))
    with capture_logs():
        async with OperatedSite(hcp, path, settings, database) as running:
            yield running
    shutil.rmtree(path)


def epoch_of(database):
    return database.execute("select epoch from facility_leases where facility_id = %s", (FACILITY,)).fetchone()[0]


async def usurp(site, by):
    """Somebody who owns nothing announces an epoch that is `by` above the highest known."""
    epoch = site.facility.owners.epoch + by
    thief = Owner(site.gateway.address, FACILITY, "thief", epoch)
    await thief.own(lease_epoch=epoch, generation=site.inventory.generation)
    return thief, epoch


async def test_an_owner_whose_epoch_was_outbid_owns_its_facility_again_without_a_hand(site, database):
    await site.start_allocator()
    await usurp(site, JUMP_MAX)
    thief, epoch = await usurp(site, JUMP_MAX)
    await until(lambda: site.facility.owners.epoch > epoch, "the owner has announced a higher epoch")
    await until(lambda: site.owner is not None and site.owner.is_ready, "it is obeyed")
    assert site.facility.owners.owner == "allocator-a"
    assert epoch_of(database) == site.facility.owners.epoch == epoch + 1
    await thief.ended()
    await site.allocator._writer.drained()
    alerts = database.execute("select detail from audit_log where action = 'alert.epoch_behind'").fetchall()
    assert alerts[0][0]["highest_epoch"] > alerts[0][0]["epoch"]


async def test_after_postgres_was_restored_the_gateway_is_caught_up_with(site, database):
    _, epoch = await usurp(site, 50)  # as an allocator of before the restore
    await site.start_allocator()
    assert site.facility.owners.epoch == epoch_of(database) == epoch + 1


async def set_locks(thief, version, slots):
    message = pb.SetLocks(facility_id=FACILITY, epoch=thief.epoch, version=version, slots=bitmap(slots))
    await thief.call.write(pb.OwnerMessage(set_locks=message))
    await until(lambda: thief.of("locks_held"), "the gateway has answered")
    assert thief.of("locks_held")[-1].refusal == ""


def books(database):
    return database.execute("select lockouts_version from facilities where id = %s", (FACILITY,)).fetchone()[0]


async def test_locks_that_a_thief_lifted_are_held_again_and_later_ones_too(site, database):
    await site.start_allocator()
    await site.order("lock", FACILITY, "--device", "3,4", "--reason", "hands inside")
    await until(lambda: bits(site.facility.state().locked) == [3, 4], "the gateway holds them")
    thief, _ = await usurp(site, 5)
    await set_locks(thief, site.facility.state().locks_version + JUMP_MAX, [])
    await until(lambda: bits(site.facility.state().locked) == [3, 4], "they are held again")
    await site.order("lock", FACILITY, "--device", "9", "--reason", "x")
    await until(lambda: bits(site.facility.state().locked) == [3, 4, 9], "and so is a later one")
    assert site.facility.state().locks_version == books(database) > JUMP_MAX
    assert database.execute("select count(*) from lockouts").fetchone() == (2,)


async def test_what_only_the_gateway_knows_to_be_locked_stays_so_until_an_admin_lifts_it(site, database):
    await site.order("lock", FACILITY, "--device", "3", "--reason", "of the backup")
    earlier, _ = await usurp(site, 5)
    await set_locks(earlier, 40, [3, 7, 8])
    await site.start_allocator()
    rows = database.execute("select holder, reason from lockouts order by id").fetchall()
    assert rows == [("ann", "of the backup"), (f"gateway of {FACILITY}", REASON)]
    await until(
        lambda: site.facility.state().locks_version == books(database) > 40, "the gateway follows the books", 60
    )
    assert bits(site.facility.state().locked) == [3, 7, 8]
    await site.order("unlock", "2", by="ann", code=1)
    await site.order("unlock", "2", by="root")
    await until(lambda: bits(site.facility.state().locked) == [3], "lifted")
    await site.allocator._writer.drained()
    told = database.execute("select detail from audit_log where action = 'alert.locks_behind'").fetchall()
    assert told == [({"version": 1, "held": 40, "devices": 2},)]


@pytest.mark.parametrize(
    ("version", "slots", "expected"),
    [
        (0, [], None),
        (4, [1], None),
        (9, [1, 2], None),
        (4, [1, 2], (4, [])),
        (4, [], (4, [])),
        (3, [1, 2], (4, [])),
        (3, [2], (4, [1])),
        (0, [], (4, [1])),
    ],
)
def test_a_gateway_is_ahead_by_a_version_or_by_other_slots_of_the_same(version, slots, expected):
    locks, there = Locks("one"), np.arange(10)
    if (version, expected) != (0, None):
        locks.adopt(4, there == 1)
    found = locks.ahead(version, np.isin(there, slots))
    assert (found and (found.version, bits(found.slots))) == expected


@pytest.mark.parametrize(
    ("name", "epoch", "highest", "raised"),
    [
        ("allocator-a", 7, 7, 8),
        ("allocator-a", 7, 40, 41),
        ("allocator-a", 7, 10**15, 7 + CATCH_UP_MAX),
        ("allocator-a", 7, 2**64 - 1, 7 + CATCH_UP_MAX),
        ("allocator-a", 7, 6, None),
        ("allocator-a", 6, 40, None),
        ("allocator-b", 7, 40, None),
    ],
)
async def test_only_the_owner_raises_its_lease_and_only_upwards(fleet, database, name, epoch, highest, raised):  # noqa: F811
    owned_by(database, "allocator-a", 7)
    table = PostgresLeases(fleet)
    try:
        assert await table.outgrow(name, "hou-1", epoch, highest) == raised
    finally:
        await table.close()
    row = database.execute("select owner, epoch from facility_leases where facility_id = 'hou-1'").fetchone()
    assert row == ("allocator-a", raised or 7)


async def test_a_lease_that_has_ended_is_not_raised_and_the_last_epochs_are_nobodys(fleet, database):  # noqa: F811
    table = PostgresLeases(fleet)
    try:
        owned_by(database, "allocator-a", 7, for_s=-1)
        assert await table.outgrow("allocator-a", "hou-1", 7, 40) is None
        owned_by(database, "allocator-a", HIGHEST)
        assert await table.outgrow("allocator-a", "hou-1", HIGHEST, 2**64 - 1) == HIGHEST + 1
    finally:
        await table.close()


@pytest.mark.parametrize("change", ["epoch = 6", "owner = 'allocator-b'", "owner = 'allocator-b', epoch = 6"])
async def test_no_statement_gives_an_epoch_twice_or_a_lower_one(fleet, database, change):  # noqa: F811
    owned_by(database, "allocator-a", 7)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="epochs only grow"):
        database.execute(f"update facility_leases set {change} where facility_id = 'hou-1'")
    database.execute("update facility_leases set owner = 'allocator-b', epoch = 8 where facility_id = 'hou-1'")
