"""What an owner does as soon as it is one: without a tick, a notification, or the intake's next look at the tables."""

import shutil
import tempfile
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hcp_pipelines.allocator import store
from tests.support.cli import hcp
from tests.support.edge import until
from tests.support.operated_site import OperatedSite

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
            await until(lambda: site.owner.in_force is not None, "the owner has a policy", 60)
