"""Grid obligations: their state machine, what each status asks of the load, whether they can be met, and whether they were. Pure.

offered → awarded → armed → deployed → recovering → settled or failed; after a recovery an interval that goes on is armed again.
'Met' is judged at the revenue meter, from the deadline through the event (DESIGN §6). All MW are at that meter, all instants
simulated Unix seconds. Who reads signals and meters, and writes the rows, is not decided here.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from hcp_pipelines.domain.modes import ReasonCode

MET_FRACTION = 0.95  # of the MW sold; ours, as a setting: programmes state their own
SHED = ReasonCode.SHED_BY_RELAY.value  # the reason of an obligation that a relay has deployed
SAMPLE_GAP_S = 120.0  # a meter that is silent for longer during an event proves nothing for that time
RESPONSE_PROGRAMMES = ("DR",)
BASE_POINT_GOOD_S = 900.0  # simulated: SCED sends one every five minutes
MARGIN_S = 10.0  # of the notice: signal, plan, command, ack, on a slow day


class Status(StrEnum):
    """Where an obligation is, as `grid_obligations.status` has it."""

    OFFERED = "offered"
    AWARDED = "awarded"
    ARMED = "armed"
    DEPLOYED = "deployed"
    RECOVERING = "recovering"
    SETTLED = "settled"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


NEXT = {
    Status.OFFERED: {Status.AWARDED, Status.WITHDRAWN},
    Status.AWARDED: {Status.ARMED, Status.WITHDRAWN, Status.FAILED},
    Status.ARMED: {Status.DEPLOYED, Status.SETTLED, Status.FAILED},
    Status.DEPLOYED: {Status.RECOVERING, Status.FAILED},
    Status.RECOVERING: {Status.ARMED, Status.SETTLED, Status.FAILED},
    Status.SETTLED: set(),
    Status.FAILED: set(),
    Status.WITHDRAWN: set(),
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the meter said during an event: the least fraction of the MW sold, and for how long it said nothing."""

    least: float = math.inf
    last_at_s: float | None = None
    longest_gap_s: float = 0.0

    def with_sample(self, at_s: float, fraction: float) -> "Delivery":
        """One more sample; those that are not newer change nothing."""
        if self.last_at_s is not None and at_s <= self.last_at_s:
            return self
        gap_s = self.longest_gap_s if self.last_at_s is None else max(self.longest_gap_s, at_s - self.last_at_s)
        return Delivery(min(self.least, fraction), at_s, gap_s)

    def is_met(self) -> bool:
        """Whether enough was delivered at every sample, and the meter was never silent for long."""
        return math.isfinite(self.least) and self.least >= MET_FRACTION and self.longest_gap_s <= SAMPLE_GAP_S


@dataclass(frozen=True, slots=True)
class Obligation:
    """One programme's MW of one facility over one interval."""

    obligation_id: int
    facility_id: str
    programme: str
    status: Status
    mw: float
    start_s: float
    end_s: float
    notice_s: float
    duration_s: float
    recovery_s: float
    tranche: str = "all"
    deployed_at_s: float | None = None
    recalled_at_s: float | None = None
    baseline_mw: float | None = None
    delivery: Delivery = Delivery()
    reason: str = ""
    penalty_usd_per_mwh: float = 0.0

    @property
    def is_response(self) -> bool:
        """Whether it is demand response: an operator's override goes before it, and ramps delay it; the grid's own, neither."""
        return self.programme.startswith(RESPONSE_PROGRAMMES)

    @property
    def deadline_s(self) -> float:
        """By when the load must be down; infinite while it is not deployed."""
        return math.inf if self.deployed_at_s is None else self.deployed_at_s + self.notice_s

    @property
    def event_end_s(self) -> float:
        """When the event ends by itself: its longest duration, or the interval's end."""
        return min(self.deadline_s + self.duration_s, self.end_s)

    def moved_to(self, status: Status, reason: str = "") -> "Obligation":
        """The same in another status.

        Raises:
            ValueError: there is no such way.
        """
        if status not in NEXT[self.status]:
            raise ValueError(f"obligation {self.obligation_id}: no way from {self.status} to {status}")
        return replace(self, status=status, reason=reason)


