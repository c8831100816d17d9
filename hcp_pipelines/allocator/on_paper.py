"""What a policy would have earned where the control mode keeps it from acting: on paper, wakes paid, beside what was done.

On paper the devices begin as they are and go on from there, by the evaluation that decides; ramps, dwell times, orders and locks
are not on it. Dollars are revenue less power bought at the decision price; what devices were told by others costs nothing here.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from hcp_pipelines.allocator.decide import InForce
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.policy.arrays import CompiledPolicy, Ints
from hcp_pipelines.policy.evaluate import evaluate
from hcp_pipelines.policy.guard import GuardState
from hcp_pipelines.policy.merit import on_by_block

LONGEST_H = 1.0  # simulated: a price that is older than this says nothing of the hours since


@dataclass(frozen=True, slots=True)
class PaperRow:
    """From the last tick to this one: hours, dollars as devices were and on paper, its wakes; then the mix at this tick."""

    simulated_at: datetime
    facility_id: str
    control_mode: str
    tick_id: int
    policy_id: int
    decision_price: float
    hours: float
    usd_actual: float
    usd_paper: float
    wake_usd: float
    devices: int
    mw_actual: float
    mw_paper: float


class OnPaper:
    """The paper of one facility; a new owner begins a new one from what the devices do."""

    def __init__(self) -> None:
        self._counts: Ints | None = None
        self._guard: GuardState | None = None
        self._since: tuple[float, float, float] | None = None  # Unix seconds, $/h as it was, $/h on paper

    def follow(
        self,
        site: Site,
        in_force: InForce,
        present: Ints,
        price: float,
        indices: dict[str, float],
        now: datetime,
        tick_id: int,
    ) -> PaperRow:
        """Go on to a tick; what was earned since the last one, and what changes now."""
        compiled, now_s = in_force.compiled, now.timestamp()
        before = present if self._counts is None else refitted(self._counts, present, compiled)
        hours, actual, paper = 0.0, 0.0, 0.0
        if self._since is not None:
            hours = min(max(now_s - self._since[0], 0.0) / 3600, LONGEST_H)
            actual, paper = (rate * hours for rate in self._since[1:])
        guard = (self._guard or GuardState.empty(compiled)).carried_to(compiled)
        found = evaluate(compiled, before, price, indices, now, guard, hours)
        value = compiled.revenue_usd_per_hour(indices) - price * compiled.power_mw
        wakes = wake_usd(compiled, before, found.targets)
        self._counts, self._guard = found.targets, found.guard
        self._since = (now_s, float((present * value).sum()), float((found.targets * value).sum()))
        return PaperRow(
            simulated_at=now,
            facility_id=site.facility_id,
            control_mode=site.control_mode.value,
            tick_id=tick_id,
            policy_id=in_force.policy_id,
            decision_price=price,
            hours=hours,
            usd_actual=actual,
            usd_paper=paper - wakes,
            wake_usd=wakes,
            devices=int(np.abs(found.targets - before).sum()) // 2,
            mw_actual=float((present * compiled.power_mw).sum()),
            mw_paper=float((found.targets * compiled.power_mw).sum()),
        )


def refitted(counts: Ints, present: Ints, compiled: CompiledPolicy) -> Ints:
    """[g, s] the paper's mix over as many devices as there are now: who comes is asleep, who goes was asleep first."""
    out = counts.copy()
    for g, ladder in enumerate(compiled.ladders):
        change = int(present[g].sum() - out[g].sum())
        out[g, ladder[0]] += max(change, 0)
        for state in ladder:
            gone = min(int(out[g, state]), max(-change, 0))
            out[g, state] -= gone
            change += gone
    return out


def wake_usd(compiled: CompiledPolicy, before: Ints, after: Ints) -> float:
    """Dollars of the blocks' wakes between two mixes."""
    rises = np.array(on_by_block(compiled, after)) - np.array(on_by_block(compiled, before))
    return float((np.maximum(rises, 0) * compiled.block_mw_per_device * compiled.wake_cost_usd_per_mw).sum())
