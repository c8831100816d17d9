"""The checker's part about load: ramps at three levels, dwell, floors; and about devices: locks, settled means power."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.evidence import EXEMPT, Order, Site, Violation
from tests.faults.records import Group, Limit, Run

TOLERANCE_MW = 1e-6
UNTOLD_S = 2.0  # real: an exempt reduction so lately may not have been known to whoever planned
BOOKED_WITHIN_S = 20.0  # real, besides settling: ack deadline, outages of the line to the devices
LATE_S = 0.3  # real: on its way to the devices already
DOWN_WITHIN_S = 25.0  # real: until a locked device is asleep, whatever else happens
ARMED_S = 3.0  # real: until everybody knows of an armed floor
ENDS_S = 1.0  # real: clocks differ about its end
BY_ITSELF = frozenset({"fallback_plan", "economics"})  # what a gateway that is alone may do for
ECONOMIC = frozenset({"economics", "guard", "startup", "recovery"})


@dataclass(frozen=True, slots=True)
class Step:
    """A change of load that was ordered: signed MW on a feeder at an instant."""

    at_s: float
    feeder_id: str
    mw: float
    is_exempt: bool
    ref: str


def steps_of(site: Site) -> list[Step]:
    """What gateways took on, at the instant of the journal's commit where there is one.

    From where devices come is what they were told last; the journal, which has what a meter said, is asked of those that
    disobey, and of those that nobody has told anything yet.
    """
    found, obedient = [], set[int]()
    for order in site.orders:
        row = site.commanded.get((order.ref, order.assignment))
        reason = row.reason if row else order.reason
        by_feeder: dict[str, float] = defaultdict(float)
        for slot, told in zip(order.slots, order.before, strict=True):
            before = told if slot in obedient or row is None or row.from_state is None else row.from_state
            by_feeder[site.group_of[slot].feeder_id] += site.mw(slot, order.state) - site.mw(slot, before)
        obedient |= set(order.slots) - site.faulty
        for feeder_id, mw in by_feeder.items():
            at_s = row.at_s if row else order.at_s
            found.append(Step(at_s, feeder_id, mw, mw < 0 and reason in EXEMPT, order.ref))
    return sorted(found, key=lambda s: s.at_s)


def ramps(site: Site) -> Iterator[Violation]:
    """No window of a feeder or of the facility has more than its budget; what may not be delayed counts, and may exceed it."""
    steps = steps_of(site)
    for limit in site.facility.limits:
        mine = [s for s in steps if limit.scope in ("facility", "portfolio", s.feeder_id)]
        yield from _windows(mine, limit, site.run, site.id)


def check_portfolio(run: Run) -> Iterator[Violation]:
    """The facilities' shares together are the portfolio's budget."""
    shares = [limit for f in run.facilities for limit in f.limits if limit.scope == "portfolio"]
    if shares:
        whole = Limit("portfolio", sum(x.up_mw for x in shares), sum(x.down_mw for x in shares), shares[0].window_s)
        steps = [s for f in run.facilities for s in steps_of(Site(f, run)) if not s.is_exempt]  # nobody knows another's
        yield from _windows(sorted(steps, key=lambda s: s.at_s), whole, run, "portfolio")


def _windows(steps: list[Step], limit: Limit, run: Run, name: str) -> Iterator[Violation]:
    window_s = limit.window_s / run.speed - run.skew_s
    for is_up, budget in ((True, limit.up_mw), (False, limit.down_mw)):
        mine = [s for s in steps if s.mw and (s.mw > 0) == is_up]
        times = [s.at_s for s in mine]
        for n, last in enumerate(mine):
            if last.is_exempt:
                continue
            first = bisect_left(times, last.at_s - window_s)
            inside = [s for s in mine[first : n + 1] if not s.is_exempt or s.at_s < last.at_s - UNTOLD_S]
            used = sum(abs(s.mw) for s in inside)
            if used > budget + TOLERANCE_MW:
                way = "up" if is_up else "down"
                yield Violation(
                    last.at_s, "ramps", name,
                    f"{limit.scope} {way}: {used * 1000:.1f} kW in {limit.window_s:.0f} s, {budget * 1000:.1f} kW may",
                )  # fmt: skip


def every_change_is_booked(site: Site) -> Iterator[Violation]:
    """Whatever moves the meter was booked not long before, in its direction: also what is driven again."""
    booked: dict[tuple[int, bool], list[float]] = defaultdict(list)
    for row in site.journal:
        if row.event in ("commanded", "observed") and row.mw_delta:
            for slot in row.slots:
                booked[slot, row.mw_delta > 0].append(row.at_s)
    for order in site.orders:
        if not order.epoch:  # its own doing: booked there, and journalled when somebody listens
            for slot, before in zip(order.slots, order.before, strict=True):
                booked[slot, site.mw(slot, order.state) > site.mw(slot, before)].append(order.at_s)
    for change in site.changes:
        for slot in change.slots:
            before = site.drawn(slot, change.at_s - 1e-6)
            is_up = site.mw(slot, change.state) > site.mw(slot, before)
            settle_s = site.group_of[slot].settle_s[change.state] / site.run.speed
            since_s = change.at_s - settle_s - BOOKED_WITHIN_S
            ways = (True, False) if slot in site.faulty else (is_up,)  # where it was is not always known of those
            if not any(since_s <= at_s <= change.at_s + 1e-6 for way in ways for at_s in booked[slot, way]):
                yield Violation(
                    change.at_s, "every change is booked", site.id,
                    f"slot {slot} went from state {before} to {change.state}, and nobody had booked it",
                )  # fmt: skip
                return


def dwell(site: Site) -> Iterator[Violation]:
    """For money alone nothing falls within its minimum up time, or rises within its minimum down time, under one owner.

    Work comes and goes by the scheduler: it is not held.
    """
    changed: dict[int, tuple[float, bool, int]] = {}
    for order in site.orders:
        row = site.commanded.get((order.ref, order.assignment))
        if row is None:
            changed |= dict.fromkeys(order.slots, (0.0, False, -1))
            continue
        for slot, before in zip(order.slots, order.before, strict=True):
            delta = site.mw(slot, order.state) - site.mw(slot, before)
            if (
                not delta or site.group_of[slot].is_scheduled or slot in site.faulty
            ):  # what those do is not what they were told
                continue
            since_s, rose, epoch = changed.get(slot, (-1e9, False, -1))
            least_s = (site.facility.min_up_s if rose else site.facility.min_down_s) / site.run.speed
            is_back = rose == (delta < 0) and epoch == row.epoch
            if row.reason in ECONOMIC and is_back and row.at_s - since_s < least_s - 1e-3:
                yield Violation(
                    row.at_s,
                    "dwell",
                    site.id,
                    f"slot {slot} went back after {row.at_s - since_s:.2f} s, not {least_s:.2f} s",
                )
                return
            changed[slot] = (row.at_s, delta > 0, row.epoch)


def floors(site: Site) -> Iterator[Violation]:
    """While a reserve is armed, nobody but the grid, operators, locks and safety takes its load off."""
    armed = [s for s in site.run.spans if s.what == "obligation" and s.facility_id == site.id]
    told = {slot: site.lowest[g.group_id] for slot, g in site.group_of.items()}
    unsure = sum(_most_mw(site.group_of[s]) for s in site.faulty)  # what those draw is not what they were told
    waves: dict[str, list[Order]] = defaultdict(list)
    for order in site.orders:
        waves[order.ref].append(order)
    for ref, orders in waves.items():
        before = _sheddable_mw(site, told)
        for order in orders:
            told |= dict.fromkeys(order.slots, order.state)
        after = _sheddable_mw(site, told)
        rows = [row for o in orders if (row := site.commanded.get((ref, o.assignment)))]
        said = rows or [o for o in orders if not o.epoch and o.reason in BY_ITSELF]
        if not said or any(one.reason in EXEMPT for one in said) or after >= before - TOLERANCE_MW:
            continue
        at_s = said[0].at_s
        known_s = at_s if rows else _heard_s(site, at_s)
        floor = sum(s.mw for s in armed if s.from_s + ARMED_S <= known_s and at_s < s.until_s - ENDS_S)
        if after < floor - unsure - TOLERANCE_MW:
            yield Violation(
                at_s, "floors", site.id,
                f"{said[0].reason} left {after * 1000:.1f} kW that can be shed, {floor * 1000:.1f} kW are sold",
            )  # fmt: skip


def _heard_s(site: Site, at_s: float) -> float:
    """Until when a gateway that acts alone has heard an owner for sure; a restart meanwhile is none."""
    spans = [s for s in site.run.spans if s.what == "alone" and s.facility_id == site.id and s.from_s <= at_s]
    orders = [o.at_s for o in site.orders if o.epoch and o.at_s <= at_s]
    since_s = max(orders, default=0.0)
    return min((s.from_s for s in spans if s.from_s >= since_s), default=since_s)


def _most_mw(group: Group) -> float:
    return max(group.power_mw.values()) - min(group.power_mw.values())


def _sheddable_mw(site: Site, told: dict[int, int]) -> float:
    return sum(
        site.mw(slot, told[slot]) - site.mw(slot, site.lowest[group.group_id])
        for group in site.facility.groups
        if group.is_sheddable
        for slot in group.slots
        if slot not in site.faulty
    )


# -- devices ----------------------------------------------------------------------------------------------------------


def locks(site: Site) -> Iterator[Violation]:
    """From the instant that a gateway holds a lock nothing wakes what is locked, and it is asleep soon."""
    held: dict[int, float] = {}
    orders = {o.seq: o for o in site.orders}
    spans: list[tuple[int, float, float]] = []
    for entry in site.entries:
        if entry.kind == "locks":
            spans += [(slot, since_s, entry.at_s) for slot, since_s in held.items() if slot not in entry.slots]
            held = {slot: held.get(slot, entry.at_s) for slot in entry.slots}
    spans += [(slot, since_s, site.run.ends_s) for slot, since_s in held.items()]
    yield from _accepted_while_locked(site, orders)
    by_slot: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for slot, since_s, until_s in spans:
        by_slot[slot].append((since_s, until_s))
    for told in (s for s in site.run.sets if s.facility_id == site.id):
        for slot in told.slots:
            if site.is_lowest(slot, told.state):
                continue
            if any(since_s + LATE_S < told.at_s < until_s for since_s, until_s in by_slot[slot]):
                yield Violation(
                    told.at_s, "locks", site.id, f"slot {slot} was told state {told.state} while it was locked"
                )
    for slot, since_s, until_s in spans:
        late_s = since_s + DOWN_WITHIN_S
        if slot not in site.faulty and late_s < until_s and not site.is_lowest(slot, site.drawn(slot, late_s)):
            yield Violation(late_s, "locks", site.id, f"slot {slot} is locked since {since_s:.2f} s, and awake")


def _accepted_while_locked(site: Site, orders: dict[int, Order]) -> Iterator[Violation]:
    held: set[int] = set()
    for entry in site.entries:
        if entry.kind == "locks":
            held = set(entry.slots)
        if entry.kind in ("ack", "local"):
            for order in (o for o in (orders.get(entry.seq),) if o is not None):
                woken = [s for s in order.slots if s in held and not site.is_lowest(s, order.state)]
                if woken:
                    yield Violation(entry.at_s, "locks", site.id, f"{order.ref} was taken on for locked slots {woken}")


def settled_is_power(site: Site) -> Iterator[Violation]:
    """Who is called settled draws what it should."""
    orders = {(o.ref, o.assignment): o for o in site.orders}
    for entry in (e for e in site.entries if e.kind == "settled"):
        for assignment, _, slots in entry.parts:
            order = orders.get((entry.command_id, assignment))
            wrong = [s for s in slots if order and not _drew(site, s, order, entry.at_s)]
            if wrong:
                yield Violation(
                    entry.at_s, "settled is power", site.id, f"{entry.command_id}: slots {wrong} never drew it"
                )


def _drew(site: Site, slot: int, order: Order, until_s: float) -> bool:
    wanted = site.mw(slot, order.state)
    instants = [
        order.at_s,
        until_s,
        *(c.at_s for c in site.changes if order.at_s <= c.at_s <= until_s and slot in c.slots),
    ]
    return any(abs(site.mw(slot, site.drawn(slot, at_s)) - wanted) <= 0.09 * wanted + 7e-5 for at_s in instants)


LOAD_CHECKS = (ramps, every_change_is_booked, dwell, floors)
DEVICES_CHECKS = (locks, settled_is_power)
