"""A facility's grid obligations at its owner: stepped on the clock, the meter and the grid's word.

What a status means is in `policy.obligations`; what follows for the load is a directive among the others (`standing`). Rows are
read and written in `obligation_table`.
"""

import math
from dataclasses import replace

import numpy as np

from hcp_pipelines.allocator.obligation_table import BasePoint, Rows
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.policy.arrays import Bools
from hcp_pipelines.policy.directives import Directive, Kind
from hcp_pipelines.policy.obligations import MARGIN_S, Obligation, Signals, Status, ask_of, observe, step
from hcp_pipelines.policy.ramps import FACILITY

MARGIN_FRACTION = 0.02  # of what is sold: devices are whole, and the meter has its own opinion
SAMPLES_WRITTEN_EACH_S = 5.0
BASE_POINT_GOOD_S = 900.0  # simulated: SCED sends one every five minutes
RESPONSE_PROGRAMMES = ("DR",)  # an operator's override goes before these; the grid's own deployments go before it


class ObligationBook:
    """The obligations of one owned facility."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._sheddable = np.array([kind == "ASIC" for kind in site.group_types])
        self._signals: dict[int, Signals] = {}
        self._base_point: BasePoint | None = None
        self._unwritten: dict[int, Status] = {}  # and the status that Postgres has
        self._samples_written_s = float("-inf")
        self.obligations: dict[int, Obligation] = {}

    @property
    def wants_meter(self) -> bool:
        """Whether the meter has to be looked at: for a baseline, or for the proof."""
        return any(o.status in (Status.ARMED, Status.DEPLOYED) for o in self.obligations.values())

    def take(self, rows: Rows) -> None:
        """What Postgres says; a step that it does not know yet, and samples since the last write, are kept."""
        mine = self.obligations
        kept = {number: mine[number] for number in self._unwritten if number in mine}
        stored = {o.obligation_id: _newer(o, mine.get(o.obligation_id)) for o in rows.obligations}
        self.obligations, self._signals, self._base_point = stored | kept, dict(rows.signals), rows.base_point

    def advance(self, now_s: float, meter_mw: float) -> bool:
        """Count a meter sample and take every step that is due; whether one was taken."""
        has_stepped = False
        for number, before in list(self.obligations.items()):
            signals = _known(self._signals.get(number, Signals()), now_s)
            after = observe(before, now_s, meter_mw)
            while (stepped := step(after, now_s, signals, meter_mw, self._lead_s(after))) != after:
                after = stepped
            self.obligations[number] = after
            if after.status != before.status:
                has_stepped = True
                self._unwritten.setdefault(number, before.status)
        return has_stepped

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

    def directives(self, now_s: float) -> list[Directive]:
        """The limits that follow from deployments and from the market's base point."""
        found = []
        ask = ask_of(self.obligations.values())
        if math.isfinite(ask.cap_mw):
            deployed = [o for o in self.obligations.values() if o.status is Status.DEPLOYED]
            is_response = all(o.programme.startswith(RESPONSE_PROGRAMMES) for o in deployed)
            found.append(
                Directive(
                    directive_id="obligation/" + "+".join(str(o.obligation_id) for o in deployed),
                    kind=Kind.RESPONSE if is_response else Kind.DEPLOY,
                    actor="grid",
                    detail=", ".join(f"{o.programme} {o.mw:g} MW" for o in deployed),
                    cap_mw=max(ask.cap_mw - MARGIN_FRACTION * sum(o.mw for o in deployed), 0.0),
                    within_s=max(ask.deadline_s - now_s, 0.0),
                )
            )
        point = self._base_point
        if point is not None and 0 <= now_s - point.at_s <= BASE_POINT_GOOD_S:
            found.append(
                Directive(f"base_point/{point.signal_id}", Kind.DEPLOY, point.source, "base point", cap_mw=point.mw)
            )
        return found

    @property
    def sheddable(self) -> Bools:
        """[g] miners that settle asleep within the shortest notice of what is armed: whose load counts for the floor."""
        notices = [o.notice_s for o in self.obligations.values() if o.status is Status.ARMED]
        lows = [ladder[0] for ladder in self._site.shape.ladders]
        settle_s = self._site.settle_s[np.arange(len(lows)), lows]
        return self._sheddable & (settle_s + MARGIN_S <= min(notices, default=math.inf))

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
