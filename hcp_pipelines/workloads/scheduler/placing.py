"""Finding places: claim what comes next, route it, bind it; what finds none goes back with the reason, or has others give way.

The room is in memory and Postgres has the last word: what it refuses makes `is_doubtful` true, and the room is read anew.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.workloads import WorkloadType
from hcp_pipelines.markets.cloud import CloudOffer
from hcp_pipelines.workloads.binding import bind
from hcp_pipelines.workloads.claiming import Claimed, Connection, claim, unclaim
from hcp_pipelines.workloads.decisions import record
from hcp_pipelines.workloads.routing.giving_way import NONE_SUITABLE, Candidate, GivesWay, give_way
from hcp_pipelines.workloads.routing.needs import Need
from hcp_pipelines.workloads.routing.router import Routed, Router, Unplaced
from hcp_pipelines.workloads.scheduler import metrics
from hcp_pipelines.workloads.scheduler.held import Book, Held, candidates, weights
from hcp_pipelines.workloads.scheduler.records import (
    decided_against,
    decided_place,
    held_of,
    need_of,
    placement_of,
)
from hcp_pipelines.workloads.scheduler.steps import GivenBack, give_back_all

CLAIM_LEASE_S = 30.0  # real; routing and binding some hundreds takes a second at most
AGAIN_AFTER_S = 5.0  # real: what found no place is not looked at before
TOLD_WITHIN_S = 5.0  # real
KEPT_S = 600.0  # world time: so long free devices wait for large work, unless it asks again; in a fast world two of its turns
TOLD_MOST = 100_000
GIVES_WAY = "pre-empted for more urgent work"  # whose, and for how much, is in the log: it is another customer's
_KNOWN = """
    select w.id, t.credit_fraction, coalesce(c.progress_s, 0), coalesce(c.detail ->> 'checkpoint', '') from workloads w
    join tier_quotas t on t.tier = w.tier
    left join lateral (
        select progress_s, detail from workload_checkpoints where workload_id = w.id order by id desc limit 1) c on true
    where w.id = any(%b)"""


@dataclass(frozen=True, slots=True)
class Terms:
    """How work is held: by whom, for how many real seconds without a word, how many are claimed at once."""

    holder: str
    lease_s: float
    batch: int
    urgent_slack_s: float  # world time: a deadline nearer than this beyond the work's own duration makes it urgent
    cloud_start_s: float
    saved_within_s: float  # world time: devices may take so long to say that they have kept what stands still

    def waits_s(self, clock: Clock) -> float:
        """The same in real seconds, and some for the word's way."""
        return self.saved_within_s / clock.speed + TOLD_WITHIN_S


@dataclass(frozen=True, slots=True)
class _Batch:
    """Claims, those of them that have a place in the room, and those that have none."""

    claims: Sequence[Claimed]
    routed: Sequence[Routed]
    unplaced: Sequence[Unplaced]


