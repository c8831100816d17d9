"""What an owner knows of its facility's load: devices, locks, ramp windows, obligations, and what happened there by itself.

Nothing is decided here.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from hcp_pipelines.allocator.devices import UNKNOWN, Devices, Discrepancy
from hcp_pipelines.allocator.memory import Memory, memory_of, shadow_of
from hcp_pipelines.allocator.obligations import ObligationBook
from hcp_pipelines.allocator.shadow import Shadow
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.allocator.standing import NOTHING_STANDS, Standing
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.policy.arrays import Bools, Ints
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.ramps import Booking, RampLedger
from hcp_pipelines.policy.waves import WORKS_AT_ONCE, Pool, Slots

WORKS_STARTING_MAX = 2_048  # of a facility: a gateway takes twice as many assignments, prices' and orders' among them


class Known:
    """The state of one owned facility."""

    def __init__(self, site: Site, clock: Clock) -> None:
        self.site, self._clock = site, clock
        self.devices = Devices(site, slack_s=5.0 * clock.speed)
        self.ledger = RampLedger(site.ramps)
        self.obligations = ObligationBook(site)
        self.out: Bools = np.zeros(site.shape.slots, dtype=bool)
        self._rested: Bools = self.out
        self._unfit: Bools = self.out
        self._stand(NOTHING_STANDS)
        self.held = np.zeros(site.shape.slots, dtype=bool)  # a direct order at the gateway holds them down
        self._shadow = Shadow()

    def restore_ramps(self, bookings: Sequence[tuple[float, str, float]]) -> None:
        """Count what predecessors have used up of the windows."""
        self.ledger.restore(Booking(*b) for b in bookings)

    def ramp_horizon(self, now: datetime) -> datetime:
        """Since when a successor must count load changes."""
        return now - timedelta(seconds=self.site.ramp_window_s)

    def present(self) -> Ints:
        """[g, s] devices that policies and directives decide about, by state."""
        return self.pool().counts

    def pool(self) -> Pool:
        """The devices that policies and directives decide about: those that can be commanded, and nobody has taken out."""
        if not self.site.scheduled:
            return Pool(self.site.shape, self.devices.states, self.free())
        room = max(WORKS_STARTING_MAX - self.devices.works_starting, 0)
        at_once = min(room, WORKS_AT_ONCE)
        return Pool(self.site.shape, self.devices.states, self.free(), None, self.devices.works, at_once)

    def free(self) -> Bools:
        """[n] devices that policies and directives decide about."""
        free: Bools = self.devices.eligible(self._clock.monotonic_s()) & ~self.out
        return free

    def to_lock(self) -> Bools:
        """[n] locked devices that can be told to go down. What was seen asleep in its maintenance is not touched again there."""
        if not self.locked.any():
            return self.locked
        can: Bools = self.devices.eligible(self._clock.monotonic_s()) & self.locked
        self._note_rested()
        return can & ~self._rested

    def reconcile(self, commanded: bytes, observed: bytes, now_s: float) -> list[Discrepancy]:
        """Hold the devices against gateway and meter; what differs."""
        self._note_rested()  # before: what has been asleep may be tried out by hand
        return self.devices.reconcile(commanded, observed, now_s)

    def _note_rested(self) -> None:
        if self._untouched.any():
            self._rested |= self._untouched & self.devices.asleep

    def to_empty(self) -> Bools | None:
        """[n] devices that maintenance empties and that can be told to go down; None where it empties none."""
        return self.devices.eligible(self._clock.monotonic_s()) & self.emptying if self.emptying.any() else None

    def sheddable_on_mw(self) -> float:
        """MW above the lowest states of the load that counts for the obligations' floor."""
        shape, present = self.site.shape, self.present()
        lows = shape.power_mw[np.arange(len(shape.ladders)), [ladder[0] for ladder in shape.ladders]]
        above = (present * (shape.power_mw - lows[:, None])).sum(axis=1)
        return float(above[self.obligations.sheddable].sum())

    def take_local(self, slots: Slots, state: int, at_s: float, told_mw: float = 0.0) -> dict[int, float]:
        """The gateway did something by itself: it counts, and it is on the ramps' windows; signed MW by group.

        `told_mw` is what the gateway reckoned: where it had been done before it announced its state, that is all there is.
        """
        shape, was = self.site.shape, self.devices.states[slots]
        self.devices.set_local(slots, state, at_s)
        groups, found = shape.group_of_slot[slots], dict[int, float]()
        for g in np.unique(groups[groups >= 0]).tolist():
            own = was[(groups == g) & (was != UNKNOWN)]
            found[g] = float((shape.power_mw[g, state] - shape.power_mw[g, own]).sum())
        if not any(found.values()):
            found = self._shared_out(groups, state, told_mw)
        for g, mw in found.items():
            self.ledger.book(at_s, {shape.feeder_of_group[g]: mw})
        return found

    def _shared_out(self, groups: Ints, state: int, mw: float) -> dict[int, float]:
        """MW by group, in proportion to the most that its devices can have changed."""
        power, found = self.site.shape.power_mw, dict[int, float]()
        for g in np.unique(groups[groups >= 0]).tolist():
            found[g] = float(
                np.abs(power[g, list(self.site.shape.ladders[g])] - power[g, state]).max() * (groups == g).sum()
            )
        whole = sum(found.values())
        return {g: mw * most / whole if whole else 0.0 for g, most in found.items()}

    def lose_power(self, slots: Slots, at_s: float) -> None:
        """A relay or a breaker has taken the power of devices: no failure. What they did is remembered, and restored."""
        shape, counts = self.site.shape, self.present()
        mask = np.zeros(shape.slots, dtype=bool)
        mask[slots] = True
        for g in self._groups_of(mask):
            self._shadow.kept.setdefault(g, counts[g].copy())
        is_known = self.devices.states != UNKNOWN
        lost, whole = (
            shape.counts(self.devices.states, which & is_known) for which in (mask, shape.group_of_slot >= 0)
        )
        self.obligations.power.lose(at_s, float((lost * shape.power_mw).sum()), float((whole * shape.power_mw).sum()))
        self.devices.dark |= mask

    def regain_power(self, slots: Slots, at_s: float) -> None:
        """Devices have power again, and are asleep: they are released in waves, under the ramps."""
        self.devices.dark[slots] = False
        if not self.devices.dark.any():
            self.obligations.power.regain(at_s)

    def _stand(self, standing: Standing) -> None:
        shape = self.site.shape
        self.standing, self.locked, self._untouched = standing, standing.locked(shape), standing.in_maintenance(shape)
        self.emptying = standing.emptying(shape) & ~self.locked
        out, unfit = self.locked | self.emptying, standing.unfit(shape)
        # Given back, or repaired. What is broken still stays in quarantine, whoever had it in hand.
        self.devices.forgive(((self.out & ~out) | (self._unfit & ~unfit)) & ~unfit)
        self.out, self._unfit = out, unfit  # neither policies nor directives have a say in what is out
        self._rested = self._rested & self._untouched  # seen asleep since their window began, or before

    def _recall(self, memory: Memory) -> None:
        self._shadow = shadow_of(memory, self.site.shape)

    def _memory(self, guard: GuardState | None) -> Memory:
        told: Memory = {"quarantined": self.devices.quarantined}
        if told["quarantined"]:
            told["failed_slots"] = self.devices.quarantined_of(range(len(self.site.shape.group_ids)))
        if self.site.scheduled:  # whose devices are placed one by one
            told["quarantined_slots"] = self.devices.quarantined_of(self.site.scheduled)
        return memory_of(guard, self._shadow, self.site.shape) | told

    def _groups_of(self, mask: Bools) -> list[int]:
        """The groups that have one of some slots."""
        groups: list[int] = np.unique(self.site.shape.group_of_slot[mask]).tolist() if mask.any() else []
        return groups
