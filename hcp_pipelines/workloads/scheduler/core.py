"""The scheduler's round: hear owners, finish what is due, hold on to the rest, place what waits. Postgres in, Postgres out.

It starts from Postgres alone (`begin`), and does so again whenever the two may differ.
"""

from dataclasses import dataclass, replace

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.workloads import WorkloadState
from hcp_pipelines.markets.cloud import CloudOffer
from hcp_pipelines.workloads.binding import ACTOR, take_back
from hcp_pipelines.workloads.claiming import Connection, age, unclaim
from hcp_pipelines.workloads.lifecycle import reap
from hcp_pipelines.workloads.reading import depths
from hcp_pipelines.workloads.routing.room import SLEPT_MOST, GroupFacts, Market, Room
from hcp_pipelines.workloads.routing.router import Router, Rules
from hcp_pipelines.workloads.scheduler import metrics
from hcp_pipelines.workloads.scheduler.following import Follower
from hcp_pipelines.workloads.scheduler.held import Book, read_asleep, read_broken, read_held
from hcp_pipelines.workloads.scheduler.inventory import read_free, read_groups
from hcp_pipelines.workloads.scheduler.market import PolicyShelf, Prices, Staleness, market_of, read_prices
from hcp_pipelines.workloads.scheduler.outcomes import claims_of, last_word, stray_rows, unowned, urgent_waits, words_on
from hcp_pipelines.workloads.scheduler.placing import Placer, Terms
from hcp_pipelines.workloads.scheduler.steps import GivenBack

