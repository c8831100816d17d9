"""A facility's grid obligations at its owner: read with their signals, stepped on the clock and the meter, written back.

What a status means is in `policy.obligations`; what follows for the load is a directive among the others (`standing`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg

from hcp_pipelines.allocator.site import Site
from hcp_pipelines.policy.arrays import Bools
from hcp_pipelines.policy.directives import Directive, Kind
from hcp_pipelines.policy.obligations import MARGIN_S, Delivery, Obligation, Signals, Status, ask_of, observe, step
from hcp_pipelines.policy.ramps import FACILITY

Connection = psycopg.AsyncConnection[Any]

MARGIN_FRACTION = 0.02  # of what is sold: devices are whole, and the meter has its own opinion
SAMPLES_WRITTEN_EACH_S = 5.0
BASE_POINT_GOOD_S = 900.0  # simulated: SCED sends one every five minutes
RESPONSE_PROGRAMMES = ("DR",)  # an operator's override goes before these; the grid's own deployments go before it

_ROWS = """
    select id, facility_id, programme, status, mw, lower(during), upper(during), notice_s, duration_s, recovery_s, tranche,
           deployed_at, recalled_at, baseline_mw, delivered_fraction, metered_at, longest_gap_s, reason
    from grid_obligations
    where facility_id = any(%s) and status in ('awarded', 'armed', 'deployed', 'recovering') order by id"""
_SIGNALS = """
    select (payload ->> 'obligation_id')::bigint, kind, max(effective_at) from grid_signals
    where facility_id = any(%s) and kind in ('deploy', 'recall') and payload ? 'obligation_id' group by 1, 2"""
_BASE_POINTS = """
    select distinct on (facility_id) facility_id, id, (payload ->> 'mw')::float8, effective_at, source from grid_signals
    where facility_id = any(%s) and kind = 'base_point' order by facility_id, effective_at desc, id desc"""
_WRITE = """
    update grid_obligations o set status = %s, deployed_at = %s, recalled_at = %s, baseline_mw = %s, delivered_fraction = %s,
        metered_at = %s, longest_gap_s = %s, reason = %s, updated_at = now()
    from facility_leases l
    where o.id = %s and o.status = %s and l.facility_id = o.facility_id and l.owner = %s and l.epoch = %s"""


@dataclass(frozen=True, slots=True)
class BasePoint:
    """What the market last told a controllable load to draw."""

    signal_id: int
    mw: float
    at_s: float
    source: str


@dataclass(frozen=True)
class Rows:
    """What Postgres has of one facility."""

    obligations: tuple[Obligation, ...] = ()
    signals: Mapping[int, Signals] = field(default_factory=dict)
    base_point: BasePoint | None = None


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


async def read_obligations(connection: Connection, facility_ids: Sequence[str]) -> dict[str, Rows]:
    """What Postgres has of some facilities, each one named."""
    ids = list(facility_ids)
    rows = [_obligation(row) for row in await (await connection.execute(_ROWS, (ids,))).fetchall()]
    signals: dict[int, Signals] = {}
    for number, kind, at in await (await connection.execute(_SIGNALS, (ids,))).fetchall():
        known = signals.get(number, Signals())
        at_s = at.timestamp()
        signals[number] = replace(known, **{"deploy_at_s" if kind == "deploy" else "recall_at_s": at_s})
    points = {
        row[0]: BasePoint(row[1], row[2], row[3].timestamp(), row[4])
        for row in await (await connection.execute(_BASE_POINTS, (ids,))).fetchall()
        if row[2] is not None and math.isfinite(row[2]) and row[2] >= 0
    }
    return {
        facility_id: Rows(tuple(o for o in rows if o.facility_id == facility_id), signals, points.get(facility_id))
        for facility_id in ids
    }


async def write_obligation(
    connection: Connection, owner: str, epoch: int, before: Status, obligation: Obligation
) -> bool:
    """Write what became of one, under a lease that stands; whether it was written."""
    delivery = obligation.delivery
    values = (
        obligation.status.value, _instant(obligation.deployed_at_s), _instant(obligation.recalled_at_s),
        obligation.baseline_mw, delivery.least if math.isfinite(delivery.least) else None, _instant(delivery.last_at_s),
        delivery.longest_gap_s, obligation.reason, obligation.obligation_id, before.value, owner, epoch,
    )  # fmt: skip
    return (await connection.execute(_WRITE, values)).rowcount == 1


def _obligation(row: Sequence[Any]) -> Obligation:
    (number, facility_id, programme, status, mw, start, end, notice_s, duration_s, recovery_s, tranche, deployed_at,
     recalled_at, baseline_mw, delivered, metered_at, gap_s, reason) = row  # fmt: skip
    delivery = Delivery(math.inf if delivered is None else delivered, _seconds(metered_at), gap_s)
    return Obligation(
        number, facility_id, programme, Status(status), mw, start.timestamp(), end.timestamp(), notice_s, duration_s,
        recovery_s, tranche, _seconds(deployed_at), _seconds(recalled_at), baseline_mw, delivery, reason,
    )  # fmt: skip


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


def _instant(at_s: float | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, tz=UTC)


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
