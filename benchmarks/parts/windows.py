"""Whether load changes stayed inside the ramp limits, whoever ordered them: sums over every rolling window of each scope.

Judged by what the journal says was commanded and observed, against the facility files; shares no code with those who plan.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hcp_pipelines.fleet.document import FacilityFile, Ramp
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

TOLERANCE_MW = 1e-6
_CHANGES = """
    select extract(epoch from simulated_at)::float8, facility_id, feeder_id, owner, mw_delta from switch_journal
    where event in ('commanded', 'observed') and mw_delta <> 0 order by simulated_at, id"""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of load: signed MW on a facility's feeder at a simulated Unix instant, by an owner."""

    at_s: float
    facility_id: str
    feeder_id: str
    owner: str
    mw: float


@dataclass(frozen=True, slots=True)
class Scope:
    """A ramp limit and where it holds; an empty name is everything."""

    facility_id: str
    feeder_id: str
    ramp: Ramp

    def covers(self, change: Change) -> bool:
        """Whether a change uses this limit."""
        return self.facility_id in ("", change.facility_id) and self.feeder_id in ("", change.feeder_id)

    def __str__(self) -> str:
        """`hou-1/feeder-s21`, `hou-1`, `portfolio`."""
        return "/".join(part for part in (self.facility_id or "portfolio", self.feeder_id) if part)


@dataclass
class Windows:
    """What was found: windows looked at; those that hold changes of two owners; the most of a limit that one used; breaches."""

    looked_at: int = 0
    shared: int = 0
    most_fraction: float = 0.0
    violations: list[str] = field(default_factory=list)


def scopes_of(documents: Iterable[FacilityFile]) -> list[Scope]:
    """Every limit of some facility files: feeders', facilities', and the smallest of their portfolio's."""
    files = list(documents)
    feeders = [Scope(d.facility_id, f.feeder_id, f.ramp) for d in files for f in d.feeders]
    facilities = [Scope(d.facility_id, "", d.ramps.facility) for d in files]
    ramps = [d.ramps.portfolio for d in files]
    least = Ramp(
        up_mw=min(r.up_mw for r in ramps),
        down_mw=min(r.down_mw for r in ramps),
        window_s=max(r.window_s for r in ramps),
    )
    return [*feeders, *facilities, Scope("", "", least)]


def read_changes(settings: Settings) -> list[Change]:
    """What the journal has, in order of time."""
    with connect(settings, Role.OPERATOR) as connection:
        return [Change(*row) for row in connection.execute(_CHANGES).fetchall()]


def check_windows(changes: Sequence[Change], scopes: Iterable[Scope]) -> Windows:
    """All windows (t − window, t] that end with a change, up and down apart."""
    found = Windows()
    for scope in scopes:
        own = [c for c in changes if scope.covers(c)]
        _check(scope, [c for c in own if c.mw > 0], scope.ramp.up_mw, "up", found)
        _check(scope, [c for c in own if c.mw < 0], scope.ramp.down_mw, "down", found)
    return found


def _check(scope: Scope, changes: Sequence[Change], limit_mw: float, way: str, found: Windows) -> None:
    """One scope, one direction; `changes` in order of time."""
    first, used_mw = 0, 0.0
    for n, last in enumerate(changes):
        used_mw += abs(last.mw)
        while changes[first].at_s <= last.at_s - scope.ramp.window_s:
            used_mw -= abs(changes[first].mw)
            first += 1
        found.looked_at += 1
        found.shared += any(c.owner != last.owner for c in changes[first:n] if c.facility_id == last.facility_id)
        found.most_fraction = max(found.most_fraction, used_mw / limit_mw)
        if used_mw > limit_mw + TOLERANCE_MW:
            text = f"{used_mw:.6f} MW {way} in {scope.ramp.window_s:g} s, {limit_mw:g} may"
            found.violations.append(f"{scope}: {text} (at {last.at_s:.3f}, by {last.owner})")
