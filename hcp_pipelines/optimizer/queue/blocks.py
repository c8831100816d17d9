"""Steps of work as blocks of a group's ladder: the demand curve going up and the one coming down, side by side. Pure.

GPUs of a group are alike, so that a policy says how many are on, not which. Going up, as many are let in as have an on-strike
above the price; coming down, as many stay as have an off-strike not below it. Both are sorted by themselves: what is cheap
to stop goes first though it may pay more. Work of a state stands on every step of the ladder up to that state, with the same
strikes, so that what goes off leaves the counts of all other states as they are.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.optimizer.inputs import GroupInputs, SiteInputs, StateInputs, WorkStep
from hcp_pipelines.optimizer.steps import MERIT_EPSILON_USD_PER_MWH
from hcp_pipelines.policy.schema import Affine, Block, BlockWork, LadderStep


@dataclass(frozen=True, slots=True)
class WorkPiece:
    """So many devices on one step of the ladder: who is let in there, whose worth counts there, who stays there."""

    group: GroupInputs
    low: StateInputs
    high: StateInputs
    devices: int
    let_in: WorkStep
    counts: WorkStep
    stays: WorkStep

    def worth_at(self, index: float) -> float:
        """$/MWh, for the merit order."""
        return self.counts.worth.at(index)

    def block(self, rank: int) -> Block:
        """As a block of the policy; `rank` is the merit order, best first."""
        nudge = -MERIT_EPSILON_USD_PER_MWH * rank
        return Block(
            group_id=self.group.group_id,
            from_state=self.low.state,
            to_state=self.high.state,
            devices=self.devices,
            mw=self.devices * (self.high.power_kw - self.low.power_kw) / 1000,
            order=rank,
            index=self.group.index,
            on=_nudged(self.let_in.on, nudge),
            off=_nudged(self.stays.off, nudge),
            wake_cost_usd_per_mw=self.counts.stop_usd_per_mw,
            work=BlockWork(worth=self.counts.worth, workload_type=self.counts.workload_type, words=self.words),
        )

    @property
    def words(self) -> str:
        """Whose it is; where another's stopping costs more, whose strike keeps it on."""
        if self.stays.words == self.counts.words:
            return self.counts.words
        return f"{self.counts.words}; the last to go: {self.stays.words}"


def pieces(group: GroupInputs, steps: Sequence[WorkStep], index: float) -> list[WorkPiece]:
    """The pieces of a group, lower steps of its ladder first, each step's best first."""
    position = {s.state: k for k, s in enumerate(group.ladder)}
    found = []
    for k, (low, high) in enumerate(pairwise(group.ladder), start=1):
        upon = [step for step in steps if position[step.state] >= k]
        found += [WorkPiece(group, low, high, *each) for each in _side_by_side(upon, index)]
    return found


def _side_by_side(steps: Sequence[WorkStep], index: float) -> Iterator[tuple[int, WorkStep, WorkStep, WorkStep]]:
    """(devices, by on-strike, by worth, by off-strike): three falling orders, cut wherever one of them changes."""
    let_in, counts, stays = (
        _Curve(sorted(steps, key=key))
        for key in (lambda s: -s.on.at(index), lambda s: -s.worth.at(index), lambda s: -s.off.at(index))
    )
    begin = 0
    for end in sorted({*let_in.ends, *counts.ends, *stays.ends}):
        yield end - begin, let_in.at(begin), counts.at(begin), stays.at(begin)
        begin = end


class _Curve:
    """Steps in a row: whose the n-th GPU is."""

    def __init__(self, steps: Sequence[WorkStep]) -> None:
        self._steps = steps
        self.ends = list(accumulate(step.gpus for step in steps))

    def at(self, n: int) -> WorkStep:
        return self._steps[bisect_right(self.ends, n)]


def work_ladder(group: GroupInputs, steps: Sequence[WorkStep], site: SiteInputs) -> tuple[LadderStep, ...]:
    """The group's ladder with what its work pays on average in each state; a state without work pays the market's rate."""
    return tuple(
        LadderStep(
            state=s.state,
            power_kw=s.power_kw,
            index=group.index,
            revenue_usd_per_device_hour=_earned(group, s, [w for w in steps if w.state is s.state], site),
        )
        for s in group.ladder
    )


def _earned(group: GroupInputs, state: StateInputs, steps: Sequence[WorkStep], site: SiteInputs) -> Affine:
    rest_kw, gpus = group.ladder[0].power_kw, sum(w.gpus for w in steps)
    adders = site.adders_usd_per_mwh * state.power_kw / 1000
    if not gpus:
        is_resting = state.state in (DeviceState.IDLE, DeviceState.CURTAILED)
        return Affine(slope=0.0 if is_resting else site.gpu_rate_fraction.get(state.state, 1.0), offset=0.0 - adders)
    mwh = (state.power_kw - rest_kw) / 1000 / gpus
    slope = sum(w.worth.slope * w.gpus for w in steps) * mwh
    offset = sum(w.worth.offset * w.gpus for w in steps) * mwh  # the adders on what it draws above rest are off already
    return Affine(slope=slope, offset=offset - site.adders_usd_per_mwh * rest_kw / 1000)


def _nudged(strike: Affine, usd_per_mwh: float) -> Affine:
    return Affine(slope=strike.slope, offset=strike.offset + usd_per_mwh)
