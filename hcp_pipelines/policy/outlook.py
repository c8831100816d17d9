"""What of a facility's load can be on when an obligation begins, and stay on: whether it can be armed at all. Pure.

What settles within the notice is judged in `obligations.refusal_of`; here also what ramps let go of demand response.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hcp_pipelines.policy.obligations import MARGIN_S, Flexible, Obligation, Status, overlaps
from hcp_pipelines.policy.ramps import FACILITY, PORTFOLIO
from hcp_pipelines.policy.schema import RampLimit

_FITS = 1e-9


@dataclass(frozen=True, slots=True)
class Limit:
    """Somebody's limit at the meter that stands: all-in MW of the facility, or of one feeder, over [start, end)."""

    name: str
    cap_mw: float
    start_s: float
    end_s: float = math.inf
    feeder_id: str = ""


@dataclass(frozen=True, slots=True)
class HeldOn:
    """An operator's override that stands over a group over [start, end): demand response does not go below it."""

    name: str
    group_id: str
    start_s: float
    end_s: float = math.inf


@dataclass(frozen=True)
class Outlook:
    """What is known of a facility beside its flexible load.

    Attributes:
        now_s: simulated Unix seconds.
        on_mw: by group, of its flexible MW what is on now, as its gateway sees it; None: nobody knows, all of it is taken to be.
        rest_mw: by feeder, what may be drawn beside the flexible load.
        rise_s: how long the slowest of it takes to be on.
    """

    now_s: float
    on_mw: dict[str, float] | None = None
    rest_mw: dict[str, float] | None = None
    rise_s: float = 0.0
    ramps: Sequence[RampLimit] = ()
    limits: Sequence[Limit] = ()
    held_on: Sequence[HeldOn] = ()


def not_on(
    obligation: Obligation,
    flexible: Sequence[Flexible],
    feeder_of: dict[str, str],
    outlook: Outlook,
    standing: Iterable[Obligation] = (),
) -> str:
    """Why an obligation's load can't be on from its beginning to its end, or can't go under ramps; empty where it can."""
    quick = [f for f in flexible if f.settle_s + MARGIN_S <= obligation.notice_s]
    standing = [o for o in standing if overlaps(o, obligation)]
    if obligation.is_response and (refusal := _stays(obligation, quick, feeder_of, outlook, standing)):
        return refusal
    sold_mw = sum(o.mw for o in standing if o.status in (Status.AWARDED, Status.ARMED))
    for limit in outlook.limits:
        if limit.start_s < obligation.end_s and max(obligation.start_s, outlook.now_s) < limit.end_s:
            left_mw = _under(limit, quick, flexible, feeder_of, outlook)
            if left_mw - sold_mw < obligation.mw - _FITS:
                return (
                    f"{limit.name} leaves {max(left_mw - sold_mw, 0.0):.2f} MW of it on in that time; release it first"
                )
    begin_mw = _at_begin(obligation, quick, outlook)
    if begin_mw - sold_mw < obligation.mw - _FITS:
        return f"{max(begin_mw - sold_mw, 0.0):.2f} MW of it can be on when it begins, with wakes and ramps; let it begin later"
    return ""


def _under(
    limit: Limit, quick: Sequence[Flexible], flexible: Sequence[Flexible], feeder_of: dict[str, str], outlook: Outlook
) -> float:
    """MW of the quick load that a limit leaves on, should all other load be on as well."""
    inside = {f.group_id for f in flexible if limit.feeder_id in ("", feeder_of[f.group_id])}
    others_mw = sum(f.mw for f in flexible if f.group_id in inside and f not in quick)
    rest_mw = sum(mw for feeder, mw in (outlook.rest_mw or {}).items() if limit.feeder_id in ("", feeder))
    inside_mw = sum(f.mw for f in quick if f.group_id in inside)
    outside_mw = sum(f.mw for f in quick if f.group_id not in inside)
    return outside_mw + min(inside_mw, max(limit.cap_mw - rest_mw - others_mw, 0.0))


def _stays(
    obligation: Obligation,
    quick: Sequence[Flexible],
    feeder_of: dict[str, str],
    outlook: Outlook,
    standing: Sequence[Obligation],
) -> str:
    """Why demand response would not go: overrides go before it, and it waits for ramps; empty where it would."""
    over = [h for h in outlook.held_on if h.start_s < obligation.end_s and obligation.start_s < h.end_s]
    free = [f for f in quick if f.group_id not in {h.group_id for h in over}]
    sold_mw = sum(o.mw for o in standing if o.is_response)
    if sum(f.mw for f in free) - sold_mw < obligation.mw - _FITS and over:
        names = ", ".join(h.name for h in over)
        return f"an override goes before demand response: {names} in that time; release it first"
    going_mw = _going(obligation, free, feeder_of, outlook) - sold_mw
    if going_mw < obligation.mw - _FITS:
        return f"demand response waits for ramps, and they let {max(going_mw, 0.0):.2f} MW go within the notice"
    return ""


def _going(obligation: Obligation, quick: Sequence[Flexible], feeder_of: dict[str, str], outlook: Outlook) -> float:
    """MW of the quick load that the ramps are sure to let go within the notice; the first window may be booked."""
    left_s = obligation.notice_s - MARGIN_S - max((f.settle_s for f in quick), default=0.0)
    down = {r.scope: r.down_mw * max(math.floor(left_s / r.window_s), 0) for r in outlook.ramps}
    by_feeder: dict[str, float] = {}
    for f in quick:
        feeder_id = feeder_of[f.group_id]
        by_feeder[feeder_id] = by_feeder.get(feeder_id, 0.0) + f.mw
    feeders_mw = sum(min(mw, down.get(feeder_id, math.inf)) for feeder_id, mw in by_feeder.items())
    return min(feeders_mw, down.get(FACILITY, math.inf), down.get(PORTFOLIO, math.inf))


def _at_begin(obligation: Obligation, quick: Sequence[Flexible], outlook: Outlook) -> float:
    """MW of the quick load that can be on at the beginning: what is now, and what wakes and ramps let rise until then.

    Ramps are counted by whole windows: what has been booked on the first is not known here. Nothing rises under a limit.
    """
    can_mw = sum(f.mw for f in quick)
    if outlook.on_mw is None:
        return can_mw
    on_mw = sum(min(outlook.on_mw.get(f.group_id, 0.0), f.mw) for f in quick)
    from_s = max([outlook.now_s, *(limit.end_s for limit in outlook.limits if limit.end_s <= obligation.start_s)])
    left_s = obligation.start_s - from_s - outlook.rise_s - MARGIN_S
    if left_s < 0:
        return on_mw
    whole = [r.up_mw * math.floor(left_s / r.window_s) for r in outlook.ramps if r.scope in (FACILITY, PORTFOLIO)]
    return min(can_mw, on_mw + min(whole, default=math.inf))
