"""Scheduler, API, Postgres and node agents end in the middle of work: each piece of it ends once, with its result.

The small version of `hcp bench queue --part kills`: real processes and sockets; the owner of the devices is the test.
"""

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime

import psycopg
import pytest

from benchmarks.parts.api_customers import add_customers
from benchmarks.parts.api_process import ApiProcess, own_postgres
from benchmarks.parts.queue_kills import CUSTOMERS, is_kept, jobs, verdict
from benchmarks.parts.whole_platform import free_port
from hcp_pipelines.domain.clock import Anchor
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.runtime.process import read_clock
from hcp_pipelines.settings import child_environment
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from simulators.workloads.submit import Keys, Tally, Target, send
from tests.support.queued import NOON
from tests.support.scheduled import as_owner, open_rows, place, say

COUNT, SPEED, WITHIN_S = 60, 300.0, 150.0
FINALS = "select count(*) from workloads where status in ('completed', 'failed', 'cancelled')"
RETRIED = "select count(*) from workload_events where reason like 'turned down:%'"


class Scheduler:
    """The scheduler's process."""

    def __init__(self, settings):
        self._env = child_environment(settings, HCP_PRICE_STALENESS_S="1e6", HCP_ROUTING_REALTIME_SPARE="0")
        self._log = settings.at("logs", "scheduler.log")

    def start(self):
        argv = [sys.executable, "-m", "hcp_pipelines.workloads.scheduler"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(argv, env=self._env, stdout=log, stderr=log)

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait(20)


@pytest.fixture
def own():
    with own_postgres(api_listen=f"127.0.0.1:{free_port()}", scheduler_start_within_s=1e6) as own:
        clock = own.settings.at("run", "clock.json")
        clock.parent.mkdir(parents=True, exist_ok=True)
        clock.write_text(Anchor(datetime.now(UTC), NOON, SPEED).dump())
        with connect(own.settings, Role.ADMIN) as database:
            place(database)
        yield own


def answer(settings, *, dead=False):
    """The owner's word on what is desired and has none: it is settled, or nodes died. How much is over, what lost its nodes."""
    now = read_clock(settings).now()
    with as_owner(settings) as owner:
        told = {row[0] for row in owner.execute("select desired_state_id from desired_outcomes").fetchall()}
        open_now = [row[0] for row in open_rows(owner)]
        say(owner, [row for row in open_now if row not in told], "settled", now)
        if dead:
            say(owner, [row for row in open_now if row in told][:5], "turned_down", now, cause="dead")
    with connect(settings, Role.ADMIN) as database:
        return database.execute(FINALS).fetchone()[0], database.execute(RETRIED).fetchone()[0]


async def test_whoever_is_killed_each_piece_of_work_ends_once(own):
    api, scheduler, tally = ApiProcess(own.settings), Scheduler(own.settings), Tally()
    keys = Keys(None, add_customers(own.settings, CUSTOMERS))
    host, port = api.start()
    scheduler.start()
    target = Target(f"http://{host}:{port}", keys, None, 4, attempts=100, patience_s=WITHIN_S)
    sending = asyncio.ensure_future(send(jobs(COUNT), target, tally))

    def kill(name):
        if name == "scheduler":
            scheduler.end(signal.SIGKILL)
            scheduler.start()
        elif name == "api":
            api.kill()
            api.start()
        else:
            own.kill_and_restart()

    kills, over = ["api", "scheduler", "nodes", "postgres"], 0
    random.Random(5).shuffle(kills)
    try:
        async with asyncio.timeout(WITHIN_S):
            while over < COUNT:
                due = kills[-1] if kills and over >= 8 * (5 - len(kills)) else ""
                if due and due != "nodes":
                    await asyncio.to_thread(kill, kills.pop())
                with contextlib.suppress(psycopg.Error, StorageError):
                    over, lost = await asyncio.to_thread(answer, own.settings, dead=due == "nodes")
                    if lost and due == "nodes":  # until then what they had ran out before that was heard
                        kills.pop()
                await asyncio.sleep(0.05)
            await sending
    finally:
        sending.cancel()
        api.stop()
        scheduler.end(signal.SIGTERM)
    assert kills == []
    assert tally.counts["accepted"] == COUNT
    found = verdict(own.settings, accepted=COUNT)
    assert found["in_postgres"] == COUNT
    assert found["retried"] > 0, "nodes died under some"
    assert is_kept(found), str(found)