ALL_AGAIN_S = 60.0  # real: so often everything is read anew, whatever was heard
PRICES_AGAIN_S = 5.0
UNOWNED_S = 5.0  # a lease that changes hands is none for a moment
NOT_COMMANDED = "nobody commands the facility at present"
UPKEEP_S = 2.0  # ageing, reaping, what others did
URGENT_S = 1.0
PLACING_MOST_S = 1.0  # of a round, so that what is due doesn't wait for a long queue
BARREN_S = 1.0  # what found no place is not looked at again at each turn


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of a scheduler: `start_within_s` and what is in `terms.urgent_slack_s` are world time."""

    terms: Terms
    rules: Rules
    renew_s: float
    start_within_s: float
    hold_s: float  # world time that gateways go on by themselves before they fall back
    stale_after: Staleness


class Scheduler:
    """One scheduler at work; every call on the same connection, in autocommit mode, but for claims where there is one beside."""

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self._plan, self._clock = plan, clock
        self.book = Book()
        self.follower = Follower(self.book, clock, plan.terms.holder, plan.terms.waits_s(clock))
        self.placer = Placer(plan.terms, clock, self.book)
        self._shelf, self._prices = PolicyShelf(), Prices({}, {})
        self.room = Room((), ())
        self._router: Router | None = None
        self._due_s: dict[str, float] = {}
        self._is_begun = False
        self._barren = (0, -1)  # router and room in which nothing more found a place

    async def round(
        self, connection: Connection, heard: frozenset[str] = frozenset(), beside: Connection | None = None
    ) -> bool:
        """One round after some notifications; whether there is more to do at once."""
        with metrics.ROUND_SECONDS.time():
            if self._wants_all(heard):
                await self.begin(connection)
            done = await self.follower.hear(connection, self.room)
            if self.follower.is_outdated:
                await self.begin(connection)
            done += await self.follower.finish(connection, self.room)
            await self._keep_up(connection, heard)
            placed, has_more = await self._place(connection, beside or connection)
        for state in (WorkloadState.SCHEDULED, WorkloadState.RUNNING, WorkloadState.PAUSED):
            metrics.STATUS.labels(state.value).set(len(self.book.with_status(state)))
        return has_more or bool(done and placed)

    async def begin(self, connection: Connection) -> None:
        """Read everything: what there is, what is held, what became of it; mend what was left half done."""
        holder = self._plan.terms.holder
        self.follower.last_word = await last_word(connection)
        await unclaim(connection, await claims_of(connection, holder), reason="claimed by a scheduler that has ended")
        groups = await read_groups(connection)
        facilities = sorted({group.facility_id for group in groups})
        self.follower.unowned = await unowned(connection, facilities, UNOWNED_S)
        groups = [
            replace(group, closed=NOT_COMMANDED)
            if group.facility_id in self.follower.unowned and not group.closed
            else group
            for group in groups
        ]
        stray = await stray_rows(connection, facilities, ACTOR, holder)
        if stray:
            await take_back(connection, stray)
        await self._read_room(connection, groups)
        self._read_is_done()
        await self._mend(connection)
        words = await words_on(connection, list(self.book.by_row))
        await self.follower.take(connection, self.room, words)
        await self._read_market(connection)

    async def _read_room(self, connection: Connection, groups: list[GroupFacts]) -> None:
        held = await read_held(connection, self._plan.terms.holder)
        slept = self.room.slept if self._is_begun else await read_asleep(connection, SLEPT_MOST)
        self.room = Room(groups, await read_free(connection, groups), slept)
        self.book.clear()
        for one in held:
            self.book.put(one)
            g = self.room.index.get((one.facility_id, one.group_id))
            if g is not None and len(one.slots):
                self.room.take(g, one.slots[one.slots < self.room.devices[g]], one.state)
        now = self._clock.now()
        self.follower.avoided = [avoided for avoided in self.follower.avoided if avoided[0] > now]
        for _, key, slots in self.follower.avoided:
            if key in self.room.index:
                g = self.room.index[key]
                self.room.close(g, slots[slots < self.room.devices[g]])

    async def _mend(self, connection: Connection) -> None:
        """What was being given back when its scheduler ended, has lost its devices, or has broken ones."""
        await self.follower.mend_lapsed(connection, self.room)
        now = self._clock.now()
        paused = [one for one in self.book.with_status(WorkloadState.PAUSED) if not one.is_silent]
        given = [GivenBack(one, "pre-empted", now) for one in paused]
        await self.follower.give_back(connection, self.room, given)
        broken = await read_broken(connection, self.book.held)
        await self.follower.fail_broken(connection, self.room, broken)

    async def _read_market(self, connection: Connection) -> None:
        facilities = sorted({group.facility_id for group in self.room.groups if not group.closed})
        points = sorted({group.settlement_point for group in self.room.groups if not group.closed})
        models = sorted({group.gpu_type for group in self.room.groups} - {""})
        await self._shelf.load(connection, facilities)
        now, gpu_stale_s = self._clock.now(), self._plan.stale_after.gpu_s
        before, self._prices = self._prices, await read_prices(connection, points, models, now, gpu_stale_s)
        if before != self._prices:
            self.follower.turned_down.clear()
        self._look_at_market()
        self._due_s["prices"] = self._clock.monotonic_s() + PRICES_AGAIN_S

    def _look_at_market(self) -> None:
        market = market_of(self.room, self._shelf, self._prices, self._clock.now(), self._plan.stale_after)
        self._router = Router(self.room, market, self._plan.rules)
        self._cut(market)

    def _cut(self, market: Market) -> None:
        """Where an owner has turned work down nothing more begins for a while."""
        now = self._clock.now()
        for (key, state), until in self.follower.turned_down.items():
            g = self.room.index.get(key)
            if g is not None and now < until:
                market.bounds[g, state] = min(market.bounds[g, state], self.room.working[g, state])

    async def _keep_up(self, connection: Connection, heard: frozenset[str]) -> None:
        """What has its own pace, in real time."""
        if self._is_due("renewal", self._plan.renew_s):
            all_stood = await self.follower.hold_on(connection, self.room, self._plan.terms.lease_s)
            self.placer.is_doubtful |= not all_stood
        if self._is_due("upkeep", UPKEEP_S):
            now = self._clock.now()
            await age(connection, now=now)
            await reap(connection, now=now)
            await self.follower.let_go_of_lost(connection, self.room)
            await self._look_for_owners(connection)
            await _tell_depths(connection)
            await self.follower.look_for_late(connection, self.room, self._plan.start_within_s)
        if heard & {"hcp_policy", "hcp_tick"} or self._is_due("prices", PRICES_AGAIN_S):
            await self._read_market(connection)

    async def _look_for_owners(self, connection: Connection) -> None:
        """Who commands what, and what stands still as nobody has for too long."""
        found = await unowned(connection, sorted({group.facility_id for group in self.room.groups}), UNOWNED_S)
        before, self.follower.unowned = self.follower.unowned, found
        if found.keys() != before.keys():
            await self.begin(connection)
        await self.follower.stop_unowned(connection, self.room, self._plan.hold_s)

    async def _place(self, connection: Connection, beside: Connection) -> tuple[int, bool]:
        """Batches, until none finds a place or the round has taken long; how many were placed, and whether more may be."""
        router = self._router
        if router is None:
            return 0, False
        if all(group.closed for group in self.room.groups):
            await self._tell(connection, router, self._offers())
            return 0, False
        self._cut(router.market)
        if self._barren == (id(router), self.room.given_back) and not self._is_due("barren", BARREN_S):
            return 0, False
        offers, until_s = self._offers(), self._clock.monotonic_s() + PLACING_MOST_S
        placed, (looked_at, now_placed) = await self.placer.place_many(connection, beside, router, offers, until_s)
        if now_placed:
            return placed, True
        if looked_at:
            self._barren = id(router), self.room.given_back
            self._due_s["barren"] = self._clock.monotonic_s() + BARREN_S
        await self._place_all_the_same(connection, router, offers)
        return placed, False

    async def _place_all_the_same(self, connection: Connection, router: Router, offers: list[CloudOffer]) -> None:
        """Urgent work for which others would have to make room; all that waits is told why now and then."""
        slack_s = self._plan.terms.urgent_slack_s
        is_urgent = self._is_due("urgent", URGENT_S) and await urgent_waits(connection, self._clock.now(), slack_s)
        if is_urgent:
            await self.placer.place(connection, router, offers, self.room.most_by_type())
        await self._tell(connection, router, offers)

    async def _tell(self, connection: Connection, router: Router, offers: list[CloudOffer]) -> None:
        """Whatever is next is told why it waits, also where no group is open to it."""
        if self._is_due("telling", ALL_AGAIN_S):
            await self.placer.place(connection, router, offers, self.room.most_by_type(with_closed=True))

    def _offers(self) -> list[CloudOffer]:
        """What GPUs can be rented at elsewhere, as the feed has it."""
        return self._prices.offers(self._clock.now(), self._plan.stale_after.gpu_s)

    def _wants_all(self, heard: frozenset[str]) -> bool:
        wants = not self._is_begun or self.placer.is_doubtful or bool(heard & {"hcp_facility", "hcp_directive"})
        return wants or self._is_due("all", ALL_AGAIN_S)

    def _read_is_done(self) -> None:
        self._is_begun, self.placer.is_doubtful, self.follower.is_outdated = True, False, False
        self._due_s["all"] = self._clock.monotonic_s() + ALL_AGAIN_S

    def _is_due(self, what: str, every_s: float) -> bool:
        now_s = self._clock.monotonic_s()
        if now_s < self._due_s.get(what, 0.0):
            return False
        self._due_s[what] = now_s + every_s
        return True


async def _tell_depths(connection: Connection) -> None:
    waiting = await depths(connection)
    for priority, count in waiting.items():
        metrics.DEPTH.labels(str(priority)).set(count)
    metrics.STATUS.labels(WorkloadState.QUEUED.value).set(sum(waiting.values()))
