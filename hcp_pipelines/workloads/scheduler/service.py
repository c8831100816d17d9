"""The scheduler daemon: one at work, others standing by (a session's lock in Postgres), woken by notifications and a pace.

Work, locks and steps are on one connection: who has lost it works no more, and Postgres gives the lock to whoever stands by.
Claims alone may come on a second one: whoever claimed and could not go on has them no longer than their lease.
"""

import asyncio
import contextlib

import psycopg

from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.notify import Listener
from hcp_pipelines.storage.postgres import connect_async
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads.claiming import Connection
from hcp_pipelines.workloads.routing.router import Rules
from hcp_pipelines.workloads.routing.scoring import Estimates, Weights
from hcp_pipelines.workloads.scheduler import metrics
from hcp_pipelines.workloads.scheduler.core import Plan, Scheduler
from hcp_pipelines.workloads.scheduler.market import Staleness
from hcp_pipelines.workloads.scheduler.placing import Terms

CHANNELS = ("hcp_workload", "hcp_policy", "hcp_tick", "hcp_desired_outcome", "hcp_facility", "hcp_directive")
HOLDER = "scheduler"  # of all instances: who takes over goes on with what the other held
LEADER_LOCK = 4_852_047
LEASE_S = 120.0  # real, as the desired rows': owners read them every 30 s (docs/desired-state.md)
RENEW_S = 30.0
BATCH = 250
PACE_S = 1.0  # between two rounds if nothing is heard
LEAST_S = 0.02
STAND_BY_S = 1.0
BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.2, 5.0
NOT_YET = "nothing is scheduled yet"
# Plans are made once and kept, also those of the checks of references: one made while a table was all but empty would read
# it from end to end for each device. What is asked here is looked up.
_LOOKED_UP = "set enable_seqscan = off"


def plan_of(settings: Settings) -> Plan:
    """What the settings ask for."""
    latency, cost, availability, profitability = (float(weight) for weight in settings.routing_weights.split(","))
    rules = Rules(
        Weights(latency, cost, availability, profitability), Estimates(settings.routing_base_latency_ms),
        settings.routing_realtime_spare,
    )  # fmt: skip
    terms = Terms(
        HOLDER, LEASE_S, BATCH, settings.scheduler_urgent_slack_s, settings.routing_cloud_start_s,
        settings.scheduler_saved_within_s,
    )  # fmt: skip
    stale_after = Staleness(settings.price_staleness_s, settings.gpu_staleness_s)
    return Plan(terms, rules, RENEW_S, settings.scheduler_start_within_s, settings.hold_s, stale_after)


async def connect_scheduler(settings: Settings) -> Connection:
    """A connection on which a scheduler works. Raises as `connect_async`."""
    connection = await connect_async(settings, Role.SCHEDULER)
    await connection.execute(_LOOKED_UP)
    return connection


class _Wakening:
    """What was heard since the last round."""

    def __init__(self) -> None:
        self._event, self._heard = asyncio.Event(), set[str]()

    async def listen(self, settings: Settings) -> None:
        async with Listener(settings, Role.SCHEDULER, CHANNELS, PACE_S) as listener:
            async for batch in listener:
                self._heard.update(one.channel for one in batch)
                if batch:
                    self._event.set()

    async def wait(self, stop: asyncio.Event, within_s: float) -> frozenset[str]:
        """Until something is heard, or the stop, or the time is over; what it was."""
        both = [asyncio.ensure_future(self._event.wait()), asyncio.ensure_future(stop.wait())]
        await asyncio.wait(both, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        for each in both:
            each.cancel()
        return self.take()

    def take(self) -> frozenset[str]:
        """What was heard, once."""
        heard, self._heard = frozenset(self._heard), set()
        self._event.clear()
        return heard


async def run_scheduler(context: ProcessContext) -> None:
    """Schedule, or stand by, until `context.stop` is set; what is held stays held for as long as its lease."""
    plan, wakening = plan_of(context.settings), _Wakening()
    context.health["rounds"] = NOT_YET
    listening = asyncio.ensure_future(wakening.listen(context.settings))
    backoff_s = BACKOFF_FIRST_S
    try:
        while not context.stop.is_set():
            began_s = context.clock.monotonic_s()
            try:
                async with (
                    await connect_scheduler(context.settings) as connection,
                    await connect_scheduler(context.settings) as beside,
                ):
                    await _work(context, connection, beside, plan, wakening)
            except (psycopg.Error, HcpError, OSError) as error:
                metrics.FAILURES.inc()
                metrics.IS_LEADER.set(0)
                metrics.STATUS.clear()  # whoever is at work now tells them
                metrics.DEPTH.clear()
                what = (str(error).strip().splitlines() or [repr(error)])[0]
                context.health["rounds"] = f"nothing is scheduled: {what}"
                context.log.warning("round_failed", error=what)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(context.stop.wait(), backoff_s)
                went_well = context.clock.monotonic_s() - began_s > 2 * BACKOFF_LAST_S
                backoff_s = BACKOFF_FIRST_S if went_well else min(2 * backoff_s, BACKOFF_LAST_S)
    finally:
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listening


async def _work(
    context: ProcessContext, connection: Connection, beside: Connection, plan: Plan, wakening: _Wakening
) -> None:
    """Stand by until the lock is ours, then make rounds."""
    while not context.stop.is_set():
        row = await (await connection.execute("select pg_try_advisory_lock(%s)", (LEADER_LOCK,))).fetchone()
        if row is not None and row[0]:
            break
        _say_ready(context)
        await wakening.wait(context.stop, STAND_BY_S)
    scheduler, has_more = Scheduler(plan, context.clock), False
    metrics.IS_LEADER.set(1)
    while not context.stop.is_set():
        heard = wakening.take() if has_more else await wakening.wait(context.stop, _pause_s(context, scheduler))
        has_more = await scheduler.round(connection, heard, beside)
        _say_ready(context)
        if not has_more:
            await asyncio.sleep(LEAST_S)


def _say_ready(context: ProcessContext) -> None:
    """At the beginning, and when rounds go well again."""
    if context.health.get("rounds"):
        context.health["rounds"] = ""
        context.ready()


def _pause_s(context: ProcessContext, scheduler: Scheduler) -> float:
    """Real seconds until something comes due, at most the pace."""
    next_at = scheduler.book.next_at()
    if next_at is None:
        return PACE_S
    return min(max((next_at - context.clock.now()).total_seconds() / context.clock.speed, LEAST_S), PACE_S)
