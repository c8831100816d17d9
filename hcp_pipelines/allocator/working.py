"""An owner's desired work: what the rows make of the policy's numbers, and what is said of each. Pure.

The rows themselves are in `work.py`, which slots run them in `policy.desired`. Where no group is scheduled all of it is skipped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hcp_pipelines.allocator.decide import Wanted
from hcp_pipelines.allocator.desired_table import DesiredOutcome, StoredRows
from hcp_pipelines.allocator.known import Known
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.allocator.work import Served, Why, Work
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.modes import ControlMode, DeviceState
from hcp_pipelines.policy.arrays import Bools, Ints
from hcp_pipelines.policy.assigned import Assigned, is_done
from hcp_pipelines.policy.desired import DesiredRows, bent, with_work
from hcp_pipelines.policy.directives import Directed
from hcp_pipelines.policy.waves import Pool, Slots

_NOT_DONE = {
    ControlMode.OBSERVE: Why("control mode observe: nothing is carried out", "mode"),
    ControlMode.APPROVE: Why("control mode approve: it waits for somebody to agree", "mode"),
}
_KEEPS_OUT = {
    "locked": "are locked out",
    "held": "are held down by a direct order",
    "dark": "have no power",
    "dead": "do not answer, or are in quarantine",
}


@dataclass(frozen=True)
class Occasion:
    """What a decision about rows rests on, for the words of it."""

    tick_id: int
    wanted: Wanted | None
    is_acted_on: bool
    is_told: bool  # what stands is the word of a policy or of the fallback plan, if not of this moment


class Working(Known):
    """What is known of a facility, and the work that is desired there."""

    def __init__(self, site: Site, epoch: int, clock: Clock) -> None:
        super().__init__(site, clock)
        self.epoch, self.work = epoch, Work(site)
        self.work_words = ""  # how many rows ran, as of the last plan
        self._worked: tuple[Assigned, DesiredRows, Assigned] | None = None
        self.tells_saved = np.zeros(site.shape.slots, dtype=bool)  # whose driver says what becomes of work that lets go

    def desire(self, stored: StoredRows) -> bool:
        """What the scheduler wants is this now; whether it is anything new."""
        return self.work.take(stored, self._clock.monotonic_s())

    def presume_work(self) -> None:
        """Where no gateway can be asked: what is in the state of a row runs that row's work."""
        rows = self.work.rows
        wanted = rows.works[rows.row_of]
        self.devices.works[rows.slots] = np.where(
            self.devices.states[rows.slots] == rows.states[rows.row_of], wanted, self.devices.works[rows.slots]
        )

    def mix(self) -> Ints:
        """[g, s] the devices as the policy is asked about them: where somebody else has the last word, as it would have them."""
        return self._mix(self.present())

    def settle_work(self) -> None:
        """Devices may have arrived."""
        if self.work.groups:
            self.work.settle(self.devices)

    def give_up_work(self, slots: Slots, problem: str) -> None:
        """What was to run on these slots can't: its rows are refused, and nothing is held against the devices."""
        if len(slots):
            self.work.give_up(slots, self.devices.works[slots], problem)
            self.devices.left_alone(slots)

    def take_work_news(self) -> list[DesiredOutcome]:
        """What became of rows since the last call, for `desired_outcomes`."""
        news = self.work.take_news()
        if not news:
            return []
        facility_id, now, rows = self.site.facility_id, self._clock.now(), self.work.rows
        told = dict(zip(rows.ids.tolist(), (~rows.with_any(~self.tells_saved)).tolist(), strict=True))
        return [
            DesiredOutcome(row_id, facility_id, self.epoch, state, reason, now, cause, slots, told.get(row_id, False))
            for row_id, state, (reason, cause, slots) in news
        ]

    def note_silence(self, silent_s: float, hold_s: float) -> None:
        """The gateway has not been heard of for so many simulated seconds; after `hold_s` it may have taken the fallback plan."""
        if self.work.groups and silent_s >= hold_s:
            self.work.note_silence(Why(f"its gateway has not been heard of for {silent_s:.0f} s", "silent"))

    def _mix(self, present: Ints) -> Ints:
        return self._shadow.over(self.work.whole(present, self.devices, self.out))

    def _serve(self, pool: Pool, mix: Ints, bound: Ints) -> Served | None:
        """What the rows make of the policy's numbers; None where no group is scheduled."""
        if not self.work.groups:
            return None
        self.work.expire(self._clock.monotonic_s())
        return self.work.serve(pool, mix, bound, ~self.devices.usable() | self.out | self.held)

    def _assign(self, pool: Pool, served: Served, directed: Directed, occasion: Occasion) -> Pool:
        """The pool with what each slot is to do, everybody's word counted; what that means for the rows is said."""
        assigned = served.assigned if occasion.is_acted_on else served.as_it_is(pool)
        assigned = bent(assigned, pool, directed.targets)
        if occasion.is_acted_on:
            assigned = self._with_work(assigned, served)
            kept_out = {} if served.is_whole.all() else self._kept_out()
            why = partial(self._why_not, served=served, directed=directed, occasion=occasion, kept_out=kept_out)
            self.work.note(assigned, self.devices, why, is_final=occasion.is_told)
        else:
            self.work.note_none(self.devices, _NOT_DONE[self.site.control_mode])
        self.work_words = served.words()
        return pool.with_assigned(assigned)

    def _with_work(self, assigned: Assigned, served: Served) -> Assigned:
        """With whose work each slot is to run: worked out once, as long as neither rows nor goals change."""
        if self._worked is None or self._worked[0] is not assigned or self._worked[1] is not served.rows:
            self._worked = assigned, served.rows, with_work(assigned, served.rows)
        return self._worked[2]

    def _note_shadow(
        self, base: Ints, present: Ints, directed: Directed, acted_on: Served | None, *, is_told: bool
    ) -> None:
        """What the policy wants of groups in which others have the last word; `acted_on`: rows that are carried out."""
        others, counts = {*directed.by_group, *directed.exempt_by_group}, base
        if acted_on is not None:
            others |= set(self.work.groups)
            counts = acted_on.policys(base)
        if is_told:
            self._shadow.note(counts, present, others, self._groups_of(self.devices.dark))
        else:
            self._shadow.keep(present, others)

    def _is_assigned(self, pool: Pool) -> bool:
        """Whether no slot is to change for the rows' sake."""
        shape = self.site.shape
        return pool.assigned is None or is_done(pool.assigned, shape.members, pool.told)

    def _why_not(
        self, r: int, served: Served, directed: Directed, occasion: Occasion, kept_out: Mapping[str, Bools]
    ) -> Why:
        """Why a row doesn't run."""
        g, size = int(served.rows.groups[r]), int(served.rows.sizes[r])
        if not served.is_whole[r]:
            slots = served.rows.slots[served.rows.row_of == r]
            cause, mask = next((cause, mask) for cause, mask in kept_out.items() if mask[slots].any())
            reason = f"{int(mask[slots].sum())} of its {size} devices {_KEEPS_OUT[cause]}"
            return Why(reason, cause, self._within(g, slots[mask[slots]]))
        if served.is_granted[r]:
            directive = directed.by_group.get(g) or directed.exempt_by_group.get(g)
            said = f"{directive.directive_id}: {directive.detail}"[:500] if directive else "other devices come first"
            return Why(said, "order")
        ladder, state = self.site.shape.ladders[g], int(served.rows.states[r])
        places = int(served.bound[g, list(ladder[ladder.index(state) :])].sum())
        return Why(
            f"{_said_by(occasion)} {places} devices of {self.site.shape.group_ids[g]} be in {DeviceState(state).label} or more; "
            f"beside what is before it in line there is no room for its {size}",
            "room",
        )

    def _within(self, g: int, slots: Slots) -> bytes:
        """Slots as numbers within their group, as `desired_state` has them."""
        mine = self.site.shape.members[g]
        local = slots - mine.start if isinstance(mine, slice) else np.searchsorted(mine, slots)
        return bytes(np.sort(local).astype("<u4").tobytes())

    def _kept_out(self) -> dict[str, Bools]:
        """By cause, [n] devices that can't work for anybody."""
        usable = self.devices.usable()
        return {
            "locked": self.out,
            "held": self.held,
            "dark": self.devices.dark.copy(),
            "dead": ~usable,
        }


def _said_by(occasion: Occasion) -> str:
    wanted = occasion.wanted
    if wanted is None:
        return "without a good price it stays as it was, which lets"
    if wanted.guard is None:
        return "the fallback plan lets"
    at = "" if wanted.price is None else f" at {wanted.price:.2f} $/MWh"
    return f"tick {occasion.tick_id}{at}: the policy lets"


def with_targets(wanted: Wanted, targets: Ints) -> Wanted:
    """The same with other targets; itself where they are its own."""
    return wanted if targets is wanted.targets else replace(wanted, targets=targets)
