"""What an owner does as soon as it is one, or can read again: without a tick, a notification, or the intake's next look."""

import shutil
import tempfile
from pathlib import Path

import psycopg
import pytest
from structlog.testing import capture_logs

from hcp_pipelines.allocator import store
from tests.support.cli import hcp
from tests.support.edge import until
from tests.support.operated_site import FACILITY, OperatedSite

__all__ = ["hcp"]


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    yield path
    shutil.rmtree(path)


async def test_policies_are_read_once_the_gateway_has_spoken_whatever_the_intake_waits_for(
    hcp, folder, settings, database, monkeypatch
):
    monkeypatch.setattr(store, "POLL_S", 600.0)
    with capture_logs():
        async with OperatedSite(hcp, folder, settings, database) as site:
            site.publish_policy()
            await site.start_allocator()
            await until(lambda: site.owner.in_force is not None, "the owner has a policy")


async def test_a_gateway_that_moved_while_postgres_could_not_be_read_is_found(
    hcp, folder, settings, database, monkeypatch
):
    async with OperatedSite(hcp, folder, settings, database) as site:
        with capture_logs():
            await site.start_allocator()
            intake, failures = site.allocator._intake, [psycopg.OperationalError("terminating connection")]
            read = intake.inventories

            async def inventories():
                if failures:
                    raise failures.pop()
                return await read()

            monkeypatch.setattr(intake, "inventories", inventories)
            moved = site.gateway.address.replace("unix:", "unix://")  # the same socket
            database.execute("update gateway_endpoints set address = %s where facility_id = %s", (moved, FACILITY))
            database.execute("notify hcp_facility")
            await until(
                lambda: site.allocator._held.sites[FACILITY].address == moved, "the owner has the new address", 30
            )
            await until(lambda: site.owner is not None and site.owner.is_ready, "the owner is back")
