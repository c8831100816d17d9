"""Events for many at once: one look for all, nobody's missed, and who reads too slowly is late and costs the others nothing."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest
import structlog

from hcp_pipelines.api import fanout
from hcp_pipelines.api.fanout import Fanout
from hcp_pipelines.domain.workloads import WorkloadState
from hcp_pipelines.storage.notify import Notification
from hcp_pipelines.workloads.store import Event

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
ONE, OTHER = UUID(int=1), UUID(int=2)


class Told:
    """A table of events that counts how often it is asked."""

    def __init__(self):
        self.events, self.looks = [], 0
        self.fanout = Fanout(self.after, self.last, structlog.get_logger())

    def add(self, customer, number=1):
        for _ in range(number):
            n = len(self.events) + 1
            self.events.append(
                Event(n, UUID(int=n), customer, None, WorkloadState.QUEUED, True, "", "ann", NOON, NOON, "operator")
            )

    async def after(self, event_id):
        self.looks += 1
        return self.events[event_id : event_id + fanout.AT_ONCE]

    async def last(self):
        return len(self.events)


@pytest.fixture
def told():
    return Told()


def ids(place):
    return [event.id for event in place.events]


async def test_of_many_who_listen_each_hears_their_own_and_one_look_is_taken(told):
    told.add(ONE, 5)
    staff = [await told.fanout.join(None, frozenset()) for _ in range(50)]
    own = await told.fanout.join(ONE, frozenset())
    told.add(OTHER)
    told.add(ONE)
    await told.fanout.hand_out()
    assert told.looks == 1
    assert all(ids(place) == [6, 7] for place in staff), "nothing of before"
    assert ids(own) == [7]
    assert (staff[0].events[-1].actor, own.events[-1].actor) == ("ann", "operator"), "customers are not told our names"


async def test_more_than_one_look_gives_comes_in_order(told):
    place = await told.fanout.join(None, frozenset())
    told.add(ONE, 2 * fanout.AT_ONCE + 1)
    await told.fanout.hand_out()
    assert ids(place) == list(range(1, 2 * fanout.AT_ONCE + 2))


async def test_where_nobody_listens_nobody_looks(told):
    told.fanout.leave(await told.fanout.join(None, frozenset()))
    told.add(ONE)
    await told.fanout.hand_out()
    assert told.looks == 0
    late = await told.fanout.join(None, frozenset())
    told.add(ONE)
    await told.fanout.hand_out()
    assert ids(late) == [2]


async def test_who_reads_too_slowly_is_late_and_holds_nothing(told):
    slow, quick = await told.fanout.join(None, frozenset()), await told.fanout.join(None, frozenset())
    heard = []
    for _ in range(3):
        told.add(ONE, fanout.HELD // 2)
        await told.fanout.hand_out()
        heard += ids(quick)
        quick.events.clear()
    assert slow.is_late
    assert not slow.events
    assert heard == list(range(1, len(told.events) + 1))


async def test_who_has_changed_is_doubted_and_nobody_else(told):
    mine = await told.fanout.join(None, frozenset({"users/1", "api_keys/7"}))
    yours = await told.fanout.join(None, frozenset({"users/2", "api_keys/None"}))
    stop = asyncio.Event()

    class Hears:
        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            pass

        async def wait(self):
            stop.set()
            return [Notification("hcp_account", "api_keys/7"), Notification("hcp_workload", "users/2")]

    await told.fanout.follow(Hears(), stop)
    assert (mine.is_doubtful, yours.is_doubtful) == (True, False)
