"""Which days of which assets to ask for, a request a source: what `hcp backfill` and the gap sensor have in common. Pure.

Assets of one source go together, since they are fetched one after the other; what is joined of several goes last.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.spelling import nearest
from hcp_pipelines.orchestration.history import tables
from hcp_pipelines.orchestration.history.joined import MADE
from hcp_pipelines.orchestration.history.tables import HistoryTable, key_of

DAY = timedelta(days=1)
JOINED = "joined"
FIRST_DAY = "2024-01-01"  # of the partitions
MOST_DAYS = 1000  # of one request


@dataclass(frozen=True)
class Order:
    """Days of assets of one source, by name and oldest first."""

    source: str
    assets: tuple[str, ...]
    days: tuple[str, ...]


def assets_by_source(more: Sequence[HistoryTable] = ()) -> dict[str, tuple[str, ...]]:
    """All assets that can be asked for, the joined ones behind their sources; `more`: services that this platform has, too."""
    found: dict[str, tuple[str, ...]] = {}
    for table in tables.ALL:
        found[table.source] = (*found.get(table.source, ()), key_of(table.name))
    found[JOINED] = tuple(key_of(name) for name in MADE)
    for table in more:
        found[table.source] = (*found.get(table.source, ()), key_of(table.name))
    return found


def orders(assets: Collection[str], start: datetime, end: datetime, now: datetime) -> tuple[list[Order], list[str]]:
    """What to ask for to have the days [start, end) of some assets, and what is left out and why.

    Raises:
        ConfigError: an asset that there is not, or no day.
    """
    sources = assets_by_source(tables.OPTIONAL)
    _refuse_unknown(assets, [name for names in sources.values() for name in names])
    days, notes = _days(start, end, now), list[str]()
    found = []
    for source, names in sources.items():
        wanted = tuple(name for name in names if name in assets)
        kept = days if source == JOINED else [day for day in days if _is_kept(source, day, now)]
        if wanted and len(kept) < len(days):
            notes.append(
                f"{source} no longer keeps {len(days) - len(kept)} of these days, until {days[len(days) - len(kept) - 1]}"
            )
        if wanted and kept:
            found.append(Order(source, wanted, tuple(kept)))
    return found, notes


def gaps(
    there: Mapping[str, Collection[str]],
    since: datetime,
    now: datetime,
    most_days: int,
    more: Sequence[HistoryTable] = (),
) -> list[Order]:
    """What to ask for so that no asset (by name: the days there are) lacks a day that is over, of the last `most_days`.

    A source's days go from the first one that any of its assets lacks to the last; joined assets are asked for once no source
    lacks any. Optional services (`more`) hold nobody up.
    """
    first = max(midnight(since), midnight(now) - most_days * DAY, datetime.fromisoformat(f"{FIRST_DAY}T00:00+00:00"))
    days = _each(first, midnight(now))
    found = list[Order]()
    for source, names in assets_by_source(more).items():
        kept = [day for day in days if source == JOINED or _is_kept(source, day, now)]
        lacking = [day for day in kept if any(day not in there.get(name, ()) for name in names)]
        if lacking and not (source == JOINED and found):
            found.append(Order(source, names, tuple(day for day in kept if lacking[0] <= day <= lacking[-1])))
    return found


def _refuse_unknown(assets: Collection[str], known: Sequence[str]) -> None:
    for name in assets:
        if name not in known:
            near = nearest(name, known)
            hint = f" Did you mean {near}?" if near else f" There are {', '.join(known)}."
            raise ConfigError(f"{name!r} is no asset that can be backfilled.{hint}")


def _days(start: datetime, end: datetime, now: datetime) -> list[str]:
    tomorrow = midnight(now) + DAY
    if midnight(start) != start or midnight(end) != end:
        raise ConfigError(
            f"from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}: days begin at midnight UTC, give bare dates"
        )
    if f"{start:%Y-%m-%d}" < FIRST_DAY:
        raise ConfigError(f"from {start:%Y-%m-%d}: the first day there can be is {FIRST_DAY}")
    if end > tomorrow:
        raise ConfigError(
            f"to {end:%Y-%m-%d}: it is {now:%Y-%m-%d %H:%M}Z in this world, the last day that has begun ends on "
            f"{tomorrow:%Y-%m-%d}"
        )
    if start >= end or (end - start) > MOST_DAYS * DAY:
        raise ConfigError(
            f"from {start:%Y-%m-%d} to {end:%Y-%m-%d} are {(end - start).days} days: 1 to {MOST_DAYS} can be asked for"
        )
    return _each(start, end)


def _each(start: datetime, end: datetime) -> list[str]:
    return [f"{start + n * DAY:%Y-%m-%d}" for n in range(max(0, (end - start).days))]


def _is_kept(source: str, day: str, now: datetime) -> bool:
    """Whether a source will still tell of a day when it is asked: up to a day of the world may pass until then."""
    limits = [table.keeps for table in tables.ALL if table.source == source and table.keeps is not None]
    return all(datetime.fromisoformat(f"{day}T00:00+00:00") >= now - keeps + DAY for keeps in limits)


def midnight(at: datetime) -> datetime:
    """The beginning of an instant's UTC day."""
    return at.replace(hour=0, minute=0, second=0, microsecond=0)
