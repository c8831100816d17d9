"""Universes by the number: play, judge, and shrink the schedule of one that went wrong until nothing can be left out."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.checker import check
from tests.faults.desires import make_desires
from tests.faults.evidence import Violation
from tests.faults.records import Run
from tests.faults.schedule import Happening, make_schedule
from tests.faults.universe import CALM_S, Universe, names_of

LASTS_S = 300.0  # of faults; a calm follows
TRIES_MAX = 400
TIMELINE_LINES = 60
TIMELINE_S = 25.0


@dataclass
class Outcome:
    """What became of one universe."""

    seed: str
    steps: int
    schedule: list[Happening]
    violations: list[Violation]
    run: Run = field(repr=False)
    is_scheduled: bool = False

    @property
    def digest(self) -> str:
        """Of all that was seen: equal for equal seeds, on any day, in any process."""
        return hashlib.sha256("\n".join([*self.run.lines(), str(self.steps)]).encode()).hexdigest()


def play(
    seed: str,
    lasts_s: float = LASTS_S,
    schedule: list[Happening] | None = None,
    calm_s: float = CALM_S,
    *,
    is_scheduled: bool = False,
) -> Outcome:
    """One universe, judged. A defect (an exception that nobody meant) is a violation as well.

    `is_scheduled`: its GPUs work for desired rows alone.
    """
    universe = Universe(seed, lasts_s, calm_s, is_scheduled=is_scheduled)
    happenings = make_schedule(seed, names_of(seed), lasts_s) if schedule is None else schedule
    if schedule is None and is_scheduled:
        happenings = sorted([*happenings, *make_desires(seed, names_of(seed), lasts_s)], key=lambda h: h.at_s)
    run = universe.play(happenings)
    defects = [Violation(run.ends_s, "no defect", "platform", text) for text in universe.defects]
    return Outcome(seed, universe.loop.steps, happenings, [*check(run), *defects], run, is_scheduled)


def shrink(
    found: Outcome, lasts_s: float = LASTS_S, calm_s: float = CALM_S, say: Callable[[str], None] = lambda _: None
) -> Outcome:
    """The same violation with as few happenings as delta debugging comes down to."""
    wanted = {v.invariant for v in found.violations[:1]}
    best, parts, tries = found, 2, 0
    while best.schedule and tries < TRIES_MAX:
        size = max(len(best.schedule) // parts, 1)
        smaller: Outcome | None = None
        for begin in range(0, len(best.schedule), size):
            tries += 1
            left = best.schedule[:begin] + best.schedule[begin + size :]
            tried = play(found.seed, lasts_s, left, calm_s, is_scheduled=found.is_scheduled)
            if wanted & {v.invariant for v in tried.violations}:
                smaller = tried
                break
        if smaller is not None:
            best, parts = smaller, max(parts - 1, 2)
            say(f"{len(best.schedule)} happenings left")
        elif size == 1:
            break
        else:
            parts = min(parts * 2, len(best.schedule))
    return best


def report(found: Outcome, lasts_s: float) -> str:
    """For a person: the seed, what was violated, what happened, and what was seen around it."""
    first = next(iter(found.violations))
    lines = [
        f"seed {found.seed}, {lasts_s:.0f} s of faults, {found.steps} steps: {len(found.violations)} violations",
        *(f"  {v}" for v in found.violations[:5]),
        f"what happened ({len(found.schedule)}):",
        *(f"  {h}" for h in found.schedule),
        "what was seen:",
        *timeline(found.run, first),
    ]
    return "\n".join(lines)


def timeline(run: Run, first: Violation) -> list[str]:
    """Rows of journal, gateway log, wire and devices of the facility before a violation."""
    f, seen = first.facility_id, list[tuple[float, str]]()
    for j in run.journal:
        detail = f"{j.group_id} {j.from_state}→{j.to_state} {j.devices} devices {j.mw_delta * 1000:+.1f} kW"
        seen += [(j.at_s, f"journal   {j.event} {j.owner}/{j.epoch} {j.command_id[:8]} {detail} {j.reason}")] * (
            j.facility_id == f
        )
    for e in run.entries:
        detail = f"{e.owner} {e.command_id[:8]} epoch {e.epoch} state {e.state} slots {len(e.slots)} {e.reason}"
        seen += [(e.at_s, f"gateway   {e.seq} {e.kind} {detail}")] * (e.facility_id == f)
    seen += [(w.at_s, f"wire      {w.what} {w.command_id[:8]} by {w.sender}") for w in run.wire if w.facility_id == f]
    seen += [(s.at_s, f"devices   told {s.state} by {s.ref[:8]}: {s.slots}") for s in run.sets if s.facility_id == f]
    seen += [(c.at_s, f"devices   draw {c.state}: {c.slots}") for c in run.changes if c.facility_id == f]
    near = sorted((at_s, text) for at_s, text in seen if first.at_s - TIMELINE_S <= at_s <= first.at_s + 1)
    return [f"  {at_s:9.3f} s  {text}" for at_s, text in near[-TIMELINE_LINES:]]
