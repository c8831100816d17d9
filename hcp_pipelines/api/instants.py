"""Instants and windows of time in requests: aware, UTC, half-open."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime

from hcp_pipelines.api.problems import ProblemError

LONGEST = timedelta(days=400)
Instant = Annotated[
    AwareDatetime | None, Query(description="World time, with its offset.", examples=["2026-01-05T12:00:00Z"])
]


def window(
    now: datetime, start: datetime | None, end: datetime | None, by_default: timedelta
) -> tuple[datetime, datetime]:
    """The window [start, end) that is meant: up to now, and so long, where one is left out.

    Raises:
        ProblemError: it is empty or too long.
    """
    try:
        until = (end or now).astimezone(UTC)
        since = (start or until - by_default).astimezone(UTC)
    except OverflowError:
        raise ProblemError(400, "query.start, query.end: outside the years 1 to 9999") from None
    if not since < until:
        raise ProblemError(400, f"query.start {since.isoformat()} is not before query.end {until.isoformat()}")
    if until - since > LONGEST:
        raise ProblemError(400, f"a window has at most {LONGEST.days} days; ask for several")
    return since, until