@dataclass(frozen=True, slots=True)
class Signals:
    """What the grid has said of one obligation: the newest deployment and recall, if any."""

    deploy_at_s: float | None = None
    recall_at_s: float | None = None


def step(obligation: Obligation, now_s: float, signals: Signals, meter_mw: float, lead_s: float = 0.0) -> Obligation:
    """The obligation at an instant, as far as one transition; call again until nothing changes.

    `meter_mw` becomes the baseline of a deployment; not a number where the meter is silent. `lead_s` before its interval it is
    armed, so that its load is on when it begins.
    """
    match obligation.status:
        case Status.AWARDED if now_s >= obligation.start_s - lead_s:
            return obligation.moved_to(Status.ARMED)
        case Status.ARMED:
            return _armed(obligation, now_s, signals, meter_mw)
        case Status.DEPLOYED:
            return _deployed(obligation, now_s, signals)
        case Status.RECOVERING:
            return _recovering(obligation, now_s)
        case _:
            return obligation


def _armed(obligation: Obligation, now_s: float, signals: Signals, meter_mw: float) -> Obligation:
    at_s = signals.deploy_at_s
    is_new = at_s is not None and (obligation.recalled_at_s is None or at_s > obligation.recalled_at_s)
    if is_new and at_s is not None and obligation.start_s <= at_s < obligation.end_s and at_s <= now_s:
        deployed = replace(
            obligation, deployed_at_s=at_s, recalled_at_s=None, baseline_mw=meter_mw, delivery=Delivery()
        )
        return deployed.moved_to(Status.DEPLOYED)
    if now_s >= obligation.end_s:
        return obligation.moved_to(Status.SETTLED, "not called")
    return obligation


def _deployed(obligation: Obligation, now_s: float, signals: Signals) -> Obligation:
    recall_s, began_s = signals.recall_at_s, obligation.deployed_at_s or 0.0
    ends_s = obligation.event_end_s
    if recall_s is not None and began_s <= recall_s <= now_s:
        ends_s = min(ends_s, recall_s)
    if now_s < ends_s:
        return obligation
    return replace(obligation, recalled_at_s=ends_s).moved_to(Status.RECOVERING, obligation.reason)


def _recovering(obligation: Obligation, now_s: float) -> Obligation:
    recalled_s = obligation.recalled_at_s or 0.0
    if now_s < min(recalled_s + obligation.recovery_s, max(obligation.end_s, recalled_s)):
        return obligation
    reason = verdict(obligation)
    if reason:
        return obligation.moved_to(Status.FAILED, reason)
    return obligation.moved_to(Status.SETTLED if now_s >= obligation.end_s else Status.ARMED, "met")


def verdict(obligation: Obligation) -> str:
    """Why an event was not met; empty where it was, or was recalled before its deadline."""
    delivery, recalled_s = obligation.delivery, obligation.recalled_at_s
    if recalled_s is not None and recalled_s <= obligation.deadline_s:
        return ""
    if not math.isfinite(delivery.least):
        if obligation.reason == SHED:
            return ""  # it was over before the meter could say that it had lasted
        return "no meter reading between the deadline and the end of the event"
    if delivery.least < MET_FRACTION:
        return (
            f"delivered {delivery.least:.1%} of {obligation.mw:g} MW at the worst sample, {MET_FRACTION:.0%} are needed"
        )
    if delivery.longest_gap_s > SAMPLE_GAP_S:
        return f"the meter was silent for {delivery.longest_gap_s:.0f} s during the event, {SAMPLE_GAP_S:.0f} s are allowed"
    return ""


