"""The owner's arrays over a facility's slots: commanded state, when and how it last changed, who may be commanded. Pure.

A device is *under way* from the moment it is commanded until it may be expected to have arrived; only then its power is held
against it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcp_pipelines.allocator.site import Site
from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.policy.arrays import Bools, Floats, Ints
from hcp_pipelines.policy.starts import Starts, lowest_of_slot
from hcp_pipelines.policy.waves import Move, Slots, States
from hcp_pipelines.wire.slots import decode_slots

UNKNOWN = 255
FAILURES_TO_QUARANTINE = 3
QUARANTINED_TOLD = 4_096
POWER_TOLERANCE = 0.08
POWER_TOLERANCE_MW = 60e-6
SETTLE_FACTOR = 1.5


@dataclass(frozen=True, slots=True)
class Switched:
    """A change that somebody before us commanded; `slots` as in the journal."""

    at_s: float  # simulated, Unix
    from_state: int
    mw_delta: float
    slots: bytes


@dataclass(frozen=True)
class Discrepancy:
    """Devices of one group that draw the power of another state than the one commanded."""

    group_index: int
    commanded: int
    observed: int
    slots: Slots


class Devices:
    """Mutable arrays `[n]` of one facility."""

    def __init__(self, site: Site, slack_s: float) -> None:
        self._site, self._slack_s = site, slack_s
        n = site.shape.slots
        self.states: States = np.full(n, UNKNOWN, dtype=np.uint8)
        self.changed_at_s: Floats = np.full(n, -np.inf)
        self.rose: Bools = np.zeros(n, dtype=bool)
        self._starts, self._lowest = Starts(n), lowest_of_slot(site.shape.group_of_slot, site.shape.ladders)
        self._was: States = self.states.copy()  # before the last change
        self._held: States = self.states.copy()  # what the gateway is known to have taken on
        self._is_asked: Bools = np.zeros(n, dtype=bool)  # told something that the gateway has not answered yet
        self.asleep: Bools = np.zeros(n, dtype=bool)  # seen in their lowest states since they were told last
        self._due_at_s: Floats = np.full(n, -np.inf)  # simulated: by then the device has arrived
        self._blocked_until_s: Floats = np.full(n, -np.inf)  # real monotonic: refused or deferred just now
        self._some_blocked_until_s = -np.inf  # the last of them
        self._failures: npt.NDArray[np.uint8] = np.zeros(n, dtype=np.uint8)
        self._is_there: Bools = site.shape.group_of_slot >= 0
        self._told: States = self.states.copy()  # the gateway's last word on what was commanded
        self.works: Ints = np.zeros(n, dtype=np.int64)  # the key of the work that each was told last to run
        self._held_works: Ints = self.works.copy()  # as `_held`
        self._starting: Bools = np.zeros(n, dtype=bool)  # told work that has not settled
        self._has_work = bool(site.scheduled)
        self.dark: Bools = np.zeros(n, dtype=bool)  # without power: neither commanded nor judged

    @property
    def has_unknown(self) -> bool:
        """Whether there are devices of which nobody has said yet what they do."""
        return bool((self._is_there & (self.states == UNKNOWN)).any())

    def usable(self) -> Bools:
        """Devices that can be commanded, now or in a moment."""
        can: Bools = self._is_there & ~self.dark & (self.states != UNKNOWN) & (self._failures < FAILURES_TO_QUARANTINE)
        return can

    def eligible(self, monotonic_s: float) -> Bools:
        """Devices that can be commanded now."""
        can = self.usable()
        return can & (self._blocked_until_s <= monotonic_s) if monotonic_s < self._some_blocked_until_s else can

    def is_in(self, slots: Slots, states: Ints, works: Ints) -> Bools:
        """[k] whether each of some slots was told the state and the work, and the gateway has taken both on."""
        is_state = (self.states[slots] == states) & (self._held[slots] == states) & ~self._is_asked[slots]
        found: Bools = is_state & (self.works[slots] == works) & (self._held_works[slots] == works)
        return found

    def is_starting(self, slots: Slots) -> Bools:
        """[k] whether each of some slots was told work, and has not settled into it: it loads, or will not start."""
        starting: Bools = self._starting[slots]
        return starting

    @property
    def works_starting(self) -> int:
        """Of how many workloads devices were told to begin and have not said that they do."""
        return len(np.unique(self.works[self._starting])) if self._has_work and self._starting.any() else 0

    def quarantined_of(self, groups: Sequence[int]) -> list[int]:
        """Slots of some groups that did not obey often enough to be left alone, rising; a bounded number of them."""
        bad = (self._failures >= FAILURES_TO_QUARANTINE) & np.isin(self._site.shape.group_of_slot, groups)
        found: list[int] = np.flatnonzero(bad)[:QUARANTINED_TOLD].tolist()
        return found

    @property
    def quarantined(self) -> dict[str, int]:
        """By group, devices that did not obey often enough to be left alone; groups without any are left out."""
        groups = self._site.shape.group_of_slot[self._is_there & (self._failures >= FAILURES_TO_QUARANTINE)]
        numbers, counts = np.unique(groups, return_counts=True)
        return {self._site.shape.group_ids[g]: n for g, n in zip(numbers.tolist(), counts.tolist(), strict=True)}

    def adopt(
        self,
        commanded: bytes,
        observed: bytes,
        now_s: float,
        works: Ints | None = None,
        starting: Bools | None = None,
    ) -> None:
        """Take over what the gateway says; where it was never commanded, what the power says."""
        if self._has_work:
            self.works = np.zeros(len(self.states), dtype=np.int64) if works is None else works.copy()
            self._held_works = self.works.copy()
            self._starting[:] = False if starting is None else starting & (self.works != 0)
        told, seen = self._sized(commanded), self._sized(observed)
        self.states, self._told = np.where(told != UNKNOWN, told, seen), told
        self._held = self.states.copy()
        self._is_asked[:] = False
        self.asleep[:] = False
        self._see_asleep(self._is_there, seen)
        self._due_at_s = now_s + self._settle_s(np.arange(len(self.states), dtype=np.uint32))

    def take(self, move: Move, now_s: float) -> None:
        """A move leaves."""
        settle_s = self._site.settle_s[move.group_index, move.to_state] * SETTLE_FACTOR + self._slack_s
        self._was[move.slots] = move.from_state
        self.states[move.slots], self._is_asked[move.slots] = move.to_state, True
        self.asleep[move.slots] = False
        if self._has_work:
            self.works[move.slots], self._starting[move.slots] = move.work, move.work != 0
        self._due_at_s[move.slots] = now_s + settle_s
        self._note(move.slots, move.from_state, move.mw_delta, now_s)

    def _note(self, slots: Slots, from_state: int, mw_delta: float, at_s: float) -> None:
        self.changed_at_s[slots] = at_s
        self.rose[slots] = mw_delta > 0
        if mw_delta > 0 and len(slots) and from_state == self._lowest[slots[0]]:  # all of one group
            self._starts.note(slots, at_s)

    def restore(self, switches: Sequence[Switched]) -> None:
        """What predecessors commanded, oldest first; an owner that has commanded something itself knows it already."""
        if np.isfinite(self.changed_at_s).any():
            return
        for one in switches:
            self._note(decode_slots(one.slots, len(self.states)), one.from_state, one.mw_delta, one.at_s)

    def worn(self, most: int, now_s: float) -> Bools:
        """Devices in their lowest states that were started `most` times within the hour."""
        used_up: Bools = self._starts.used_up(most, now_s) & (self.states == self._lowest)
        return used_up

    def falling_mw(self, now_s: float) -> Floats:
        """[g] all-in MW that devices on their way down may still draw beyond the state they were told."""
        shape, found = self._site.shape, np.zeros(len(self._site.shape.group_ids))
        slots = np.flatnonzero(self._is_there & ~self.rose & (self._due_at_s > now_s) & (self._was != UNKNOWN))
        if len(slots):
            groups = shape.group_of_slot[slots]
            beyond = shape.power_mw[groups, self._was[slots]] - shape.power_mw[groups, self.states[slots]]
            np.add.at(found, groups, np.maximum(beyond, 0.0))
        return found

    def taken_on(self, slots: Slots, state: int, work: int = 0) -> None:
        """The gateway has taken a command on for devices."""
        self._held[slots], self._is_asked[slots] = state, False
        if self._has_work:
            self._held_works[slots] = work

    def put_back(self, slots: Slots, state: int, monotonic_s: float, pause_s: float, work: int = 0) -> None:
        """Devices that were not taken into a state: as the gateway holds them, and left alone for a moment.

        Those that were told another since wait for the answer to that.
        """
        self._blocked_until_s[slots] = monotonic_s + pause_s
        self._some_blocked_until_s = max(self._some_blocked_until_s, monotonic_s + pause_s)
        slots = slots[(self.states[slots] == state) & (self.works[slots] == work)]
        self.states[slots], self._is_asked[slots] = self._held[slots], False
        self.works[slots], self._starting[slots] = self._held_works[slots], False
        self.changed_at_s[slots] = -np.inf
        self._starts.forget(slots[self.rose[slots] & (self._lowest[slots] == self.states[slots])])

    def set_local(self, slots: Slots, state: int, now_s: float) -> None:
        """The gateway changed devices by itself."""
        self.states[slots] = self._held[slots] = state
        self._forget_works(slots)
        self._is_asked[slots] = self.asleep[slots] = False
        self._due_at_s[slots] = now_s + self._settle_s(slots)

    def forgive(self, which: Bools) -> None:
        """Devices that somebody had in hand: what they failed at before is not held against them."""
        self._failures[which] = 0

    def settled(self, slots: Slots) -> None:
        """Devices that arrived: earlier failures are forgiven."""
        self._failures[slots] = 0
        self._starting[slots] = False
        own = slots[~self._is_asked[slots]]  # what is told something else by now has not arrived there
        self.asleep[own] = self._held[own] == self._lowest[own]

    def have_failed(self, slots: Slots) -> bool:
        """Whether all of some devices did not arrive when they were told last, or the times before."""
        return bool(len(slots) and (self._failures[slots] > 0).all())

    def failed(self, slots: Slots) -> None:
        """Devices that did not arrive in time: their power may be looked at now. Without power nothing arrives.

        What work they run nobody knows, whatever their power says: they are told it again.
        """
        self._forget_works(slots)
        self.asleep[slots] = False
        slots = slots[~self.dark[slots]]
        self._failures[slots] = np.minimum(self._failures[slots] + 1, FAILURES_TO_QUARANTINE)
        self._due_at_s[slots] = -np.inf

    def left_alone(self, slots: Slots) -> None:
        """Devices that did not arrive for no fault of theirs: their power may be looked at now."""
        self._forget_works(slots)
        self.asleep[slots] = False
        self._due_at_s[slots] = -np.inf

    def reconcile(self, commanded: bytes, observed: bytes, now_s: float) -> list[Discrepancy]:
        """Compare with gateway and meter; what differs is taken over, so that the next plan drives it again.

        Devices under way are left alone. What was found once is not found again.
        """
        told, seen = self._sized(commanded), self._sized(observed)
        arrived = self._is_there & ~self.dark & (self._due_at_s <= now_s)
        is_news = (told != UNKNOWN) & (told != self._told)  # its earlier word may have been shown wrong since
        is_first = self._is_there & ~self.dark & (self.states == UNKNOWN) & (told != UNKNOWN)  # nothing is under way
        adopted = (arrived & is_news & (told != self.states)) | is_first
        self.states[adopted] = self._held[adopted] = told[adopted]
        self._is_asked[adopted] = False
        self._forget_works(adopted)
        self._told = told
        different = np.flatnonzero(arrived & (seen != UNKNOWN) & (self.states != UNKNOWN) & (seen != self.states))
        wrong = different[self._is_other_power(different, seen)]
        found = self._grouped(wrong.astype(np.uint32), seen)
        self.states[wrong] = self._held[wrong] = seen[wrong]
        self._forget_works(wrong)
        self.asleep[wrong] = False
        self._see_asleep(arrived, seen)
        return found

    def _see_asleep(self, which: Bools, seen: States) -> None:
        """Which of some devices, told nothing that they may be on their way to, draw what their lowest states do."""
        is_low = which & (self._held == self._lowest) & (self.states == self._lowest) & ~self._is_asked
        slots = np.flatnonzero(is_low & ~self.asleep & (seen != UNKNOWN))
        self.asleep[slots] = ~self._is_other_power(slots, seen)

    def _forget_works(self, slots: "Slots | Bools | npt.NDArray[np.intp]") -> None:
        """Nobody knows whose work they run, if anybody's."""
        if self._has_work:
            self.works[slots] = self._held_works[slots] = 0
            self._starting[slots] = False

    def _is_other_power(self, slots: npt.NDArray[np.intp], seen: States) -> Bools:
        """Whether the two states differ in power: several uses of a GPU draw the same, and can't be told apart."""
        power, groups = self._site.shape.power_mw, self._site.shape.group_of_slot[slots]
        wanted, drawn = power[groups, self.states[slots]], power[groups, seen[slots]]
        apart: Bools = np.abs(wanted - drawn) > np.maximum(POWER_TOLERANCE * wanted, POWER_TOLERANCE_MW)
        return apart

    def _grouped(self, slots: Slots, seen: States) -> list[Discrepancy]:
        groups = self._site.shape.group_of_slot[slots]
        keys = sorted(set(zip(groups.tolist(), self.states[slots].tolist(), seen[slots].tolist(), strict=True)))
        return [
            Discrepancy(g, c, o, slots[(groups == g) & (self.states[slots] == c) & (seen[slots] == o)])
            for g, c, o in keys
        ]

    def _settle_s(self, slots: Slots) -> Floats:
        groups = self._site.shape.group_of_slot[slots]
        states = np.minimum(self.states[slots], self._site.settle_s.shape[1] - 1)
        due: Floats = self._site.settle_s[groups, states] * SETTLE_FACTOR + self._slack_s
        return due

    def _sized(self, raw: bytes) -> States:
        """A gateway's byte per slot, at this generation's length; what is missing, or no state, is unknown."""
        told = np.frombuffer(raw, dtype=np.uint8)
        sized: States = np.full(len(self.states), UNKNOWN, dtype=np.uint8)
        known = min(len(told), len(sized))
        sized[:known] = np.where(told[:known] < STATE_COUNT, told[:known], UNKNOWN)
        return sized
