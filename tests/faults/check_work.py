"""The checker's part about desired work: in groups where work is scheduled nothing works for nobody."""

from collections.abc import Iterator

from tests.faults.evidence import Site, Violation
from tests.faults.records import Span

RUN_OUT_KNOWN_S = 6.0  # real: from the end of a lease to the last command that was planned before it
WITHDRAWN_KNOWN_S = 45.0  # real: a notification may be lost, and the next reading fail a few times
OTHERS = frozenset({"operator_override"})


def works_for_somebody(site: Site) -> Iterator[Violation]:
    """No slot is told to work, nor left at work, that no row desires; operators may switch on what they like."""
    scheduled = {s for g in site.facility.groups if g.is_scheduled for s in g.slots}
    if not scheduled:
        return
    desired = [s for s in site.run.spans if s.what == "desired" and s.facility_id == site.id]
    for row in site.commanded.values():
        own = [s for s in row.slots if s in scheduled and not site.is_lowest(s, row.to_state)]
        wanted = {s for span in desired if _may_be_known(span, row.at_s) for s in span.slots}
        if own and row.reason not in OTHERS and not set(own) <= wanted:
            slot = min(set(own) - wanted)
            text = f"{row.command_id} tells slot {slot} to work ({row.reason}), which no row desires"
            yield Violation(row.at_s, "work for somebody", site.id, text)
    wanted = {s for span in desired if _may_be_known(span, site.run.ends_s) for s in span.slots}
    for final in (f for f in site.run.finals if f.facility_id == site.id):
        # a device that disobeyed is as its owner has seen it, whatever it was told last
        busy = [s for s in sorted(scheduled - wanted - site.faulty) if not site.is_lowest(s, final.told[s])]
        if busy:
            text = f"slots {busy} work, and no row desires them"
            yield Violation(site.run.ends_s, "work for somebody", site.id, text)


def _may_be_known(span: Span, at_s: float) -> bool:
    """Whether an owner may take a row for one in force."""
    late_s = WITHDRAWN_KNOWN_S if span.owner == "withdrawn" else RUN_OUT_KNOWN_S
    return span.from_s <= at_s <= span.until_s + late_s
