"""Desired work at one facility: the rows in force, which of them run under the policy's bound, and what is said of them.

Which slots change is planned in `policy.waves`; when to look is the owner's to say. No SQL here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from hcp_pipelines.allocator.desired_rows import compile_rows
from hcp_pipelines.allocator.desired_table import NOTHING_STORED, RowWork, StoredRows
from hcp_pipelines.allocator.devices import Devices
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.policy.arrays import Bools, Floats, Ints
from hcp_pipelines.policy.assigned import Assigned
from hcp_pipelines.policy.desired import NO_ROWS, DesiredRows, assigned_to, counts_of, granted, running
from hcp_pipelines.policy.waves import Pool, Slots
from hcp_pipelines.wire.work import key_of

_UNSAID, _DOWN, _HOLDING, _SETTLED, _REFUSED, _SILENT = range(6)
_STATES = ("", "turned_down", "holding", "settled", "refused", "holding")
_REASONED = (_DOWN, _REFUSED, _SILENT)


class Why(NamedTuple):
    """Why a row is not there: for people, in a word for the scheduler (`desired_outcomes.cause`), and which devices are why."""

    reason: str
    cause: str
    slots: bytes | None = None  # numbers within the group


NO_REASON = Why("", "")


@dataclass(frozen=True)
class _News:
    """Rows that have become something else; `why` says the reason by the place of each. Words are made once nobody waits."""

    ids: Ints
    status: Ints
    places: Ints
    why: Callable[[int], Why]


@dataclass(frozen=True)
class Served:
    """What the rows make of a policy's `bound[g, s]`; `before` is the mix as it is, `after` as it is to be."""

    rows: DesiredRows
    bound: Ints
    before: Ints
    after: Ints
    assigned: Assigned
    is_granted: Bools  # [r]
    is_whole: Bools  # [r] nothing keeps its devices from working

    def as_it_is(self, pool: Pool) -> Assigned:
        """No slot changes for its row; who has one is behind those that nobody wants, should some have to go."""
        wanted = np.zeros(pool.shape.slots, dtype=bool)
        wanted[self.rows.slots] = True
        return replace(self.assigned, goal=pool.states, is_granted=wanted)

    def policys(self, counts: Ints) -> Ints:
        """Counts `[g, s]` in which the groups where work is scheduled are as the policy would have them."""
        return _put(counts, self.assigned.groups, self.bound)

    def words(self) -> str:
        """How many rows run."""
        return f"{int(self.is_granted.sum())} of {len(self.rows.ids)} desired rows run"


