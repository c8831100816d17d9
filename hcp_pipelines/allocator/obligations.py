"""A facility's grid obligations at its owner: stepped on the clock, the meter and the grid's word.

What a status means is in `policy.obligations`; what follows for the load is a directive among the others (`standing`). Rows are
read and written in `obligation_table`.
"""

import math
from dataclasses import replace

import numpy as np

from hcp_pipelines.allocator.obligation_table import BasePoint, Rows
from hcp_pipelines.allocator.power_loss import PowerLoss, is_called
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.domain.modes import DispatchRegime
from hcp_pipelines.policy.arrays import Bools
from hcp_pipelines.policy.directives import Directive, Kind
from hcp_pipelines.policy.obligations import (
    BASE_POINT_GOOD_S,
    MARGIN_S,
    MET_FRACTION,
    SHED,
    Obligation,
    Signals,
    Status,
    ask_of,
    observe,
    step,
)
from hcp_pipelines.policy.ramps import FACILITY
from hcp_pipelines.wire import edge_v1_pb2 as pb

MARGIN_FRACTION = 0.02  # of what is sold: devices are whole, and the meter has its own opinion
SAMPLES_WRITTEN_EACH_S = 5.0
STEADY_FRACTION, STEADY_LOOKS = 0.01, 2  # meter and devices are read apart: as the load moves they are of two instants
SCALE_LEAST, SCALE_MOST = 0.5, 2.0  # what is further from the meter is no reckoning but a fault


