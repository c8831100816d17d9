"""When a forecast is learnt anew: a week after the last time, or as what is asked, or how well it is answered, has changed.

What was never learnt is a person's to begin (`hcp train`): a platform that nobody teaches spends nothing on it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg

EVERY = timedelta(days=7)  # of the world
SHADOWED = timedelta(
    days=21
)  # a challenger has so long to be measured beside the champion before another takes its place
BETWEEN = timedelta(days=2)  # two trainings, whether or not the first made a version
DRIFTED = 0.25  # population stability: above, a shift is called large
WORSE = 1.5  # a champion's recent loss over that of its trial
_NEWEST = """
    select name, max(created_at), max(created_at) filter (where status = 'challenger'), bool_or(status = 'champion')
    from models where name = any(%s) group by name"""

Word = Mapping[str, Any]  # of a name: `error_ratio`, `drift`, `feature`, as the scores tell


def newest(
    connection: "psycopg.Connection[Any]", names: Sequence[str]
) -> dict[str, tuple[datetime, datetime | None, bool]]:
    """By name: when the newest version was made, when its challenger, and whether any version serves."""
    return {row[0]: (row[1], row[2], bool(row[3])) for row in connection.execute(_NEWEST, (list(names),)).fetchall()}


def week_passed(
    connection: "psycopg.Connection[Any]", name: str, now: datetime, attempted_at: datetime | None = None
) -> str:
    """Why a name is to be learnt anew by the calendar; empty where it is not. `attempted_at`: whatever came of it."""
    found = newest(connection, [name]).get(name)
    if found is None or not may_ask(*found[:2], attempted_at, now):
        return ""
    return "a week has passed" if now - found[0] >= EVERY else ""


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


def may_ask(made_at: datetime, challenger_at: datetime | None, attempted_at: datetime | None, now: datetime) -> bool:
    """Whether the last training is long enough ago for another one, and no challenger is in its trial."""
    if challenger_at is not None and now - challenger_at < SHADOWED:
        return False
    return now - max(made_at, attempted_at or made_at) >= BETWEEN
