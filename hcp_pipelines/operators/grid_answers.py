"""What demand response servers asked, and how the feed answered: the newest word of each event. Reading only."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg

_LIST = """
    select * from (
        select distinct on (source, payload ->> 'event_id')
               id, source, payload ->> 'event_id', (payload ->> 'modification')::bigint, payload ->> 'programme',
               payload ->> 'means', payload ->> 'opt' = 'optIn', payload ->> 'reason', payload -> 'obligations',
               effective_at, ends_at
        from grid_signals where kind = 'event' order by source, payload ->> 'event_id', id desc) newest
    order by id desc limit %s"""


@dataclass(frozen=True, slots=True)
class Answered:
    """One event; instants are simulated."""

    source: str
    event_id: str
    modification: int
    programme: str
    means: str
    is_in: bool
    reason: str
    obligations: list[int]
    starts_at: datetime
    ends_at: datetime | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def list_events(connection: psycopg.Connection[Any], limit: int = 50) -> list[Answered]:
    """The newest events, newest first."""
    return [Answered(*row[1:]) for row in connection.execute(_LIST, (limit,)).fetchall()]