class Work:
    """The rows of one owned facility."""

    def __init__(self, site: Site) -> None:
        self._site, self.groups = site, site.scheduled
        self.rows = NO_ROWS  # in force now
        self._stored, self._all = NOTHING_STORED, NO_ROWS
        self._places: Ints = np.zeros(0, dtype=np.int64)
        self._ends_at_s: Floats = np.zeros(0)
        self._next_end_s = float("inf")
        self._status: Ints = np.zeros(0, dtype=np.int64)  # [r] as it was said last
        self._refused = set[int]()  # row ids
        self._unfit = set[int]()  # row ids whose work can't run
        self._news: list[_News] = []
        self._last: tuple[Bools, Assigned] | None = None
        self._last_bound: Ints = np.zeros((0, 0), dtype=np.int64)
        self._last_whole: Bools = np.zeros(0, dtype=bool)
        self._works: dict[int, RowWork] = {}

    def of(self, key: int) -> RowWork:
        """What the workload with this key is to run."""
        return self._works[key]

    def take(self, stored: StoredRows, now_s: float) -> bool:
        """What Postgres says stands; whether it is anything new. `now_s` is real and monotonic."""
        is_same = (stored.ids, stored.is_outdated) == (self._stored.ids, self._stored.is_outdated)
        self._unfit &= set(stored.ids)
        self._stored = stored
        if not is_same:
            compiled = compile_rows(stored, self._site)
            self._all, self._places = compiled.rows, compiled.places
            self._works = {key_of(work.workload_id): work for work in stored.works}
            self._refuse(compiled.refused, compiled.outdated)
        self._ends_at_s = np.array(stored.ends_at_s, dtype=np.float64)[self._places]
        self._keep_lasting(now_s, is_new=not is_same)
        return not is_same

    def _refuse(self, why: dict[int, str], outdated: frozenset[int]) -> None:
        ids = [i for i in why if i not in self._refused]
        self._refused = set(why)
        if ids:
            news = np.array(ids), np.full(len(ids), _REFUSED), np.arange(len(ids))
            causes = ["inventory" if i in outdated else "unfit" for i in ids]
            self._news.append(_News(*news, lambda n: Why(why[ids[n]], causes[n])))

    def give_up(self, slots: Slots, works: Ints, problem: str) -> None:
        """Rows whose work was told to some of these slots, and can't run there: refused for their own sake, and absent."""
        rows, mask = self.rows, np.zeros(self._site.shape.slots, dtype=bool)
        mask[slots] = True
        told: Ints = np.zeros(len(mask), dtype=np.int64)
        told[slots] = works
        hit = mask[rows.slots] & (told[rows.slots] == rows.works[rows.row_of])
        ids = np.unique(rows.ids[rows.row_of[hit]])
        if len(ids):
            self._unfit |= set(ids.tolist())
            why = Why(problem or "what it is to run can't run", "work")
            self._news.append(_News(ids, np.full(len(ids), _REFUSED), np.arange(len(ids)), lambda _: why))
            self._keep_lasting(-np.inf, is_new=True)

    def expire(self, now_s: float) -> None:
        """A row whose lease has ended is absent."""
        if now_s >= self._next_end_s:
            self._keep_lasting(now_s, is_new=False)

    def _keep_lasting(self, now_s: float, *, is_new: bool) -> None:
        lasting = (self._ends_at_s > now_s) & ~np.isin(self._all.ids, list(self._unfit))
        self._next_end_s = float(self._ends_at_s[lasting].min(initial=np.inf))
        if not is_new and np.array_equal(self._all.ids[lasting], self.rows.ids):
            return
        said = dict(zip(self.rows.ids.tolist(), self._status.tolist(), strict=True))
        self.rows, self._last = self._all.only(lasting), None
        self._status = np.array([said.get(i, _UNSAID) for i in self.rows.ids.tolist()], dtype=np.int64)

    def whole(self, present: Ints, devices: Devices, locked: Bools) -> Ints:
        """[g, s] the mix to ask the policy about: with devices that are left alone for a moment, where rows want these."""
        if not self.groups:
            return present
        usable, mix = devices.usable() & ~locked, present.copy()
        for g in self.groups:
            mine = self._site.shape.members[g]
            mix[g] = np.bincount(devices.states[mine][usable[mine]], minlength=mix.shape[1])
        return mix

    def serve(self, pool: Pool, mix: Ints, bound: Ints, out: Bools) -> Served:
        """What the rows make of a bound, without the slots that are `out[n]` of work."""
        is_whole, groups = ~self.rows.with_any(out), list(self.groups)
        if self._last is None or not (
            np.array_equal(bound[groups], self._last_bound) and np.array_equal(is_whole, self._last_whole)
        ):
            runs = granted(pool.shape, self.rows, bound, is_whole)
            self._last = runs, assigned_to(pool.shape, self.groups, self.rows, runs)
            self._last_bound, self._last_whole = bound[groups].copy(), is_whole
        runs, assigned = self._last
        before, after = _put(mix, self.groups, pool.counts), counts_of(assigned, pool, bound)
        return Served(self.rows, bound, before, after, assigned, runs, is_whole)

    # -- what is said of them -----------------------------------------------------------------------------------------

    def note(self, assigned: Assigned, devices: Devices, why_not: Callable[[int], Why], *, is_final: bool) -> None:
        """What becomes of each row by what its slots are to do; of those turned down `why_not` says the reason.

        Where that is not final, as before an owner has a policy, nothing is said of rows that only wait.
        """
        runs, is_there = running(assigned, self.rows), self._is_there(devices)
        down = _DOWN if is_final else np.where(self._status == _UNSAID, _UNSAID, _DOWN)
        self._say(np.where(runs, np.where(is_there, _SETTLED, _HOLDING), down), why_not)

    def note_none(self, devices: Devices, why_not: Why) -> None:
        """No row is carried out; what runs or starts goes on, as nobody tells it otherwise."""
        goes_on = np.where(self._is_there(devices), _SETTLED, _HOLDING)
        self._say(np.where(self._is_taken_on(devices), goes_on, _DOWN), lambda _: why_not)

    def note_silence(self, why: Why) -> None:
        """Whether what ran does so nobody knows; what comes of it is said when its gateway is heard again."""
        ran = np.isin(
            self._status, (_UNSAID, _HOLDING, _SETTLED)
        )  # before a new owner has said anything another may have
        if ran.any():
            self._say(np.where(ran, _SILENT, self._status), lambda _: why)

    def settle(self, devices: Devices) -> None:
        """Devices may have arrived just now: rows that wait for nothing else are settled."""
        holding = self._status == _HOLDING
        if holding.any():
            is_there = self._is_there(devices)
            self._say(np.where(holding & is_there, _SETTLED, self._status), lambda _: NO_REASON)

    def take_news(self) -> list[tuple[int, str, Why]]:
        """(row id, state, why) of what has changed since the last call."""
        news, self._news = self._news, []
        return [
            (row_id, _STATES[status], one.why(place) if status in _REASONED else NO_REASON)
            for one in news
            for row_id, status, place in zip(one.ids.tolist(), one.status.tolist(), one.places.tolist(), strict=True)
        ]

    def _is_taken_on(self, devices: Devices) -> Bools:
        """[r] rows of which every slot was told its state and its work, and the gateway has taken it on."""
        rows, row_of = self.rows, self.rows.row_of
        return self._all_of(devices.is_in(rows.slots, rows.states[row_of], rows.works[row_of]))

    def _is_there(self, devices: Devices) -> Bools:
        """[r] rows of which every slot has settled into its state, with its work."""
        is_there: Bools = self._is_taken_on(devices) & self._all_of(~devices.is_starting(self.rows.slots))
        return is_there

    def _all_of(self, is_so: Bools) -> Bools:
        """[r] rows of which every slot is so."""
        found = np.ones(len(self.rows.ids), dtype=bool)
        found[self.rows.row_of[~is_so]] = False
        return found

    def _say(self, status: Ints, why_not: Callable[[int], Why]) -> None:
        changed = np.flatnonzero(status != self._status)
        if len(changed):
            self._news.append(_News(self.rows.ids[changed], status[changed], changed, why_not))
            self._status = status


def _put(counts: Ints, groups: tuple[int, ...], others: Ints) -> Ints:
    """The counts with some groups' from elsewhere."""
    mixed = counts.copy()
    mixed[list(groups)] = others[list(groups)]
    return mixed
