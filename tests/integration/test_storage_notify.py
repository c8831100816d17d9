"""The listener: hears what is told, survives the loss of its connection, and wakes by itself in any case."""

import asyncio
import shutil

import psycopg
import pytest

from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.storage.notify import Listener, Notification
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

LONG_S = 20.0


@pytest.fixture
def told(settings):
    """A way to tell something on a channel."""
    with connect(settings, Role.FEED) as connection:
        yield lambda channel, text: connection.execute("select pg_notify(%s, %s)", (channel, text))


async def heard(listener, wanted):
    """All notifications until `wanted` is among them."""
    batch = []
    async with asyncio.timeout(LONG_S):
        while wanted not in [notification.payload for notification in batch]:
            batch += await listener.wait()
    return batch


async def test_it_hears_its_channels_and_no_others(settings, told):
    async with Listener(settings, Role.ALLOCATOR, ["hcp_tick", "hcp_policy"], poll_s=LONG_S) as listener:
        for channel, text in (("hcp_tick", "1"), ("hcp_other", "2"), ("hcp_policy", "3")):
            told(channel, text)
        assert await heard(listener, "3") == [Notification("hcp_tick", "1"), Notification("hcp_policy", "3")]


async def test_it_wakes_by_itself(settings):
    async with Listener(settings, Role.ALLOCATOR, ["hcp_tick"], poll_s=0.01) as listener:
        assert await listener.wait() == []
        assert listener.is_connected


@pytest.mark.parametrize("kills", [1, 3])
async def test_it_survives_the_loss_of_its_connection(settings, database, told, kills):
    async with Listener(settings, Role.ALLOCATOR, ["hcp_tick"], poll_s=LONG_S) as listener:
        told("hcp_tick", "before")
        await heard(listener, "before")
        for _ in range(kills):
            waiting = asyncio.create_task(listener.wait())
            killed = database.execute(
                "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where usename = 'hcp_allocator'"
            )
            assert killed.fetchone() == (1,)
            assert await waiting == [], "a reason to look at the tables"
            assert not listener.is_connected
            assert "terminat" in listener.last_error
            assert await listener.wait() == [], "what was told meanwhile is lost: look again"
            assert listener.is_connected
        told("hcp_tick", "after")
        assert [n.payload for n in await heard(listener, "after")] == ["after"]
        assert listener.last_error == ""


async def test_it_waits_for_a_server_that_is_not_there_yet(settings, told, tmp_path):
    moved = tmp_path / "state"
    async with Listener(
        settings.model_copy(update={"state_dir": moved}), Role.ALLOCATOR, ["hcp_tick"], 0.01
    ) as listener:
        assert await listener.wait() == []
        assert not listener.is_connected
        assert "hcp up" in listener.last_error
        shutil.rmtree(moved, ignore_errors=True)
        moved.symlink_to(settings.state_dir)
        assert await listener.wait() == []
        assert listener.is_connected
        told("hcp_tick", "now")
        await heard(listener, "now")


async def test_leaving_closes_the_connection(settings, database):
    async with Listener(settings, Role.ALLOCATOR, ["hcp_tick"]):
        pass
    with psycopg.connect(EmbeddedPostgres(settings).admin_dsn()) as connection:
        async with asyncio.timeout(LONG_S):
            while connection.execute(
                "select count(*) from pg_stat_activity where usename = 'hcp_allocator'"
            ).fetchone()[0]:
                await asyncio.sleep(0.01)
