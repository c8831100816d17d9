"""The checker's part about safe behaviour in time: prices and policies that are too old, and gateways that nobody speaks to."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from tests.faults.check_load import ECONOMIC
from tests.faults.evidence import Site, Violation
from tests.faults.records import Span

KNOWN_S = 3.0  # real: until it is noticed that something has become stale
TOLD_S = 3.0  # real: a floor that has ended since may not have been said to have
BEGUN_S = 20.0  # real: until a fallback plan is under way once it is due, whoever has to see to it


def nothing_for_money_on_old_inputs(site: Site) -> Iterator[Violation]:
    """A price that is too old moves nothing, nor does a policy."""
    for old in _old(site):
        for row in site.commanded.values():
            if row.reason in ECONOMIC and old.from_s + KNOWN_S < row.at_s < old.until_s:
                yield Violation(
                    row.at_s,
                    "nothing on old inputs",
                    site.id,
                    f"{row.owner} acted for {row.reason}, {old.what} since {old.from_s:.2f} s",
                )


def fallback_in_time(site: Site) -> Iterator[Violation]:
    """Inputs too old for the hold's time, or alone for its own: the fallback plan is under way."""
    hold_s = site.facility.hold_s / site.run.speed
    for old in _old(site):
        # nobody can act, or somebody else has the last word
        others = [span for what in ("alone", "obligation", "override") for span in _spans(site, what)]
        others += [lone for lone in _spans(site, "lone price") if _changes_hands(site, lone)]
        yield from _begun(site, "hold then fallback", old.from_s + hold_s, old.until_s, others)
    after_s = site.facility.fallback_after_s / site.run.speed
    fresh_s = site.facility.price_staleness_s / site.run.speed
    for alone in _spans(site, "alone"):
        sold = [replace(s, until_s=math.inf) for s in _spans(site, "obligation") if s.until_s > alone.from_s - TOLD_S]
        yield from _begun(site, "alone then fallback", alone.from_s + max(after_s, fresh_s), alone.until_s, sold)


def _changes_hands(site: Site, span: Span) -> bool:
    """Who comes while one price is fresh, and the next may end it all, holds: it has seen nothing stale."""
    return any(e.kind == "epoch" and span.from_s <= e.at_s < span.until_s for e in site.entries)


def _begun(
    site: Site, invariant: str, due_s: float, until_s: float, others: Sequence[Span] = ()
) -> Iterator[Violation]:
    announced = [e.at_s for e in site.entries if e.kind == "epoch" and due_s < e.at_s]
    due_s = next((a for a, b in pairwise([due_s, *announced, until_s]) if b - a >= BEGUN_S), until_s)
    if until_s < due_s + BEGUN_S:
        return  # no owner had the time for it
    if any(other.from_s < due_s + BEGUN_S and due_s < other.until_s for other in others):
        return
    orders = [o for o in site.orders if due_s - 1 <= o.at_s <= due_s + BEGUN_S]
    reasons = {row.reason if (row := site.commanded.get((o.ref, o.assignment))) else o.reason for o in orders}
    if reasons & {"fallback_plan", "ramp_continuation"} or _is_down(site, due_s) or _is_down(site, due_s + BEGUN_S):
        return
    yield Violation(due_s + BEGUN_S, invariant, site.id, f"due at {due_s:.2f} s, and nothing was done by then")


def _is_down(site: Site, at_s: float) -> bool:
    """Whether each device that can be told is in its fallback state already."""
    told = {slot: site.lowest[g.group_id] for slot, g in site.group_of.items()}
    for order in (o for o in site.orders if o.at_s <= at_s):
        told |= dict.fromkeys(order.slots, order.state)
    return all(
        told[slot] == site.facility.fallback[g.group_id] for slot, g in site.group_of.items() if slot not in site.faulty
    )


def no_fallback_too_early(site: Site) -> Iterator[Violation]:
    """A gateway takes its fallback plan when it has been alone for as long as its file says, and not before."""
    after_s = site.facility.fallback_after_s / site.run.speed
    alone = _spans(site, "unheard")
    for order in (o for o in site.orders if o.reason == "fallback_plan" and not o.epoch):
        if not any(span.from_s + after_s - 1.0 <= order.at_s <= span.until_s + 1.0 for span in alone):
            yield Violation(
                order.at_s, "no fallback too early", site.id, "the gateway took its fallback plan, and was not alone"
            )


def _old(site: Site) -> list[Span]:
    """When prices were too old, and from a policy's expiry to the next."""
    taken = sorted((a for a in site.run.admissions if a.facility_id == site.id), key=lambda a: a.at_s)
    until_s = [*(a.at_s for a in taken[1:]), site.run.ends_s]
    ended = [Span("policy expired", site.id, a.expires_s, end_s) for a, end_s in zip(taken, until_s, strict=False)]
    return [*_spans(site, "stale"), *(span for span in ended if span.from_s < span.until_s)]


def _spans(site: Site, what: str) -> list[Span]:
    return [s for s in site.run.spans if s.what == what and s.facility_id == site.id]


SAFETY_CHECKS = (nothing_for_money_on_old_inputs, fallback_in_time, no_fallback_too_early)
