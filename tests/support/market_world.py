"""The world's market services and the platform's clients in one process and on one clock, which moves only when told."""

import heapq
import itertools
from datetime import UTC, datetime

import httpx
import structlog

from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.feed.sources import guarded_step
from hcp_pipelines.markets.breaker import Breaker
from simulators import clock as world_clock
from simulators.http import Services
from simulators.scenarios import Scenario
from simulators.script import Script
from tests.contract.test_world_http import START_S, Well, world

START = datetime.fromtimestamp(START_S, UTC)


class MarketClock(ManualClock):
    """The platform's clock, which takes the world's along."""

    def __init__(self, at, speed=1.0):
        super().__init__(at, speed)
        self.world = world_clock.ManualClock(at.timestamp(), speed)

    def advance(self, simulated_s):
        super().advance(simulated_s)
        self.world.at_s = self.now().timestamp()


class MarketWorld:
    """A world's services over a transport of httpx's; its scenario is one by name, or made of what a test says."""

    def __init__(self, at=START, speed=1.0, plan=None, **changes):
        self.clock = MarketClock(at, speed)
        self.world = world(**changes)
        if plan is not None:
            made = Scenario.model_validate({"name": "t", "description": "made for a test", **plan})
            self.world.script = Script(made, at.timestamp())
        self.services = Services(self.world, self.clock.world, Well())
        self.transport = httpx.ASGITransport(self.services.app())

    def counts(self):
        """What each service was asked, and refused."""
        return self.services._gate.counts()


async def live(clock, sources, recorder, health, until):
    """The feed's sources until an instant: each one's steps when they are due, as its supervision has them, recorded at once."""
    log, numbers = structlog.get_logger("feed"), itertools.count()
    due = [(clock.monotonic_s(), next(numbers), source, Breaker()) for source in sources]
    while clock.now() < until:
        due_s, _, source, breaker = heapq.heappop(due)
        if due_s > clock.monotonic_s():
            clock.advance((due_s - clock.monotonic_s()) * clock.speed)
        wait_s = await guarded_step(source, breaker, health, log)
        await recorder.record_pending()
        heapq.heappush(due, (clock.monotonic_s() + max(wait_s, 0.001), next(numbers), source, breaker))
