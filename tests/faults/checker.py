"""Judges a run by what journal, gateway logs and devices say: no code of the platform in it. Load and safety are next door.

`check` takes plain records (`records.py`), whoever wrote them: the deterministic harness, or an adapter of a real platform.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from uuid import UUID

from tests.faults.check_load import DEVICES_CHECKS, LOAD_CHECKS, check_portfolio
from tests.faults.check_safety import SAFETY_CHECKS
from tests.faults.check_work import works_for_somebody
from tests.faults.evidence import MADE_UP_BELOW, Site, Violation
from tests.faults.records import Run

DONE_WITHIN_S = 60.0  # real: until everything that was begun has its outcome in the journal, in a calm
UNDER_WAY_S = 10.0  # real: longer than any device takes
_NOTHING = 1e-9

Check = Callable[[Site], Iterator[Violation]]


def check(run: Run) -> list[Violation]:
    """Every violation of the invariants, in order of time."""
    found: list[Violation] = []
    for facility in run.facilities:
        site = Site(facility, run)
        for judge in CHECKS:
            found += judge(site)
    return sorted([*found, *check_portfolio(run)])


def journal_before_send(site: Site) -> Iterator[Violation]:
    """What leaves is in the journal."""
    written = {row.command_id: row.at_s for row in site.commanded.values()}
    for sent in site.run.wire:
        if (
            sent.what == "sent"
            and sent.facility_id == site.id
            and written.get(sent.command_id, 1e18) > sent.at_s + _NOTHING
        ):
            yield Violation(
                sent.at_s,
                "journal before send",
                site.id,
                f"{sent.sender} sent {sent.command_id} without a row of the journal",
            )


def closed_never_leaves(site: Site) -> Iterator[Violation]:
    """What the journal says was never sent is not sent afterwards."""
    closed = {j.command_id: j.at_s for j in site.journal if j.event == "expired"}
    for sent in site.run.wire:
        is_ours = sent.what == "sent" and sent.facility_id == site.id
        if is_ours and closed.get(sent.command_id, 1e18) < sent.at_s - _NOTHING:
            yield Violation(
                sent.at_s, "closed never leaves", site.id,
                f"{sent.sender} sent {sent.command_id}, which the journal had closed at {closed[sent.command_id]:.2f} s",
            )  # fmt: skip


def ack_after_store(site: Site) -> Iterator[Violation]:
    """What is acknowledged is durable."""
    stored = {e.command_id: e.at_s for e in site.entries if e.kind == "ack"}
    for acked in site.run.wire:
        is_ours = acked.what == "acked" and acked.facility_id == site.id and acked.is_accepted
        if is_ours and stored.get(acked.command_id, 1e18) > acked.at_s + _NOTHING:
            yield Violation(
                acked.at_s,
                "ack after store",
                site.id,
                f"{acked.sender} acknowledged {acked.command_id}, not durable then",
            )


def one_owner(site: Site) -> Iterator[Violation]:
    """In the gateway's own order no lower epoch comes after a higher one, and an epoch is one owner's."""
    highest, owners = 0, dict[int, str]()
    accepted = {order.ref for order in site.orders}
    for entry in site.entries:
        if entry.kind == "epoch":
            if entry.epoch < highest or owners.setdefault(entry.epoch, entry.owner) != entry.owner:
                yield Violation(
                    entry.at_s,
                    "one owner",
                    site.id,
                    f"{entry.owner} announced epoch {entry.epoch}, known was {highest}",
                )
            highest = max(highest, entry.epoch)
        elif entry.kind == "command" and entry.command_id in accepted and entry.epoch != highest:
            yield Violation(
                entry.at_s, "one owner", site.id, f"a command of epoch {entry.epoch} was taken, in force was {highest}"
            )


def within_the_lease(site: Site) -> Iterator[Violation]:
    """An owner writes and sends while its lease stands."""
    ends = {(s.owner, s.epoch): s.until_s for s in site.run.spans if s.what == "lease" and s.facility_id == site.id}
    for row in site.commanded.values():
        if row.at_s > ends.get((row.owner, row.epoch), 0.0):
            yield Violation(
                row.at_s,
                "within the lease",
                site.id,
                f"{row.owner} journalled {row.command_id} after epoch {row.epoch} ended",
            )
    for sent in site.run.wire:
        is_ours = sent.what == "sent" and sent.facility_id == site.id
        if is_ours and sent.at_s > ends.get((sent.sender, sent.epoch), 0.0):
            yield Violation(
                sent.at_s,
                "within the lease",
                site.id,
                f"{sent.sender} sent {sent.command_id} after epoch {sent.epoch} ended",
            )


def no_lost_command(site: Site) -> Iterator[Violation]:
    """What was journalled ends as refused, expired, or settled, failed, superseded; and says what the gateway did."""
    outcomes = {(j.command_id, j.assignment, j.event): j for j in site.journal}
    taken = {(o.ref, o.assignment): o for o in site.orders if o.epoch}
    for key, row in site.commanded.items():
        if row.at_s > site.run.ends_s - DONE_WITHIN_S:
            continue
        acked, settled = outcomes.get((*key, "acked")), outcomes.get((*key, "settled"))
        order = taken.get(key)
        if acked is None and (order is not None or (*key, "expired") not in outcomes):
            has = "the gateway took it" if order else "nobody knows what became of it"
            yield Violation(row.at_s, "no lost command", site.id, f"{key[0]} has no ack in the journal, and {has}")
            continue
        if acked is None:
            continue
        took = len(order.slots) if order else 0
        if took != acked.devices:
            text = f"{key[0]}: acked {acked.devices} devices, the gateway took {took}"
            yield Violation(acked.at_s, "no lost command", site.id, text)
        if not acked.devices:
            continue
        counted = settled.devices + settled.failed + settled.superseded if settled else -1
        if counted != acked.devices:
            what = f"{counted} of {acked.devices} devices have an outcome" if settled else "it never settled"
            yield Violation(row.at_s, "no lost command", site.id, f"{key[0]}: {what}")


def local_actions_are_journalled(site: Site) -> Iterator[Violation]:
    """What a gateway does by itself is in the journal in the end."""
    seen: dict[int, set[int]] = defaultdict(set)
    for row in reversed([j for j in site.journal if j.event == "observed"]):
        seen[row.to_state] |= set(row.slots)
    for order in site.orders:
        late = order.at_s > site.run.ends_s - DONE_WITHIN_S
        if not order.epoch and not late and not set(order.slots) <= seen[order.state]:
            yield Violation(
                order.at_s, "local actions are journalled", site.id, f"entry {order.seq} is not in the journal"
            )


def effective_once_and_in_order(site: Site) -> Iterator[Violation]:
    """A device is told what the gateway took on, never what it did not, and nothing again once it was told something newer."""
    place = {(o.ref, o.assignment): o for o in site.orders}
    newest: dict[int, int] = {}
    for told in (s for s in site.run.sets if s.facility_id == site.id):
        order = place.get((told.ref, told.assignment))
        if order is None or order.at_s > told.at_s + _NOTHING or not set(told.slots) <= set(order.slots):
            yield Violation(
                told.at_s, "effective once", site.id, f"devices were told {told.ref}, which was not taken on"
            )
            continue
        stale = [s for s in told.slots if newest.get(s, 0) > order.seq]
        if stale:
            yield Violation(
                told.at_s,
                "effective once",
                site.id,
                f"{_short(told.ref)} reached slot {stale[0]} again, after something newer",
            )
        newest |= {s: max(order.seq, newest.get(s, 0)) for s in told.slots}


def nothing_is_left_undone(site: Site) -> Iterator[Violation]:
    """In the end each device was told, and draws, what its gateway holds to be its state."""
    told: dict[int, int] = {}
    under_way = {s for o in site.orders if o.at_s > site.run.ends_s - UNDER_WAY_S for s in o.slots}
    for s in (s for s in site.run.sets if s.facility_id == site.id):
        told |= dict.fromkeys(s.slots, s.state)
    for final in (f for f in site.run.finals if f.facility_id == site.id):
        wrong = [
            slot
            for slot in sorted(set(site.group_of) - site.faulty - under_way)
            if {final.drawn[slot], told.get(slot, final.told[slot])} != {final.told[slot]}
        ]
        if wrong:
            slot = wrong[0]
            yield Violation(
                site.run.ends_s, "nothing is left undone", site.id,
                f"slots {wrong}: {slot} is to be in state {final.told[slot]}, and is in {final.drawn[slot]}",
            )  # fmt: skip


def policies_do_not_go_back(site: Site) -> Iterator[Violation]:
    """No policy is taken whose basis is older than that of one before it."""
    newest = 0
    for taken in (a for a in site.run.admissions if a.facility_id == site.id):
        if taken.basis_tick_id < newest:
            yield Violation(
                taken.at_s, "policies do not go back", site.id,
                f"{taken.process} took policy {taken.policy_id} of tick {taken.basis_tick_id} after one of tick {newest}",
            )  # fmt: skip
        newest = max(newest, taken.basis_tick_id)


def _short(ref: str) -> str:
    number = UUID(ref).int
    return f"entry {number}" if number < MADE_UP_BELOW else ref


CHECKS: tuple[Check, ...] = (
    journal_before_send, closed_never_leaves, ack_after_store, one_owner, within_the_lease, no_lost_command,
    local_actions_are_journalled, effective_once_and_in_order, nothing_is_left_undone, policies_do_not_go_back,
    *DEVICES_CHECKS, *LOAD_CHECKS, *SAFETY_CHECKS, works_for_somebody,
)  # fmt: skip
