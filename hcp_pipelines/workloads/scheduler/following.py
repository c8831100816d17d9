"""Following held work: what owners say of its devices, what comes due, what others did to it, and holding on to it.

Each function of `Follower` makes some steps in Postgres and then the same in the book and the room.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.workloads import WorkloadState
from hcp_pipelines.workloads.binding import Placement, desire_anew, renew_desired
from hcp_pipelines.workloads.claiming import Connection
from hcp_pipelines.workloads.lifecycle import renew
from hcp_pipelines.workloads.routing.packing import Ints
from hcp_pipelines.workloads.routing.room import Room
from hcp_pipelines.workloads.scheduler import metrics, steps, stops
from hcp_pipelines.workloads.scheduler.held import SILENT, Book, Held, weights
from hcp_pipelines.workloads.scheduler.outcomes import OwnersWord, no_longer_held, words_after

RETRY_AFTER_S = 5.0  # real: of work whose devices were refused
AVOIDED_S = 600.0  # world time, as devices come up and are mended in it: devices that did not come up are left alone for so long
TURNED_DOWN_S = (
    120.0  # world time: nothing more begins where an owner has turned work down, unless prices change before
)
WEIGHS_OTHERWISE = 10  # of 100: less is not worth a new row
REWEIGHED_MOST = 500  # at a time
INVENTORY_CHANGED = "the inventory of its facility has changed"
NOBODY_COMMANDS = "nobody has commanded its facility for too long"
LAPSED = "its lease on its devices ran out while no scheduler worked"


class Follower:
    """What is held, and where it stands in the room."""

    def __init__(self, book: Book, clock: Clock, holder: str, saved_within_s: float) -> None:
        """`saved_within_s`: real seconds for which devices' word is awaited that what stands still is kept."""
        self.book, self._clock, self._holder = book, clock, holder
        self.saved_within_s = saved_within_s
        self.avoided: list[tuple[datetime, tuple[str, str], Ints]] = []
        self.turned_down: dict[tuple[tuple[str, str], int], datetime] = {}  # group and state, until when
        self.last_word = 0
        self.unowned: dict[str, float] = {}  # facilities that nobody commands, for how many real seconds
        self.is_outdated = False  # an owner has a newer inventory than the room
        self._log = structlog.get_logger("scheduler")

    async def hear(self, connection: Connection, room: Room) -> int:
        """Take the owners' words since the last time; how many meant something."""
        words = await words_after(connection, self.last_word)
        self.last_word = max([self.last_word, *(word.key[1] for word in words)])
        return await self.take(connection, room, words)

    async def take(self, connection: Connection, room: Room, words: Iterable[OwnersWord]) -> int:
        """Settled: it runs. Turned down: it is saved and waits again. Refused: it waits for a retry."""
        newest: dict[UUID, tuple[Held, OwnersWord]] = {}
        for word in words:
            one = self.book.of_row(word.desired_id)
            if one is not None and word.key > one.heard:
                one.heard, one.dead = word.key, word.slots
                newest[one.workload_id] = one, word
        by_state: dict[str, list[tuple[Held, OwnersWord]]] = {}
        for one, word in newest.values():
            by_state.setdefault(word.state, []).append((one, word))
        await self._silent(connection, room, [one for one in by_state.get("holding", ()) if one[1].is_of_silence])
        await self._settled(connection, room, by_state.get("settled", ()))
        await self._turned_down(connection, room, by_state.get("turned_down", ()))
        await self._refused(connection, room, by_state.get("refused", ()))
        return len(newest)

    async def finish(self, connection: Connection, room: Room) -> int:
        """Save what is to be saved, end what has run its time; how many.

        Of what nobody commands neither is known: the next reading of everything has it come due again.
        """
        now = self._clock.now()
        due = self.book.checkpoints(now)  # of those whose devices tell nobody what they keep
        to_save = [one for one in due if one.facility_id not in self.unowned and not one.tells_saved]
        if to_save:
            outcome = await steps.save_all(connection, to_save, now)
            for one in outcome.done:
                self.book.saved(one, min(one.progress_s(now), one.duration_s))
            self._gone(room, outcome.lost)
            metrics.STEPS.labels("saved").inc(len(outcome.done))
        done = [one for one in self.book.done(now) if one.facility_id not in self.unowned]
        if done:
            outcome = await steps.end_all(connection, done)
            self._gone(room, (*outcome.done, *outcome.lost))
            metrics.STEPS.labels("completed").inc(len(outcome.done))
        return len(to_save) + len(done) + await stops.settle(connection)

    async def look_for_late(self, connection: Connection, room: Room, within_s: float) -> None:
        """Work whose devices are not ready within so much world time is given a retry elsewhere."""
        since = self._clock.now() - timedelta(seconds=within_s)
        waiting = self.book.with_status(WorkloadState.SCHEDULED)
        late = [one for one in waiting if one.since < since and one.facility_id not in self.unowned]
        await self._fail(connection, room, [(one, f"its devices were not ready within {within_s:g} s") for one in late])

    async def let_go_of_lost(self, connection: Connection, room: Room) -> None:
        """What was cancelled, or taken back by others, needs its devices no more."""
        gone = await no_longer_held(connection, list(self.book.held), self._holder)
        lost = [self.book.held[workload_id] for workload_id in gone]
        if lost:
            await steps.let_go(connection, lost)
            self._gone(room, lost)

    async def hold_on(self, connection: Connection, room: Room, lease_s: float) -> bool:
        """Renew the leases of work and of what it desires, and desire as much as it weighs by now; whether all stood."""
        await renew(connection, self._holder, now=self._clock.now(), lease_s=lease_s)
        rows = [one.desired_id for one in self.book.held.values() if one.desired_id is not None]
        stand = await renew_desired(connection, rows, lease_s)
        await self._reweigh(connection, room, lease_s)
        return all(one.desired_id in stand for one in self.book.held.values())

    async def mend_lapsed(self, connection: Connection, room: Room) -> None:
        """Work whose devices were desired no longer while no scheduler worked: done by then, or back where it was last saved."""
        now, done, stopped = self._clock.now(), list[Held](), list[steps.GivenBack]()
        for one in [held for held in self.book.held.values() if held.lapsed_s or held.desired_id is None]:
            since = now - timedelta(seconds=one.lapsed_s * self._clock.speed)
            if one.status is WorkloadState.RUNNING and one.due_at <= since:
                done.append(one)
            else:
                stopped.append(steps.GivenBack(one, LAPSED, since, is_saved=False))
        if done:
            outcome = await steps.end_all(connection, done)
            self._gone(room, (*outcome.done, *outcome.lost))
        await self.give_back(connection, room, stopped)

    async def stop_unowned(self, connection: Connection, room: Room, within_s: float) -> None:
        """Where nobody has commanded for so much world time the fallback plan holds: what ran is back where it was last saved.

        A facility whose file says how long its gateway goes on by itself has its own time.
        """
        now, stopped = self._clock.now(), list[steps.GivenBack]()
        own = {group.facility_id: group.hold_s for group in room.groups if group.hold_s is not None}
        for one in self.book.held.values():
            away_s = self.unowned.get(one.facility_id, 0.0) * self._clock.speed
            if away_s >= own.get(one.facility_id, within_s):
                since = now - timedelta(seconds=min(away_s, max((now - one.since).total_seconds(), 0.0)))
                stopped.append(steps.GivenBack(one, NOBODY_COMMANDS, since, is_saved=False))
        await self.give_back(connection, room, stopped)

    async def give_back(
        self, connection: Connection, room: Room, works: Sequence[steps.GivenBack], *, are_free: bool = True
    ) -> None:
        """Let its devices go, and have it wait again at no cost."""
        if works:
            outcome = await steps.give_back_all(connection, works, self.saved_within_s)
            for one in outcome.done:
                if len(one.slots) and (g := room.index.get((one.facility_id, one.group_id))) is not None:
                    room.put_to_sleep(one.workload_id, g, one.slots)
            self._gone(room, (*outcome.done, *outcome.lost), are_free=are_free)
            metrics.STEPS.labels("returned").inc(len(outcome.done))

    async def fail_broken(self, connection: Connection, room: Room, broken: dict[UUID, str]) -> None:
        """Work of whose devices one has failed goes on elsewhere, from its last checkpoint."""
        works = [(self.book.held[workload_id], f"{device} has failed") for workload_id, device in broken.items()]
        await self._fail(connection, room, works)

    async def _settled(self, connection: Connection, room: Room, words: Sequence[tuple[Held, OwnersWord]]) -> None:
        for one, word in words:
            one.tells_saved = word.tells_saved
        await self._heard_again(connection, room, [(one, word.at) for one, word in words if one.is_silent])
        ready = [(one, word.at) for one, word in words if one.status is WorkloadState.SCHEDULED]
        if not ready:
            return
        outcome = await steps.start_all(connection, ready)
        for one in outcome.done:
            one.status, one.since = WorkloadState.RUNNING, outcome.as_of[one.workload_id]
            self.book.put(one)
        self._gone(room, outcome.lost)
        metrics.STEPS.labels("started").inc(len(outcome.done))

    async def _silent(self, connection: Connection, room: Room, words: Sequence[tuple[Held, OwnersWord]]) -> None:
        """Nobody knows whether they run: no progress is counted until somebody does."""
        works = [(one, word.at) for one, word in words if one.status is WorkloadState.RUNNING]
        if not works:
            return
        outcome = await steps.stand_still_all(connection, works, SILENT)
        for one in outcome.done:
            one.began_s = one.progress_s(outcome.as_of[one.workload_id])
            one.status, one.is_silent = WorkloadState.PAUSED, True
        self._gone(room, outcome.lost)
        metrics.STEPS.labels("silent").inc(len(outcome.done))

    async def _heard_again(self, connection: Connection, room: Room, works: Sequence[tuple[Held, datetime]]) -> None:
        if not works:
            return
        outcome = await steps.go_on_all(connection, works)
        for one in outcome.done:
            one.status, one.since, one.is_silent = WorkloadState.RUNNING, outcome.as_of[one.workload_id], False
            self.book.put(one)
        self._gone(room, outcome.lost)

    async def _turned_down(self, connection: Connection, room: Room, words: Sequence[tuple[Held, OwnersWord]]) -> None:
        """Dead devices save nothing; those that may not work for now are left alone; else less may work in that group."""
        for reason, pieces in Counter(word.reason for _, word in words).items():
            self._log.info("work is turned down", pieces=pieces, reason=reason)
        broken = [(one, f"turned down: {word.to_customer}") for one, word in words if word.is_of_broken]
        await self._fail(connection, room, broken)
        kept_out = [(one, word) for one, word in words if word.is_of_devices and not word.is_of_broken]
        self._avoid([one for one, _ in kept_out])
        rest = [(one, word) for one, word in words if not word.is_of_devices]
        until = self._clock.now() + timedelta(seconds=TURNED_DOWN_S)
        self.turned_down |= {((one.facility_id, one.group_id), one.state): until for one, _ in rest}
        metrics.PREEMPTED.labels("policy").inc(len(rest))
        for some, are_free in ((kept_out, False), (rest, True)):
            works = [steps.GivenBack(one, f"turned down: {word.to_customer}", word.at) for one, word in some]
            await self.give_back(connection, room, works, are_free=are_free)

    async def _refused(self, connection: Connection, room: Room, words: Sequence[tuple[Held, OwnersWord]]) -> None:
        for one, word in words:
            self._log.warning("devices refused", workload_id=str(one.workload_id), reason=word.reason)
        await self._end_unfit(connection, room, [(one, word) for one, word in words if word.is_of_the_work])
        words = [(one, word) for one, word in words if not word.is_of_the_work]
        old = [(one, word) for one, word in words if word.is_of_old_inventory]
        self.is_outdated |= bool(old)
        await self.give_back(connection, room, [steps.GivenBack(one, INVENTORY_CHANGED, word.at) for one, word in old])
        failed = [(one, "its devices were refused") for one, word in words if not word.is_of_old_inventory]
        await self._fail(connection, room, failed)

    async def _end_unfit(self, connection: Connection, room: Room, words: Sequence[tuple[Held, OwnersWord]]) -> None:
        """What can't run has failed: elsewhere it would fare alike, and its devices are free for others at once.

        What goes on from a checkpoint has run before: it is that which can't be loaded, and we had reported it as kept.
        """
        works = [(one, f"it could not start: {word.reason}"[:500]) for one, word in words]
        going_on = [(one, reason) for one, reason in works if one.runs.checkpoint]
        if going_on:
            await steps.fail_unreadable(connection, going_on, self._clock.now())
        if anew := [(one, reason) for one, reason in works if not one.runs.checkpoint]:
            await steps.fail_all(connection, anew, self._clock.now(), may_retry=False)
        self._gone(room, [one for one, _ in works])
        metrics.STEPS.labels("failed").inc(len(works))

    async def _fail(self, connection: Connection, room: Room, works: Sequence[tuple[Held, str]]) -> None:
        if not works:
            return
        await steps.fail_all(connection, works, self._clock.now(), RETRY_AFTER_S)
        self._avoid([one for one, _ in works])
        self._gone(room, [one for one, _ in works], are_free=False)
        metrics.STEPS.labels("failed").inc(len(works))

    def _avoid(self, works: Iterable[Held]) -> None:
        until = self._clock.now() + timedelta(seconds=AVOIDED_S)
        self.avoided += [(until, (one.facility_id, one.group_id), one.at_fault) for one in works]

    async def _reweigh(self, connection: Connection, room: Room, lease_s: float) -> None:
        now, changes = self._clock.now(), list[tuple[int, Placement]]()
        running = self.book.with_status(WorkloadState.RUNNING)
        for one, weight in zip(running, weights(running, now), strict=True):
            if len(changes) == REWEIGHED_MOST:
                break
            g = room.index.get((one.facility_id, one.group_id))
            if g is not None and one.desired_id is not None and abs(weight - one.desired_priority) >= WEIGHS_OTHERWISE:
                group = room.groups[g]
                one.desired_priority = weight
                changes.append((one.desired_id, Placement(
                    one.workload_id, one.epoch, one.facility_id, one.group_id, group.first_slot, group.generation, one.slots,
                    one.state, weight, None, "", one.runs,
                )))  # fmt: skip
        if changes:
            self.book.put_rows(await desire_anew(connection, changes, lease_s))

    def _gone(self, room: Room, works: Iterable[Held], *, are_free: bool = True) -> None:
        for one in works:
            self.book.drop(one.workload_id)
            g = room.index.get((one.facility_id, one.group_id))
            if g is not None and len(one.slots):
                room.give(g, one.slots, one.state)
                if not are_free:
                    room.close(g, one.at_fault)
