"""Draws a report of a day and writes it to `.hcp/reports/KIND/DAY.html`, in the place of that day's last one."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.optimizer.pages import document
from hcp_pipelines.orchestration.lake_state import has_tables
from hcp_pipelines.orchestration.reports import daily, fleet, market
from hcp_pipelines.orchestration.reports.drawn import Ask, Drawn
from hcp_pipelines.runtime.files import put_whole
from hcp_pipelines.settings import Settings

KEPT = 90  # newest days of a kind: a file is 5 MB


class Kind(StrEnum):
    """Which reports there are."""

    DAILY = "daily"
    MARKET = "market"
    FLEET = "fleet"


DRAWN: dict[Kind, tuple[str, Callable[[Ask, date], Drawn]]] = {
    Kind.DAILY: (daily.NEWEST, daily.draw),
    Kind.MARKET: (market.NEWEST, market.draw),
    Kind.FLEET: (fleet.NEWEST, fleet.draw),
}
NEEDED = ("marts.fct_facility_days", "marts.fct_prices", "marts.fct_utilisation", "marts.fct_device_hashrate")


@dataclass(frozen=True)
class Report:
    """A report that was written."""

    kind: Kind
    day: date
    path: Path
    drawn: Drawn


def make_report(settings: Settings, kind: Kind, day: date | None = None) -> Report:
    """Draw and write the report of a day; without one, of the newest that there is anything of.

    Raises:
        StorageError: the marts are not built yet, there is nothing of the day, or the lake can't be reached.
    """
    from hcp_pipelines.storage import lake
    from hcp_pipelines.storage.roles import Role

    if not has_tables(settings, NEEDED):
        raise StorageError(
            "the marts are not built yet: first_marts_sensor does it soon, or launch marts_job in Dagster"
        )
    newest, draw = DRAWN[kind]
    with lake.attach(settings, Role.LAKE_READER, read_only=True) as connection:
        of = day or next(iter(connection.execute(newest).fetchone() or ()), None)
        if of is None:
            raise StorageError(f"there is nothing to report for {kind} yet: the marts are empty")
        drawn = draw(lambda sql, parameters: connection.execute(sql, list(parameters)).pl(), of)
    if not drawn.rows:
        raise StorageError(f"there is nothing of {of} to report for {kind}: give another --date")
    return Report(kind, of, _write(settings, kind, of, drawn), drawn)


def _write(settings: Settings, kind: Kind, day: date, drawn: Drawn) -> Path:
    folder = settings.at("reports", kind.value)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{day}.html"
    put_whole(path, document(drawn.title, drawn.notes, (drawn.headings(), drawn.rows), drawn.sections))
    for old in sorted(folder.glob("*.html"))[:-KEPT]:
        old.unlink()
    return path
