"""When a forecast is learnt anew: a week after the last time, or as what is asked, or how well it is answered, has changed.

What was never learnt is a person's to begin (`hcp train`): a platform that nobody teaches spends nothing on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import class_row

from hcp_pipelines.orchestration.training.looks import shadowed

EVERY = timedelta(days=7)  # of the world
BETWEEN = timedelta(days=2)  # two trainings, whether or not the first made a version
DRIFTED = 0.25  # population stability: above, a shift is called large
WORSE = 1.5  # a champion's recent loss over that of its trial
_NEWEST = """
    select name, max(created_at) as made_at, max(created_at) filter (where status = 'challenger') as challenger_at,
      coalesce(max((metadata -> 'comparison' ->> 'ahead_days')::int) filter (where status = 'challenger'), 1) as ahead_days
    from models where name = any(%s) group by name"""

Word = Mapping[str, Any]  # of a name: `error_ratio`, `drift`, `feature`, as the scores tell


@dataclass(frozen=True)
class Newest:
    """When a name's newest version was made, and when its challenger, which looks so many days ahead."""

    name: str
    made_at: datetime
    challenger_at: datetime | None
    ahead_days: int


def newest(connection: "psycopg.Connection[Any]", names: Sequence[str]) -> dict[str, Newest]:
    """By name; what was never learnt has none."""
    with connection.cursor(row_factory=class_row(Newest)) as cursor:
        return {row.name: row for row in cursor.execute(_NEWEST, (list(names),)).fetchall()}


def week_passed(
    connection: "psycopg.Connection[Any]", name: str, now: datetime, attempted_at: datetime | None = None
) -> str:
    """Why a name is to be learnt anew by the calendar; empty where it is not. `attempted_at`: whatever came of it."""
    found = newest(connection, [name]).get(name)
    if found is None or not may_ask(found, attempted_at, now):
        return ""
    return "a week has passed" if now - found.made_at >= EVERY else ""


def drifted(word: Word) -> str:
    """Why a champion's questions are not those that it learnt from; empty where they are."""
    drift = word.get("drift")
    most = max(DRIFTED, word.get("usual") or 0.0)
    if drift is None or drift <= most:
        return ""
    return f"{word.get('feature')} has drifted: stability {drift:.2f}, above {most:.3g}"


def erring(word: Word) -> str:
    """Why a champion's recent forecasts are bad; empty where they are not."""
    ratio = word.get("error_ratio")
    if ratio is None or ratio <= WORSE:
        return ""
    return f"it errs {ratio:.2f} times as much as in its trial, above {WORSE:g}"


def may_ask(found: Newest, attempted_at: datetime | None, now: datetime) -> bool:
    """Whether the last training is long enough ago for another one, and no challenger is still to be looked at."""
    if found.challenger_at is not None and now - found.challenger_at < shadowed(found.ahead_days):
        return False
    return now - max(found.made_at, attempted_at or found.made_at) >= BETWEEN
