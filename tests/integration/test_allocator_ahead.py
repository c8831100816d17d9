"""A gateway ahead of Postgres, after a hostile announcement or a restored backup: its owner catches up by itself."""

import shutil
import tempfile
from pathlib import Path

import psycopg
import pytest
from structlog.testing import capture_logs

from hcp_pipelines.allocator.lease_table import HIGHEST, PostgresLeases
from hcp_pipelines.domain.fencing import CATCH_UP_MAX, JUMP_MAX
from tests.integration.test_allocator_journal import fleet, owned_by  # noqa: F401 - a fixture
from tests.support.cli import hcp
from tests.support.edge import Owner, until
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
    await until(lambda: site.facility.owners.epoch > epoch, "the owner has announced a higher epoch", 60)
    await until(lambda: site.owner is not None and site.owner.is_ready, "it is obeyed", 60)
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