@dataclass
class Placer:
    """Places work in a router's room; what is bound goes to the book."""

    terms: Terms
    clock: Clock
    book: Book
    is_doubtful: bool = False
    _told: dict[UUID, str] = field(default_factory=dict)
    _kept: dict[tuple[str, str], tuple[UUID, datetime]] = field(default_factory=dict)

    async def place(
        self, connection: Connection, router: Router, offers: Sequence[CloudOffer], extra: Mapping[str, int]
    ) -> tuple[int, int]:
        """One batch; how many pieces of work were looked at, and how many have a place now.

        `extra`: devices that are claimed for though others have them, or nobody may, so that work is told why it waits.
        """
        batch = await self._pick(connection, router, extra)
        if extra and batch.unplaced:
            more, unplaced = await self._have_give_way(connection, router, batch.unplaced)
            batch = replace(batch, routed=[*batch.routed, *more], unplaced=unplaced)
        return len(batch.claims), await self._settle(connection, router, batch, offers)

    async def place_many(
        self, connection: Connection, beside: Connection, router: Router, offers: Sequence[CloudOffer], until_s: float
    ) -> tuple[int, tuple[int, int]]:
        """Batches until one finds no place, or until an instant; how many were placed, and of the last one as `place`.

        While one is bound the next is claimed on the connection `beside`, which takes a second core; both may be the same one.
        """
        placed, batch = 0, await self._pick(beside, router, {})
        while batch.claims:
            goes_on = bool(batch.routed) and self.clock.monotonic_s() < until_s
            ahead = None
            if goes_on and beside is not connection:
                ahead = asyncio.ensure_future(self._pick(beside, router, {}))
            try:
                now_placed = await self._settle(connection, router, batch, offers)
            except BaseException:
                if ahead is not None:
                    ahead.cancel()
                    await asyncio.gather(ahead, return_exceptions=True)
                raise
            placed += now_placed
            if not goes_on or (ahead is None and not now_placed):
                return placed, (len(batch.claims), now_placed)
            batch = await (ahead or self._pick(connection, router, {}))
        return placed, (0, 0)

    async def _pick(self, connection: Connection, router: Router, extra: Mapping[str, int]) -> _Batch:
        """Claim what comes next and look for places; they are taken in the room, and in Postgres nowhere yet."""
        room, market = router.room, router.market
        self._keep(router)
        router.begin_batch()
        free = room.by_type(market)
        wanted: dict[str, int] = {name: free.get(name, 0) + extra.get(name, 0) for name in {**free, **extra}}
        claims = await claim(
            connection, self.terms.holder, wanted, self.terms.batch,
            now=self.clock.now(), gpus_most=room.most_by_type(), lease_s=CLAIM_LEASE_S,
        )  # fmt: skip
        return _Batch(claims, *self._route(router, [need_of(one) for one in claims]))

    async def _settle(self, connection: Connection, router: Router, batch: _Batch, offers: Sequence[CloudOffer]) -> int:
        """Bind what has a place, give the rest back; how many are bound."""
        rows = await (
            await connection.execute(_KNOWN, ([one.need.workload_id for one in batch.routed],), prepare=True)
        ).fetchall()
        known: dict[UUID, tuple[float, float, str]] = {row[0]: (row[1], row[2], row[3]) for row in rows}
        specs = {claimed.workload_id: claimed.spec for claimed in batch.claims}
        now = self.clock.now()
        helds = [
            held_of(router, one, *known[one.need.workload_id], specs[one.need.workload_id], now) for one in batch.routed
        ]
        bound = await self._bind(connection, router, batch.routed, helds)
        await self._give_up(connection, router, batch.unplaced, batch.claims, offers)
        return bound

    def _route(self, router: Router, needs: Sequence[Need]) -> tuple[list[Routed], list[Unplaced]]:
        routed, unplaced = list[Routed](), list[Unplaced]()
        for need in needs:
            with metrics.ROUTE_SECONDS.time():
                found = router.route(need)
            if isinstance(found, Routed):
                router.room.take(found.group, found.slots, need.place.state)
                routed.append(found)
            else:
                unplaced.append(found)
        return routed, unplaced

    async def _have_give_way(
        self, connection: Connection, router: Router, unplaced: Sequence[Unplaced]
    ) -> tuple[list[Routed], list[Unplaced]]:
        """Urgent work takes the place of what costs least; what it got is taken in the room at once, so that it is its own."""
        routed, left = list[Routed](), list[Unplaced]()
        for one in unplaced:
            if not self._is_urgent(one.need):
                left.append(one)
                continue
            found = give_way(router, one.need, self._interruptible(router))
            if found is None:
                left.append(Unplaced(one.need, f"{one.reason}; {NONE_SUITABLE}", one.explanation))
                continue
            await self._pre_empt(connection, router, one.need, found)
            again, still = self._route(router, [one.need])
            routed += again
            left += still
        return routed, left

    async def _pre_empt(self, connection: Connection, router: Router, need: Need, found: GivesWay) -> None:
        now = self.clock.now()
        given = [GivenBack(self.book.held[victim.workload_id], GIVES_WAY, now) for victim in found.victims]
        outcome = await give_back_all(connection, given, self.terms.waits_s(self.clock))
        for held in (*outcome.done, *outcome.lost):
            self.release(router, held)
        for held in outcome.done:
            router.room.put_to_sleep(held.workload_id, router.room.index[held.facility_id, held.group_id], held.slots)
        metrics.PREEMPTED.labels("urgent work").inc(len(outcome.done))
        structlog.get_logger("scheduler").info(
            "work gives way", workload_id=str(need.workload_id), priority=need.priority, usd=round(found.usd, 2),
            victims=[(str(held.workload_id), held.priority) for held in outcome.done],
        )  # fmt: skip

    def release(self, router: Router, held: Held) -> None:
        """What work had is free again."""
        self.book.drop(held.workload_id)
        g = router.room.index.get((held.facility_id, held.group_id))
        if g is not None and len(held.slots):
            router.room.give(g, held.slots, held.state)

    def _interruptible(self, router: Router) -> dict[int, list[Candidate]]:
        index, found = router.room.index, dict[int, list[Candidate]]()
        works = [
            held for held in self.book.held.values()
            if held.is_interruptible and (held.facility_id, held.group_id) in index and len(held.slots)
        ]  # fmt: skip
        for held, candidate in zip(works, candidates(works, self.clock.now()), strict=True):
            found.setdefault(index[held.facility_id, held.group_id], []).append(candidate)
        return found

    def _is_urgent(self, need: Need) -> bool:
        """Real time, and what would miss its deadline soon: for these others give way."""
        if need.place.type is WorkloadType.AI_INFERENCE_REALTIME:
            return True
        slack = timedelta(seconds=need.duration_s + self.terms.urgent_slack_s)
        return need.deadline_at is not None and need.deadline_at - self.clock.now() < slack

    async def _bind(
        self, connection: Connection, router: Router, routed: Sequence[Routed], helds: Sequence[Held]
    ) -> int:
        if not routed:
            return 0
        now = self.clock.now()
        for held, weight in zip(helds, weights(helds, now), strict=True):
            held.desired_priority = weight
        placements = [placement_of(router, one, held) for one, held in zip(routed, helds, strict=True)]
        with metrics.BIND_SECONDS.time():
            rows = await bind(connection, self.terms.holder, placements, now=now, lease_s=self.terms.lease_s)
        refused = []
        for one, held in zip(routed, helds, strict=True):
            held.desired_id = rows.get(held.workload_id)
            if held.desired_id is None:
                router.room.give(one.group, one.slots, held.state)
                refused.append((held.workload_id, held.epoch))
                continue
            self.book.put(held)
            self._told.pop(held.workload_id, None)
        await record(
            connection, [decided_place(router, one, now) for one in routed if one.need.workload_id in rows], now
        )
        metrics.DECISIONS.labels("placed").inc(len(rows))
        if refused:
            self.is_doubtful = True
            await unclaim(connection, refused, reason="its devices were taken meanwhile")
        return len(rows)

    async def _give_up(
        self,
        connection: Connection,
        router: Router,
        unplaced: Sequence[Unplaced],
        claims: Sequence[Claimed],
        offers: Sequence[CloudOffer],
    ) -> None:
        """Back to the queue with the reason; recorded where it is another one than before."""
        if not unplaced:
            return
        now, aged = self.clock.now(), {c.workload_id for c in claims if c.level < c.priority}
        decisions = []
        for one in unplaced:
            decision = decided_against(router, one, offers, self.terms.cloud_start_s, now)
            told = f"{decision.outcome}: {one.reason}"  # without a cloud's price and instant, which move all the time
            if self._told.get(one.need.workload_id) != told:
                decisions.append(decision)
                self._told[one.need.workload_id] = told
            if one.need.workload_id in aged:
                self._keep_for(router, one.need)
        if len(self._told) > TOLD_MOST:
            self._told.clear()
        await record(connection, decisions, now)
        metrics.DECISIONS.labels("none").inc(len(unplaced))
        by_reason = dict[str, list[tuple[UUID, int]]]()
        for one in unplaced:
            by_reason.setdefault(one.reason, []).append((one.need.workload_id, one.need.epoch))
        for reason, given_up in by_reason.items():
            await unclaim(connection, given_up, wait_s=AGAIN_AFTER_S, reason=reason)

    def _keep_for(self, router: Router, need: Need) -> None:
        """Large work that has aged and finds no whole nodes: one group's devices are kept for it as they come free.

        For one piece of work of a type at a time: else all would wait for all.
        """
        kind = router.kind(need.place)
        would_do = [
            (int(router.room.free[g]), group.key)
            for g, group in enumerate(router.room.groups)
            if kind.open[g] and need.place.gpu_count > 1 and group.key not in self._kept
            and router.market.bounds[g, need.place.state] >= need.place.gpu_count
        ]  # fmt: skip
        own = next((key for key, (owner, _) in self._kept.items() if owner == need.workload_id), None)
        types = {router.room.groups[g].called for g in router.kept_for}
        if own is None and would_do and need.place.gpu_type not in types:
            own = max(would_do)[1]
        if own is not None:
            kept_s = max(KEPT_S, 2 * AGAIN_AFTER_S * self.clock.speed)
            self._kept[own] = need.workload_id, self.clock.now() + timedelta(seconds=kept_s)
            router.kept_for[router.room.index[own]] = need.workload_id

    def _keep(self, router: Router) -> None:
        now = self.clock.now()
        self._kept = {key: kept for key, kept in self._kept.items() if kept[1] > now}
        router.kept_for = {
            router.room.index[key]: owner for key, (owner, _) in self._kept.items() if key in router.room.index
        }