def observe(obligation: Obligation, at_s: float, meter_mw: float) -> Obligation:
    """Count a meter sample towards the event; outside of it, or without a baseline, it changes nothing."""
    is_within = obligation.deadline_s <= at_s <= obligation.event_end_s
    if obligation.status is not Status.DEPLOYED or not is_within or not math.isfinite(meter_mw):
        return obligation
    baseline = obligation.baseline_mw
    if baseline is None or not math.isfinite(baseline):
        return obligation
    fraction = (baseline - meter_mw) / obligation.mw
    return replace(obligation, delivery=obligation.delivery.with_sample(at_s, fraction))


@dataclass(frozen=True, slots=True)
class Ask:
    """What all obligations of a facility together ask of its load."""

    floor_mw: float = 0.0  # interruptible load that must stay on
    cap_mw: float = math.inf  # at the meter, at most
    deadline_s: float = math.inf  # by when the cap must hold


def ask_of(obligations: Iterable[Obligation]) -> Ask:
    """Armed MW are a floor on interruptible load; each deployment takes its MW off the lowest baseline of those under way."""
    armed, deployed = [], []
    for obligation in obligations:
        if obligation.status is Status.ARMED:
            armed.append(obligation)
        elif obligation.status is Status.DEPLOYED and obligation.baseline_mw is not None:
            deployed.append(obligation)
    if not deployed:
        return Ask(floor_mw=sum(o.mw for o in armed))
    baselines = [o.baseline_mw for o in deployed if o.baseline_mw is not None and math.isfinite(o.baseline_mw)]
    first_mw = max(baselines, default=math.inf)
    cap_mw = max(first_mw - sum(o.mw for o in deployed), 0.0)
    floor_mw = min(sum(o.mw for o in armed), cap_mw)
    return Ask(floor_mw, cap_mw, min(o.deadline_s for o in deployed))


@dataclass(frozen=True, slots=True)
class Flexible:
    """Load that can go: MW of one group at the meter, and how long its devices take to settle asleep."""

    group_id: str
    mw: float
    settle_s: float


def refusal_of(obligation: Obligation, flexible: Sequence[Flexible], standing: Iterable[Obligation] = ()) -> str:
    """Why an obligation can't be taken on, to be said beforehand; empty where it can.

    What settles within the notice counts, less what obligations that overlap have sold already.
    """
    times_s = {
        "notice": obligation.notice_s,
        "duration": obligation.duration_s,
        "recovery": obligation.recovery_s,
        "begin": obligation.start_s,
        "end": obligation.end_s,
    }
    endless = [f"{name} {time_s:g} s" for name, time_s in times_s.items() if not math.isfinite(time_s)]
    if endless:
        return f"{', '.join(endless)}: it has to be a number of seconds"
    if obligation.end_s <= obligation.start_s or not math.isfinite(obligation.mw) or obligation.mw <= 0:
        return f"{obligation.mw:g} MW from {obligation.start_s:.0f} to {obligation.end_s:.0f}: no MW, or no time"
    quick = [f for f in flexible if f.settle_s + MARGIN_S <= obligation.notice_s]
    can_mw = sum(f.mw for f in quick)
    sold_mw = sum(o.mw for o in standing if overlaps(o, obligation) and o.status not in _OVER)
    if can_mw - sold_mw >= obligation.mw - 1e-9:
        return ""
    slow = max((f.settle_s for f in flexible if f not in quick), default=0.0)
    why = f"{can_mw:.2f} MW settle within the notice of {obligation.notice_s:.0f} s"
    if sold_mw:
        why += f", {sold_mw:.2f} MW of them are sold"
    if slow:
        why += f"; the slowest needs {slow:.0f} s"
    return f"{obligation.mw:.2f} MW can't be met: {why}"


_OVER = frozenset({Status.SETTLED, Status.FAILED, Status.WITHDRAWN, Status.OFFERED})


def overlaps(one: Obligation, other: Obligation) -> bool:
    """Whether two of a facility's obligations hold at one time."""
    return one.obligation_id != other.obligation_id and one.start_s < other.end_s and other.start_s < one.end_s