class ObligationBook:
    """The obligations of one owned facility."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._sheddable = np.array([kind == "ASIC" for kind in site.group_types])
        self._signals: dict[int, Signals] = {}
        self._base_point: BasePoint | None = None
        self._follows_base_points = site.dispatch_regime is DispatchRegime.CLR_BASE_POINT
        self._unwritten: dict[int, Status] = {}  # and the status that Postgres has
        self._samples_written_s = float("-inf")
        self._scale = 1.0  # MW by which plans reckon, for each at the meter
        self._looked: tuple[float, float] | None = None  # at the meter, and the devices' own
        self._alike = 0  # looks in a row
        self._short_since_s: float | None = None
        self._is_short_told = False
        self.power = PowerLoss()
        self.obligations: dict[int, Obligation] = {}

    @property
    def wants_meter(self) -> bool:
        """Whether the meter has to be looked at: for a baseline, for the proof, or for a limit to be kept."""
        is_limited = self._follows_base_points and self._base_point is not None
        return is_limited or any(o.status in (Status.ARMED, Status.DEPLOYED) for o in self.obligations.values())

    def take(self, rows: Rows) -> None:
        """What Postgres says; a step that it does not know yet, and samples since the last write, are kept."""
        mine = self.obligations
        kept = {number: mine[number] for number in self._unwritten if number in mine}
        stored = {o.obligation_id: _newer(o, mine.get(o.obligation_id)) for o in rows.obligations}
        self.obligations, self._signals, self._base_point = stored | kept, dict(rows.signals), rows.base_point

    def advance(
        self, now_s: float, meter_mw: float, devices_mw: float = math.nan, metered_at_s: float | None = None
    ) -> list[Obligation]:
        """Count a meter sample and take every step that is due; those that took one.

        `devices_mw`: the devices' own power, by which plans reckon; what it is to the meter is how limits are carried over.
        `metered_at_s`: when the gateway read the meter, before `now_s`; None: it is of now. A sample proves nothing for later.
        """
        sampled_at_s = now_s if metered_at_s is None else min(metered_at_s, now_s)
        if meter_mw > 0 and devices_mw > 0:
            self._compare(meter_mw, devices_mw)
        confirmed = self.power.note(sampled_at_s, meter_mw)
        stepped = []
        for number, before in list(self.obligations.items()):
            after = self.obligations[number] = self._advanced(before, now_s, (sampled_at_s, meter_mw), confirmed)
            if after.status != before.status:
                stepped.append(after)
                self._unwritten.setdefault(number, before.status)
        return stepped

    def _compare(self, meter_mw: float, devices_mw: float) -> None:
        """What a MW at the meter is to plans: by the first look, and then by those that the load did not move between."""
        before, self._looked = self._looked, (meter_mw, devices_mw)
        is_alike = before is not None and np.allclose(before, self._looked, rtol=STEADY_FRACTION, atol=0.0)
        self._alike = self._alike + 1 if is_alike else 0
        if before is None or self._alike >= STEADY_LOOKS:
            self._scale = min(max(devices_mw / meter_mw, SCALE_LEAST), SCALE_MOST)

    def _advanced(
        self, before: Obligation, now_s: float, metered: tuple[float, float], confirmed: tuple[float, float] | None
    ) -> Obligation:
        """What a relay has deployed is judged by samples that are sure to be from while power was away."""
        said = _known(self._signals.get(before.obligation_id, Signals()), now_s)
        is_by_relay_alone = before.reason == SHED and not is_called(said)
        sample = confirmed if is_by_relay_alone else metered
        after = before if sample is None else observe(before, *sample)
        while True:
            signals, baseline_mw = self.power.signals(after, said, now_s), self.power.baseline_mw(after, metered[1])
            stepped = step(after, now_s, signals, baseline_mw, self._lead_s(after))
            if stepped == after:
                return after
            if stepped.status is Status.DEPLOYED and self.power.lasts:
                stepped = replace(stepped, reason=SHED)
            after = stepped

    def lacking_mw(self, now_s: float, on_mw: float) -> float:
        """MW of sheddable load that has been missing below the floor for longer than waking it takes; told once, else 0."""
        floor_mw = self.floor_mw()
        begun = [o for o in self.obligations.values() if o.status is Status.ARMED and now_s >= o.start_s]
        if self.power.lasts or not begun or on_mw >= floor_mw * MET_FRACTION:
            self._short_since_s, self._is_short_told = None, False
            return 0.0
        self._short_since_s = now_s if self._short_since_s is None else self._short_since_s
        if self._is_short_told or now_s - self._short_since_s < max(self._lead_s(o) for o in begun):
            return 0.0
        self._is_short_told = True
        return floor_mw - on_mw

    def to_write(self, monotonic_s: float) -> list[tuple[Status, Obligation]]:
        """What Postgres does not know yet, with the status that it has; samples alone every few real seconds."""
        steps = [(before, self.obligations[number]) for number, before in self._unwritten.items()]
        if monotonic_s < self._samples_written_s + SAMPLES_WRITTEN_EACH_S:
            return steps
        self._samples_written_s = monotonic_s
        under_way = [o for n, o in self.obligations.items() if o.status is Status.DEPLOYED and n not in self._unwritten]
        return [*steps, *((o.status, o) for o in under_way)]

    def written(self, obligation: Obligation) -> None:
        """Postgres knows it, or has another opinion: what is read next holds."""
        self._unwritten.pop(obligation.obligation_id, None)
        if obligation.status in (Status.SETTLED, Status.FAILED):
            self.obligations.pop(obligation.obligation_id, None)

    def floor_mw(self) -> float:
        """Sheddable load that has to be on."""
        return ask_of(self.obligations.values()).floor_mw

    def floors(self) -> pb.Floors:
        """What a gateway has to keep on should it be cut off: of what is armed, or will be by then."""
        coming = [o for o in self.obligations.values() if o.status in (Status.ARMED, Status.AWARDED)]
        return pb.Floors(floors=[self._floor(o) for o in coming])

    def _floor(self, obligation: Obligation) -> pb.Floor:
        counts = self._sheddable_within(obligation.notice_s)
        groups = [g for g, is_sheddable in zip(self._site.shape.group_ids, counts, strict=True) if is_sheddable]
        start_s = obligation.start_s - self._lead_s(obligation)
        return pb.Floor(mw=obligation.mw, start_s=start_s, end_s=obligation.end_s, sheddable=groups)

    def directives(self, now_s: float) -> list[Directive]:
        """The limits that follow from deployments and from the market's base point."""
        found = []
        ask = ask_of(self.obligations.values())
        if math.isfinite(ask.cap_mw):
            deployed = [o for o in self.obligations.values() if o.status is Status.DEPLOYED]
            is_response = all(o.is_response for o in deployed)
            found.append(
                Directive(
                    directive_id="obligation/" + "+".join(str(o.obligation_id) for o in deployed),
                    kind=Kind.RESPONSE if is_response else Kind.DEPLOY,
                    actor="grid",
                    detail=", ".join(f"{o.programme} {o.mw:g} MW" for o in deployed),
                    cap_mw=self._reckoned_cap_mw(ask.cap_mw, sum(o.mw for o in deployed)),
                    within_s=max(ask.deadline_s - now_s, 0.0),
                )
            )
        point = self._base_point
        if self._follows_base_points and point is not None and 0 <= now_s - point.at_s <= BASE_POINT_GOOD_S:
            found.append(
                Directive(
                    f"base_point/{point.signal_id}",
                    Kind.DEPLOY,
                    point.source,
                    "base point",
                    cap_mw=point.mw * self._scale,
                )
            )
        return found

    @property
    def sheddable(self) -> Bools:
        """[g] miners that settle asleep within the shortest notice of what is armed: whose load counts for the floor."""
        notices = [o.notice_s for o in self.obligations.values() if o.status is Status.ARMED]
        return self._sheddable_within(min(notices, default=math.inf))

    def _sheddable_within(self, notice_s: float) -> Bools:
        lows = [ladder[0] for ladder in self._site.shape.ladders]
        settle_s = self._site.settle_s[np.arange(len(lows)), lows]
        return self._sheddable & (settle_s + MARGIN_S <= notice_s)

    def _reckoned_cap_mw(self, cap_mw: float, sold_mw: float) -> float:
        """A limit at the meter as plans reckon: never less is taken off than was sold, by either's reckoning."""
        baseline_mw = (cap_mw + sold_mw) * self._scale
        return max(baseline_mw - sold_mw * (max(self._scale, 1.0) + MARGIN_FRACTION), 0.0)

    def _lead_s(self, obligation: Obligation) -> float:
        """How long before its interval the load has to be called for: its slowest wake, and the ramps on the way."""
        settle_s = float(self._site.settle_s[self._sheddable].max(initial=0.0)) if self._sheddable.any() else 0.0
        windows = [math.ceil(obligation.mw / r.up_mw) * r.window_s for r in self._site.ramps if r.scope == FACILITY]
        return 1.5 * settle_s + max(windows, default=0.0)


def _newer(stored: Obligation, mine: Obligation | None) -> Obligation:
    """The stored one, with the samples that this owner has counted since of the same event."""
    if mine is None or mine.status != stored.status or mine.deployed_at_s != stored.deployed_at_s:
        return stored
    return replace(stored, delivery=mine.delivery)


def _known(signals: Signals, now_s: float) -> Signals:
    """Those that have taken effect."""
    deploy, recall = signals.deploy_at_s, signals.recall_at_s
    return Signals(
        deploy if deploy is not None and deploy <= now_s else None,
        recall if recall is not None and recall <= now_s else None,
    )
