"""What decoded JSON may stand for: a number is no text and no truth, an instant no number. Pydantic by itself takes them for it.

For validators that run before a field's own (`mode="before"`); what is of another type altogether is that one's to refuse.
"""

import re
from typing import Final

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")


def number_given(value: object) -> object:
    """The value, unless it is one that only reads as a number.

    Raises:
        ValueError: it is a text or a truth.
    """
    if isinstance(value, bool | str):
        raise ValueError("a number is wanted, neither a text nor true or false")
    return value


def instant_given(value: object) -> object:
    """The value, unless it is a number of seconds, as which or as text of which pydantic reads an instant.

    Raises:
        ValueError: it is a number, or a text that does not begin with a date.
    """
    if isinstance(value, bool | int | float) or (isinstance(value, str) and not _DATE.match(value)):
        raise ValueError("an instant is written as in RFC 3339, like 2026-01-05T12:00:00Z")
    return value
