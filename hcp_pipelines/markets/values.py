"""Reading single values out of market replies: numbers, flags and stamps as the services really write them.

No HTTP and no market's shapes.
"""

import math
from datetime import datetime
from typing import Any

from hcp_pipelines.domain.errors import MarketError


def number(raw: Any) -> float:
    """The value as a float; what is no number is NaN, so that it is recorded as absurd rather than lost.

    >>> number("45.12"), number(None)
    (45.12, nan)
    """
    if raw is None or isinstance(raw, bool):
        return math.nan
    try:
        return float(raw)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def integer(where: str, raw: Any) -> int:
    """The whole number, 1 of 1, "1" or 1.0.

    Raises:
        MarketError: it isn't one.
    """
    value = number(raw)
    if not value.is_integer():
        raise MarketError(f"{where}: {raw!r} is not a whole number.")
    return int(value)


def is_set(raw: Any) -> bool:
    """Whether a flag is set: `true` in JSON replies, `Y` in CSV files, now and then the text "true"."""
    return raw is True or (isinstance(raw, str) and raw.strip().lower() in ("true", "y", "yes", "1"))


def instant_or_error(where: str, raw: Any) -> datetime:
    """The date-time that an ISO text names, naive where it has no offset.

    Raises:
        MarketError: it isn't one.
    """
    try:
        return datetime.fromisoformat(str(raw))
    except ValueError as error:
        raise MarketError(f"{where}: {raw!r} is not an ISO date or time.") from error
